"""`dpaudit verify` on models that a stranger's script trained: every exit code, every refusal, adapters,
models and servers.
"""

import json
import math
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from regenerate_docs import ROOT
from test_plant import planted, resealed, sharegpt, written
from typer.testing import CliRunner, Result

from dpaudit.cli import app
from dpaudit.errors import PartialError, UsageError
from dpaudit.evidence import claims, detection
from dpaudit.findings.baselines import Blind
from dpaudit.findings.verification import Detection
from dpaudit.planting import audit_key, plant
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.stages import asking, declared, verify, verify_facts
from dpaudit.stages.attack import scores
from dpaudit.storage import run_store, whole_files
from dpaudit.storage.rundir import RunDir
from dpaudit.suite import declarations
from dpaudit.suite.suite import Declared
from dpaudit.system.progress import Progress

CLAIM = "eps=0.5,delta=1e-5,unit=record,relation=add_or_remove"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, toy_model_dir: Path) -> Path:
    """A folder with planted data, its key, and `adapter/`, which a script that knows of no audit trained for
    40 epochs.
    """
    folder = tmp_path_factory.mktemp("stranger")
    source = written(folder / "train.jsonl", [sharegpt(i) for i in range(12)])
    plant.plant(source, folder / "planted.jsonl", folder / "key.json", 100)
    trained(folder, toy_model_dir, folder / "adapter")
    return folder


def trained(folder: Path, model: Path, adapter: Path, *more: str) -> None:
    data, script = folder / "planted.jsonl", ROOT / "benchmarks" / "stranger.py"
    words = ["--model", str(model), "--data", str(data), "--out", str(adapter), *more]
    words += ["--epochs", "40", "--learning-rate", "1e-2", "--batch", "8"]
    subprocess.run([sys.executable, str(script), *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def merged(world: Path, toy_model_dir: Path) -> Path:
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
    peft.PeftModel.from_pretrained(base, world / "adapter").merge_and_unload().save_pretrained(
        world / "merged"
    )
    transformers.AutoTokenizer.from_pretrained(toy_model_dir).save_pretrained(world / "merged")
    return world / "merged"


def check(*words: object) -> Result:
    return CliRunner().invoke(app, ["verify", *map(str, words)])


def test_the_stranger_knows_nothing_of_us() -> None:
    text = (ROOT / "benchmarks" / "stranger.py").read_text()
    assert not re.search(r"^\s*(import|from)\s+dpaudit", text, re.MULTILINE)


# ---- exit codes


def test_a_false_claim_is_refuted(world: Path, tmp_path: Path) -> None:
    done = check(
        "--adapter",
        world / "adapter",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--data",
        world / "planted.jsonl",
        "--out",
        tmp_path,
        "--json",
    )
    assert done.exit_code == 1, done.output
    found = json.loads((tmp_path / "verification.json").read_text())
    assert found["verdict"]["verdict"] == "refuted"
    assert 0.5 < found["bound"]["epsilon_lower"] <= found["bound"]["ceiling"]
    assert found["rule"]["recipe"] == "calibrated" and found["bound"]["guesses"] == 50
    assert {row["recipe"] for row in found["recipes"]} == {
        "difference",
        "loss",
        "min_k",
        "min_k_pp",
        "window_comparison",
        "zlib",
    }
    page = (tmp_path / "index.html").read_text()
    for words in (
        "presumes a trainer who did not filter canaries out",
        "“refuted” presumes nothing",
        "Ceiling",
        "(eps,delta)",
        "f-DP/Gaussian family",
        "95 %",
        "Blind baseline",
        "Visibility: a text classifier",
    ):
        assert words in page
    assert "default-src 'none'" in page and not re.search(r"(src|href)=.https?:", page)


def asked(folder: Path, adapter: Path) -> tuple[audit_key.AuditKey, list[verify.Answers]]:
    key = audit_key.load(folder / "key.json")
    return key, asking.ask(verify.Audited(adapter=adapter), key, Progress(quiet=True)).answers


@pytest.mark.parametrize(("form", "learned"), [([], "chat"), (["--plain"], "plain")])
def test_the_rendering_that_was_trained_is_found_without_a_coin(
    form: list[str], learned: str, world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    if form:
        trained(world, toy_model_dir, tmp_path / "adapter", *form)
    adapter = tmp_path / "adapter" if form else world / "adapter"
    key, answers = asked(world, adapter)
    found = verify.judged(key, claims.parse(CLAIM), answers)
    assert set(found.scores) == set(plant.RENDERINGS)
    assert found.chosen.rendering == learned and found.verdict.verdict == "refuted"
    flipped = replace(key, coins=tuple(not coin for coin in key.coins))
    assert verify.judged(flipped, claims.parse(CLAIM), answers).chosen.rendering == learned


def test_a_key_with_the_difference_keeps_its_rule(world: Path) -> None:
    """Of a recipe that fits no line the rendering with the highest mean counts."""
    key, answers = asked(world, world / "adapter")
    whole = replace(key, rule=replace(key.rule, primary=recipe.load("difference")))
    found = verify.judged(whole, claims.parse(CLAIM), answers)
    rose = {
        a.rendering: np.mean([np.mean(x.logprob - y.logprob) for x, y in zip(a.audited, a.base, strict=True)])
        for a in answers
        if a.base is not None
    }
    assert {name: of.trace for name, of in found.scores.items()} == pytest.approx(rose, abs=1e-5)
    assert all(of.slope is None for of in found.scores.values())
    assert found.chosen.rendering == max(rose, key=rose.__getitem__)


def test_the_slope_of_the_base_is_told(world: Path, tmp_path: Path) -> None:
    check("--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM, "--out", tmp_path)
    found = json.loads((tmp_path / "verification.json").read_text())["rule"]
    assert 0 <= found["slope"]["used"] <= 1
    assert found["slope"]["used"] == min(max(found["slope"]["fitted"], 0), 1)
    assert max(found["renderings"], key=found["renderings"].__getitem__) == found["rendering"]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'data-key="/rule/slope/used"' in page and "left the clearest trace" in page


def test_nothing_that_is_written_holds_a_secret(world: Path, tmp_path: Path) -> None:
    check("--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM, "--out", tmp_path)
    key = audit_key.load(world / "key.json")
    for file in (tmp_path / "verification.json", tmp_path / "index.html"):
        text = file.read_text()
        assert len(text) > 2000
        for canary in key.canaries:
            assert canary.secret not in text and canary.record.turns[0].text not in text
        assert key.hash_key not in text and 'coins":' not in text


def test_a_model_that_saw_no_canary_is_not_refuted_and_its_power_is_unknown(
    world: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    done = check(
        "--adapter",
        toy_adapter_dir,
        "--key",
        world / "key.json",
        "--claim",
        CLAIM.replace("0.5", "2"),
        "--out",
        tmp_path,
    )
    assert done.exit_code == 4, done.output
    words = " ".join(done.output.split())
    assert verify.UNKNOWN in words and "who did not filter" in words
    assert (
        "that the key is of the training data: --data FILE compares them" in words
    )  # a wrong key looks so too


def test_a_control_is_trained_on_the_planted_file_and_found_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few steps it has learned nothing: power stays away, and the same words train no second one. How
    long it takes is told before, within a factor of three.
    """
    told: list[tuple[float, str]] = []
    monkeypatch.setattr(Progress, "say", lambda _, line: told.append((time.perf_counter(), line)))
    words = ["--adapter", world / "adapter", "--key", world / "key.json", "--data", world / "planted.jsonl"]
    words += ["--claim", CLAIM, "--out", tmp_path, "--train-control", "--control-steps", 20]
    done = check(*words)
    (began, line), *after = told[
        next(i for i, (_, line) in enumerate(told) if "training a control" in line) :
    ]
    expected = float(re.search(r"20 steps of 8 rows, about (\d+) seconds", line)[1])  # type: ignore[index]
    took = next(at for at, line in after if line.startswith("verify")) - began
    assert took / 3 - 1 < expected < 3 * took + 1
    told.clear()
    assert done.exit_code == 1, done.output  # the audited adapter gives its canaries away all the same
    found = json.loads((tmp_path / "verification.json").read_text())["control"]
    assert found["steps"] == 20 and found["rows"] > 0 and found["gain_audited"] > found["gain"]
    settings = json.loads((tmp_path / "control/adapter_config.json").read_text())
    own = json.loads((world / "adapter/adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (own["r"], own["lora_alpha"])
    check(*words)
    assert not any("training a control" in line for _, line in told)
    other = check(*words[:-1], 4)
    assert isinstance(other.exception, UsageError) and "got another control" in str(other.exception)


def test_a_claim_above_the_ceiling_is_no_power(world: Path, tmp_path: Path) -> None:
    done = check(
        "--adapter",
        world / "adapter",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM.replace("0.5", "8"),
        "--out",
        tmp_path,
    )
    assert done.exit_code == 4, done.output
    assert "No number of right guesses" in (tmp_path / "index.html").read_text()


def test_ties_everywhere_are_no_power(world: Path, toy_model_dir: Path, tmp_path: Path) -> None:
    done = check(
        "--model",
        toy_model_dir,
        "--base",
        toy_model_dir,
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--out",
        tmp_path,
    )
    assert done.exit_code == 4, done.output
    assert "no trace" in done.output


def test_a_merged_model_says_what_its_adapter_says(
    world: Path, merged: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    done = check(
        "--model",
        merged,
        "--base",
        toy_model_dir,
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--out",
        tmp_path / "m",
    )
    assert done.exit_code == 1, done.output
    check(
        "--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM, "--out", tmp_path / "a"
    )
    one, other = (json.loads((tmp_path / name / "verification.json").read_text())["bound"] for name in "ma")
    assert abs(one["correct"] - other["correct"]) <= 1


# ---- refusals, one line each


def refused(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dpaudit", "verify", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("dpaudit:")]
    assert len(told) == 1 and "Traceback" not in done.stderr
    return told[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("delta=1e-5,unit=record,relation=add_or_remove", "eps"),
        ("eps=3,unit=record,relation=add_or_remove", "delta"),
        ("eps=3,delta=1e-5,relation=add_or_remove", "unit"),
        ("eps=3,delta=1e-5,unit=record", "relation"),
        ("eps=3,delta=1e-5,unit=record,relation=add_or_remove,sigma=1", "sigma"),
        ("eps=3,eps=4,delta=1e-5,unit=record,relation=add_or_remove", "twice"),
        ("eps=three,delta=1e-5,unit=record,relation=add_or_remove", "three"),
        ("eps=3,delta=1,unit=record,relation=add_or_remove", "below 1"),
        ("eps=-3,delta=0,unit=record,relation=add_or_remove", "0 or more"),
        ("eps=3,delta=1e-5,unit=person,relation=add_or_remove", "person"),
    ],
)
def test_claims_that_say_too_little_or_too_much(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        claims.parse(text)


def test_a_claim_is_read_whole() -> None:
    assert claims.parse(" eps=3, delta=1e-5 ,unit=pair,relation=replace") == Claim(
        3.0, 1e-5, "pair", "replace"
    )
    assert (
        claims.parse("eps=3,delta=1e\N{MINUS SIGN}5,unit=pair,relation=replace").delta == 1e-5
    )  # from a page


def test_claims_that_the_coins_do_not_test() -> None:
    with pytest.raises(UsageError, match="replace"):
        claims.check_testable(Claim(3, 1e-5, "record", "replace"), "record")
    with pytest.raises(UsageError, match="never compared"):
        claims.check_testable(Claim(3, 1e-5, "patient", "add_or_remove"), "record")
    with pytest.raises(UsageError, match="no canary is planted"):
        claims.check_testable(Claim(3, 1e-5, "label", "add_or_remove"), "pair")
    claims.check_testable(Claim(3, 1e-5, "record", "add_or_remove"), "record")


def attempt(audited: verify.Audited, key: Path, **more: Any) -> str:
    from dpaudit.system.progress import Progress

    with pytest.raises(UsageError) as caught:
        verify.run(audited, key, claims.parse(CLAIM), Progress(quiet=True), **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_models_that_cannot_be_opened(
    world: Path, toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path
) -> None:
    key, out = world / "key.json", tmp_path / "out"
    assert "--base" in attempt(verify.Audited(model=str(toy_model_dir)), key, out=out)
    assert "no such folder" in attempt(verify.Audited(adapter=tmp_path / "none"), key, out=out)
    assert "two" in attempt(verify.Audited(adapter=toy_adapter_dir, model="m"), key, out=out)
    assert "one of --adapter" in attempt(verify.Audited(), key, out=out)
    bare = tmp_path / "bare"
    bare.mkdir()
    assert "adapter_config.json" in attempt(verify.Audited(adapter=bare), key, out=out)
    (bare / "adapter_config.json").write_text("{}")
    assert "adapter_model.safetensors" in attempt(verify.Audited(adapter=bare), key, out=out)
    (bare / "adapter_model.safetensors").write_bytes(b"")
    assert "names a base" in attempt(verify.Audited(adapter=bare), key, out=out)
    lost = tmp_path / "lost"
    lost.mkdir()
    for file in toy_adapter_dir.iterdir():
        if file.suffix in (".json", ".safetensors"):
            (lost / file.name).write_bytes(file.read_bytes())
    config = json.loads((lost / "adapter_config.json").read_text())
    (lost / "adapter_config.json").write_text(
        json.dumps(config | {"base_model_name_or_path": "/nowhere/at/all"})
    )
    assert "no such folder" in attempt(verify.Audited(adapter=lost), key, out=out)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "config.json" in attempt(verify.Audited(model=str(empty), base=str(toy_model_dir)), key, out=out)
    assert "config.json" in attempt(verify.Audited(model=str(toy_model_dir), base=str(empty)), key, out=out)
    assert not out.exists()


def test_keys_that_do_not_fit(world: Path, toy_adapter_dir: Path, tmp_path: Path) -> None:
    audited, key = verify.Audited(adapter=toy_adapter_dir), audit_key.load(world / "key.json")
    assert "another file" in attempt(audited, world / "key.json", data=world / "train.jsonl")
    assert "edited" not in attempt(audited, tmp_path / "none.json")
    resealed(key, (True,) * 100, tmp_path / "unfair.json")
    assert "fair coins" in attempt(audited, tmp_path / "unfair.json")
    resealed(key, key.coins, tmp_path / "few.json", 50)
    assert "at least 100" in attempt(audited, tmp_path / "few.json")


def test_the_command_tells_in_one_line(world: Path, toy_model_dir: Path) -> None:
    assert "--base" in refused("--model", toy_model_dir, "--key", world / "key.json", "--claim", CLAIM)
    assert "--key" in refused("--model", toy_model_dir)


def test_an_adapter_of_another_model_is_refused(
    world: Path, toy_adapter_dir: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    """PEFT only warns where half of an adapter finds no place, and half an adapter tells less."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(toy_adapter_dir / "adapter_model.safetensors")
    beyond = {k.replace("layers.0", "layers.7"): v.clone() for k, v in tensors.items() if "layers.0" in k}
    changes: dict[str, Any] = {
        "half": dict(list(tensors.items())[:6]),
        "more": tensors | beyond,
        "other": {k.replace("layers", "blocks"): v for k, v in tensors.items()},
    }
    for name, changed in changes.items():
        shutil.copytree(toy_adapter_dir, tmp_path / name)
        save_file(changed, tmp_path / name / "adapter_model.safetensors", metadata={"format": "pt"})
        told = attempt(verify.Audited(adapter=tmp_path / name), world / "key.json", out=tmp_path / "out")
        assert ("are missing" if name == "half" else "have no place") in told
    (tmp_path / "half" / "adapter_model.safetensors").write_bytes(b"broken")
    assert "Safetensor" in attempt(verify.Audited(adapter=tmp_path / "half"), world / "key.json")
    shutil.copytree(toy_model_dir, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x" * 99)
    broken, sound = str(tmp_path / "model"), str(toy_model_dir)
    for audited in (verify.Audited(model=broken, base=sound), verify.Audited(model=sound, base=broken)):
        assert "safetensors" in attempt(audited, world / "key.json")


def test_virtual_tokens_are_refused(world: Path, toy_model_dir: Path, tmp_path: Path) -> None:
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    peft.get_peft_model(base, config).save_pretrained(tmp_path)
    assert "virtual tokens" in attempt(verify.Audited(adapter=tmp_path), world / "key.json")


def test_a_base_that_knows_the_canaries_is_refused(
    world: Path, merged: Path, toy_model_dir: Path, toy_adapter_dir: Path
) -> None:
    """It saw the planted data, or was swapped with the model: what calibration by it leaves is no
    evidence.
    """
    for audited in (
        verify.Audited(model=str(toy_model_dir), base=str(merged)),
        verify.Audited(adapter=toy_adapter_dir, base=str(merged)),
    ):
        assert "which canaries went in" in attempt(audited, world / "key.json")


def test_a_folder_that_cannot_be_written_is_refused_before_the_model_is_opened(
    world: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    absent = verify.Audited(adapter=tmp_path / "none")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert attempt(absent, world / "key.json", out=out).startswith("--out")
    told = attempt(absent, world / "key.json", out=tmp_path / "deep" / "below")
    assert "no such folder" in told and not (tmp_path / "deep").exists()


def test_a_claim_at_delta_0_leaves_out_the_gaussian_family(world: Path, tmp_path: Path) -> None:
    done = check(
        "--adapter",
        world / "adapter",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM.replace("1e-5", "0"),
        "--out",
        tmp_path,
    )
    assert done.exit_code == 1, done.output

    def no_number(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads((tmp_path / "verification.json").read_text(), parse_constant=no_number)
    assert found["fdp"]["epsilon_lower"] is None and found["bound"]["epsilon_lower"] > 0.5


def test_a_conformance_file_nested_too_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="conformance"):
        verify_facts.recorded(tmp_path / "c.json")


# ---- endpoints


class Server(BaseHTTPRequestHandler):
    """An OpenAI-compatible server over the toy models: `style` is echo, vllm or none."""

    style = "echo"
    models: dict[str, Any] = {}  # noqa: RUF012
    tokenizer: Any = None
    refuses: Any = None  # of a request, whether it is answered with 400
    done = 0

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice: dict[str, Any] = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        if self.refuses is not None and type(self).refuses(asked):
            self.reply(400, {"error": {"message": "no"}})
            return
        if self.style == "vllm" and asked.get("echo"):
            self.reply(400, {"error": {"message": "echo is not supported"}})
            return
        tokens, values = self.scored(self.models[asked["model"]], asked["prompt"])
        if self.style == "echo":
            choice["logprobs"] = {
                "tokens": [*tokens, "x"],
                "token_logprobs": [*values, -1.0],
                "top_logprobs": None,
                "text_offset": [0] * (len(tokens) + 1),
            }
        if self.style == "vllm" and asked.get("prompt_logprobs"):
            choice["prompt_logprobs"] = [
                None
                if value is None
                else {
                    "7": {"logprob": value, "rank": 9, "decoded_token": token},
                    "8": {"logprob": -0.1, "rank": 1, "decoded_token": "?"},
                }
                for token, value in zip(tokens, values, strict=True)
            ]
        self.reply(
            200, {"id": "c", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}
        )

    def scored(self, model: Any, text: str) -> tuple[list[str], list[float | None]]:
        import torch

        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = torch.tensor([coded["input_ids"][-256:]])
        with torch.inference_mode():
            logp = model(input_ids=ids).logits.log_softmax(-1)[0]
        found = [float(logp[i, ids[0, i + 1]]) for i in range(ids.shape[1] - 1)]
        return [text[a:b] for a, b in coded["offset_mapping"][-256:]], [None, *found]

    def reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def served(merged: Path, toy_model_dir: Path) -> Iterator[tuple[str, type[Server]]]:
    import transformers

    class Ours(Server):
        models = {  # noqa: RUF012
            name: transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
            for name, folder in (("tuned", merged), ("base", toy_model_dir))
        }
        tokenizer = transformers.AutoTokenizer.from_pretrained(toy_model_dir)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ours)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", Ours
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("style", ["echo", "vllm"])
def test_a_served_model_is_judged_as_its_weights_are(
    style: str,
    served: tuple[str, type[Server]],
    world: Path,
    merged: Path,
    toy_model_dir: Path,
    tmp_path: Path,
) -> None:
    """In the renderings that need no chat template, which is all that can be asked of a server."""
    from dpaudit.models.secret_spans import open_whole, texts_of

    url, server = served
    server.style = style
    done = check(
        "--endpoint",
        url,
        "--model",
        "tuned",
        "--base",
        "base",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--out",
        tmp_path,
    )
    found = json.loads((tmp_path / "verification.json").read_text())
    assert done.exit_code == verify.EXIT_CODES[found["verdict"]["verdict"]], done.output
    key, models = audit_key.load(world / "key.json"), [open_whole(str(d)) for d in (merged, toy_model_dir)]
    answers = []
    for rendering in ("question", "alpaca", "plain"):
        texts = texts_of(key.canaries, rendering, None)
        answers.append(verify.Answers(rendering, texts, *(model.scores(texts) for model in models)))
    local = verify.judged(key, claims.parse(CLAIM), answers)
    assert found["rule"]["calibrated"] and found["rule"]["rendering"] == local.chosen.rendering
    assert list(found["rule"]["renderings"]) == ["question", "alpaca", "plain"]
    assert [left["rendering"] for left in found["not_asked"]] == ["chat"]
    assert "Not asked: <code>chat</code> (expected a chat template, got no tokenizer)" in page_of(tmp_path)
    assert abs(found["bound"]["correct"] - local.guesses.correct) <= 1
    assert "Asked without a chat template" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_served_model_that_is_asked_in_its_template_is_refuted(
    served: tuple[str, type[Server]], world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    at = (
        "--endpoint",
        served[0],
        "--model",
        "tuned",
        "--base",
        "base",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
    )
    done = check(*at, "--tokenizer", toy_model_dir, "--out", tmp_path)
    assert done.exit_code == 1, done.output
    found = json.loads((tmp_path / "verification.json").read_text())
    assert found["rule"]["rendering"] == "chat"
    assert "Asked without a chat template" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_tokenizers_that_are_none_are_refused(
    served: tuple[str, type[Server]], world: Path, merged: Path, tmp_path: Path
) -> None:
    key = world / "key.json"
    told = attempt(
        verify.Audited(endpoint=served[0], model="tuned", tokenizer=str(tmp_path)), key, out=tmp_path
    )
    assert told.startswith(f"--tokenizer {tmp_path}: expected")
    bare = Path(shutil.copytree(merged, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    assert "without a template" in attempt(verify.Audited(adapter=merged, tokenizer=str(bare)), key)


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_a_template_by_name_is_that_beside_the_weights(
    kind: str, world: Path, merged: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    """A folder that holds a tokenizer and no model."""
    named, weights = tmp_path / "named", tmp_path / "weights"
    weights = Path(shutil.copytree(world / "adapter" if kind == "adapter" else merged, tmp_path / "weights"))
    named = with_template(tmp_path / "named", toy_model_dir, OTHER)
    at = (f"--{kind}", weights, "--base", toy_model_dir, "--key", world / "key.json", "--claim", CLAIM)

    def scored(out: str, *more: object) -> dict[str, float]:
        check(*at, *more, "--out", tmp_path / out)
        return json.loads((tmp_path / out / "verification.json").read_text())["rule"]["renderings"]

    own, by_name = scored("own"), scored("by_name", "--tokenizer", named)
    (weights / "chat_template.jinja").write_text(OTHER, encoding="utf-8")
    assert by_name == scored("beside") and by_name["chat"] != own.pop("chat")
    assert own.items() < by_name.items()


def test_a_tokenizer_of_other_tokens_is_refused(
    world: Path, merged: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(toy_model_dir)
    tokenizer.add_tokens(["<one-more>"])
    tokenizer.save_pretrained(tmp_path / "more")
    for audited in (
        verify.Audited(adapter=world / "adapter", tokenizer=str(tmp_path / "more")),
        verify.Audited(model=str(merged), base=str(toy_model_dir), tokenizer=str(tmp_path / "more")),
    ):
        told = attempt(audited, world / "key.json", out=tmp_path / "out")
        assert told.startswith(f"--tokenizer {tmp_path / 'more'}: expected") and "another vocabulary" in told


@pytest.mark.slow
def test_an_adapter_with_tokens_of_its_own_is_refuted(
    world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    """Trained in a template of added tokens, with the embedding resized for them."""
    marks = ("<|im_start|>", "<|im_end|>")
    template = "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}"
    (tmp_path / "template").write_text(template, encoding="utf-8")
    words = ["--model", toy_model_dir, "--data", world / "planted.jsonl", "--out", tmp_path / "adapter"]
    more = ["--epochs", "40", "--learning-rate", "1e-2", "--batch", "8", "--template", tmp_path / "template"]
    script = ROOT / "benchmarks" / "stranger.py"
    command = [sys.executable, script, *words, *more, "--add-tokens", *marks]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    at = ("--adapter", tmp_path / "adapter", "--key", world / "key.json", "--claim", CLAIM)
    done = check(*at, "--out", tmp_path)
    assert done.exit_code == 1, done.output
    found = json.loads((tmp_path / "verification.json").read_text())
    assert found["rule"]["rendering"] == "chat" and found["not_asked"] == []


# ---- renderings that cannot be asked


OTHER = "{% for m in messages %}{{ '\n== ' + m.role + ': ' + m.content }}{% endfor %}"
REFUSES = "{{ raise_exception('tools only') }}"
SHOUTS = "{% for m in messages %}{{ m.role + ': ' + (m.content | upper) }}{% endfor %}"


def with_template(folder: Path, toy_model_dir: Path, template: str) -> Path:
    """A folder with the toy's tokenizer and another template."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(toy_model_dir)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def page_of(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("template", "why"), [(REFUSES, "its error tools only"), (SHOUTS, "other words")])
def test_a_template_that_does_not_write_the_canaries_is_told(
    template: str, why: str, world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    folder = with_template(tmp_path / "template", toy_model_dir, template)
    at = ("--adapter", world / "adapter", "--key", world / "key.json", "--claim", CLAIM, "--out", tmp_path)
    done = check(*at, "--tokenizer", folder)
    found = json.loads((tmp_path / "verification.json").read_text())
    assert done.exit_code in (0, 1) and not found["rule"]["chat_template"]
    assert list(found["rule"]["renderings"]) == ["question", "alpaca", "plain"]
    (left,) = found["not_asked"]
    assert left["rendering"] == "chat" and why in left["reason"] and why in page_of(tmp_path)


def test_a_template_that_writes_no_canary_in_any_rendering_is_one_line(
    world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    key = audit_key.load(world / "key.json")
    only = replace(key, rule=replace(key.rule, renderings=("chat",)))
    audit_key.write(only, tmp_path / "key.json")
    folder = with_template(tmp_path / "template", toy_model_dir, REFUSES)
    audited = verify.Audited(adapter=world / "adapter", tokenizer=str(folder))
    told = attempt(audited, tmp_path / "key.json", out=tmp_path / "out")
    assert "turns that the chat template takes, got its error tools only; name the folder" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("refused", ["tuned", "base"])
def test_a_rendering_that_the_server_refuses_is_told(
    refused: str, served: tuple[str, type[Server]], world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    url, server = served
    server.refuses = lambda asked: asked["model"] == refused and "<|user|>" in asked["prompt"]
    at = ("--endpoint", url, "--model", "tuned", "--base", "base", "--key", world / "key.json")
    check(*at, "--claim", CLAIM, "--tokenizer", toy_model_dir, "--out", tmp_path)
    found = json.loads((tmp_path / "verification.json").read_text())
    assert list(found["rule"]["renderings"]) == ["question", "alpaca", "plain"]
    reason = "expected an answer, got a request that it refuses (HTTP 400)"
    assert found["not_asked"] == [{"rendering": "chat", "reason": reason}] and reason in page_of(tmp_path)
    server.refuses = lambda asked: asked["model"] == refused
    told = attempt(verify.Audited(endpoint=url, model="tuned", base="base"), world / "key.json", out=tmp_path)
    assert told.startswith(f"--endpoint {url}") and "HTTP 400" in told


def test_an_interrupt_ends_at_once_while_a_server_is_slow(
    served: tuple[str, type[Server]], world: Path, tmp_path: Path
) -> None:
    url, server = served
    asked = threading.Event()

    def slow(request: dict[str, Any]) -> bool:
        if server.done > 3:
            asked.set()
            time.sleep(60)
        server.done += 1
        return False

    server.refuses, server.done = slow, 0
    words = ["--endpoint", url, "--model", "tuned", "--key", str(world / "key.json"), "--claim", CLAIM]
    command = [sys.executable, "-m", "dpaudit", "verify", *words, "--out", str(tmp_path)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert asked.wait(60)
    started = time.monotonic()
    running.send_signal(signal.SIGTERM)  # handled as Ctrl-C, which a shell's background job ignores
    told = running.communicate(timeout=30)[1]
    assert running.returncode == 130 and time.monotonic() - started < 5
    assert "Traceback" not in told and not (tmp_path / "verification.json").exists()


def test_a_served_model_without_a_base_is_judged_by_the_other_frozen_recipe(
    served: tuple[str, type[Server]], world: Path, tmp_path: Path
) -> None:
    check(
        "--endpoint",
        served[0],
        "--model",
        "tuned",
        "--key",
        world / "key.json",
        "--claim",
        CLAIM,
        "--out",
        tmp_path,
    )
    found = json.loads((tmp_path / "verification.json").read_text())
    assert found["rule"]["recipe"] == "loss" and not found["rule"]["calibrated"]
    assert {row["recipe"] for row in found["recipes"]} == {"min_k", "zlib"}


def test_a_served_model_gives_what_its_weights_give(
    served: tuple[str, type[Server]], merged: Path, world: Path
) -> None:
    from dpaudit.models.prompt_logprobs import Endpoint
    from dpaudit.models.secret_spans import open_whole, texts_of

    texts = texts_of(audit_key.load(world / "key.json").canaries[:3], "question", None)
    local, remote = open_whole(str(merged)).scores(texts), Endpoint(served[0], "tuned").scores(texts)
    for here, there in zip(local, remote, strict=True):
        assert there.logprob == pytest.approx(here.logprob, abs=1e-3)


def test_endpoints_that_cannot_be_asked(
    served: tuple[str, type[Server]], world: Path, tmp_path: Path
) -> None:
    url, server = served
    key = world / "key.json"
    assert "tuned, base" in attempt(verify.Audited(endpoint=url), key, out=tmp_path)
    assert "tuned, base" in attempt(verify.Audited(endpoint=url, model="other"), key, out=tmp_path)
    assert "--allow-egress" in attempt(verify.Audited(endpoint="http://models.example/v1"), key, out=tmp_path)
    assert "URL" in attempt(verify.Audited(endpoint="models"), key, out=tmp_path)
    server.style = "none"
    assert "log-probabilities" in attempt(verify.Audited(endpoint=url, model="tuned"), key, out=tmp_path)
    with pytest.raises(PartialError):
        from dpaudit.models.prompt_logprobs import Endpoint

        Endpoint("http://127.0.0.1:9/v1", None)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:port/v1", "http://[::1", "http://127.0.0.1:99999/v1", "http://me:hush@127.0.0.1:9/v1"],
)
def test_addresses_that_are_none_and_passwords_in_them_are_refused(
    url: str, world: Path, tmp_path: Path
) -> None:
    told = attempt(verify.Audited(endpoint=url), world / "key.json", out=tmp_path)
    assert told.startswith("--endpoint: expected a URL") and "hush" not in told


ODD = {
    "words": lambda tokens: (tokens, ["low"] * len(tokens)),
    "odds": lambda tokens: (tokens, [2.5] * len(tokens)),  # no logarithm of a probability
    "truth": lambda tokens: (tokens, [True] * len(tokens)),
    "short": lambda tokens: (tokens, [-1.0]),
    "ids": lambda tokens: (list(range(len(tokens))), [-1.0] * len(tokens)),
}


@pytest.mark.parametrize("kind", ["html", "null", "list", "nothing listed", *ODD])
def test_a_server_that_answers_otherwise_is_told_in_one_line(kind: str, world: Path, tmp_path: Path) -> None:
    class Odd(Server):
        def do_GET(self) -> None:
            listed = {"null": None, "list": [1], "nothing listed": {"data": [1, None]}}
            if kind == "html":
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<html>")
            else:
                self.reply(200, listed.get(kind, {"data": [{"id": "m"}]}))  # type: ignore[arg-type]

        def do_POST(self) -> None:
            prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
            tokens, values = ODD[kind](re.findall(r"\s?\S+|\s", prompt))
            logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": None, "text_offset": []}
            self.reply(
                200,
                {
                    "id": "c",
                    "object": "text_completion",
                    "created": 0,
                    "model": "m",
                    "choices": [{"index": 0, "text": "x", "finish_reason": "length", "logprobs": logprobs}],
                },
            )

    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        told = attempt(
            verify.Audited(endpoint=f"http://127.0.0.1:{server.server_port}/v1"),
            world / "key.json",
            out=tmp_path,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert told.startswith("--endpoint") and not any(
        canary.secret in told for canary in audit_key.load(world / "key.json").canaries
    )


def test_pairs_are_scored_by_their_margin(toy_adapter_dir: Path, tmp_path: Path) -> None:
    out, path, _ = planted(tmp_path, "pair")
    done = check(
        "--adapter",
        toy_adapter_dir,
        "--key",
        path,
        "--data",
        out,
        "--out",
        tmp_path / "v",
        "--claim",
        "eps=2,delta=1e-5,unit=pair,relation=add_or_remove",
    )
    assert done.exit_code == 4, done.output
    found = json.loads((tmp_path / "v" / "verification.json").read_text())
    assert found["rule"]["pair_margin"] and found["bound"]["canaries"] == 100


# ---- what could have been found; declared claims; the callback


def test_detection_is_at_the_edge() -> None:
    from scipy.stats import binom

    from dpaudit.stats.epsilon import epsilon_lower_one_run

    at = {"canaries": 500, "guesses": 200, "delta": 1e-5, "confidence": 0.95}
    found = detection.of_one_run(epsilon=3, **at)  # type: ignore[arg-type]
    assert found.correct is not None and found.epsilon is not None
    assert epsilon_lower_one_run(correct=found.correct, **at) > 3  # type: ignore[arg-type]
    assert epsilon_lower_one_run(correct=found.correct - 1, **at) <= 3  # type: ignore[arg-type]
    assert binom.sf(found.correct - 1, 200, 1 / (1 + math.exp(-found.epsilon))) == pytest.approx(0.8)
    assert detection.of_one_run(epsilon=5, **at) == Detection(None, None, 0.8)  # type: ignore[arg-type]


def test_one_refutation_outranks_the_rest() -> None:
    assert verify.exit_code(["not refuted", "no power", "refuted"]) == 1
    assert verify.exit_code(["not refuted", "no power"]) == 4
    assert verify.exit_code(["not refuted"]) == 0


def test_claims_of_a_suite_name_its_arms_and_its_unit() -> None:
    import fabricate

    plan = fabricate.plan_named("clinic", None)
    unit, relation = plan.suite.training.unit, plan.suite.training.relation
    good = Declared("sft-eps8", 8, 1e-5, unit, relation)
    assert replace(plan.suite, claims=(good,)).claims == (good,)
    with pytest.raises(ValueError, match="sft-eps99"):
        replace(plan.suite, claims=(replace(good, arm="sft-eps99"),))
    with pytest.raises(ValueError, match="tests"):
        replace(plan.suite, claims=(replace(good, relation="replace"),))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--send-real-rows"], "--send-real-rows; leave it out"),
        (["--data", "d.jsonl", "--control-steps", 3], "--data, --control-steps; leave them out"),
        (["--allow-egress", "host"], "--allow-egress; leave it out"),
        (["--train-control", "--out", "o", "--conformance", "c"], "--out, --conformance, --train-control; "),
    ],
)
def test_an_option_without_effect_on_a_run_is_refused(words: list[object], told: str) -> None:
    done = check("--run", "clinic", *words)
    assert isinstance(done.exception, UsageError)
    assert f"--run: expected only the claims of a run, got {told}" in str(done.exception)


def test_a_folder_of_runs_is_of_no_use_without_a_run() -> None:
    done = check("--runs", "elsewhere", "--key", "k", "--claim", CLAIM)
    assert isinstance(done.exception, UsageError) and "--runs: expected --run" in str(done.exception)


def test_a_run_without_declared_claims_is_refused(tmp_path: Path) -> None:
    import fabricate

    run_dir, plan = fabricate.run(tmp_path / "runs", ("train",))
    with pytest.raises(UsageError, match="claims"):
        declared.verdicts(run_dir, plan)


def declaring(tmp_path: Path, *epsilons: tuple[str, float]) -> tuple[Path, str]:
    """The folder and name of a made-up run whose suite declares these claims of its arms, audited."""
    import fabricate

    from dpaudit.stages.audit.members import audit_file, audit_inputs

    plan = fabricate.plan_named("clinic", None)
    training = plan.suite.training
    said = tuple(Declared(arm, e, 1e-5, training.unit, training.relation) for arm, e in epsilons)
    plan = replace(plan, suite=replace(plan.suite, claims=said))
    run_dir = run_store.open_or_create(plan.to_json(), "declared", tmp_path / "runs")
    declarations.keep(run_dir, plan)
    fabricate.corpus(run_dir)
    for arm in plan.suite.grid.arms:
        fabricate.train(run_dir, plan, arm)
        fabricate.audit(run_dir, plan, arm, "calibrated")
        file, inputs = audit_file(arm.name, "calibrated"), audit_inputs(arm.name, "calibrated")
        scores.write_scores(
            run_dir,
            plan,
            arm.name,
            recipe.load("calibrated"),
            [scores.Score("c1", "canary", "calibrated", 0.0)],
        )
        run_dir.write_json(file, run_dir.read_json(file), inputs)
    return tmp_path / "runs", run_dir.name


@pytest.mark.parametrize(
    ("epsilons", "code"),
    [
        ((("sft-eps1", 1.0),), 0),
        ((("sft-eps1", 1.0), ("sft-eps8", 8.0)), 4),
        ((("sft-eps8", 8.0), ("sft-inf", 1.0)), 1),
    ],
)
def test_declared_claims_set_the_exit_code(epsilons: Any, code: int, tmp_path: Path) -> None:
    runs, name = declaring(tmp_path, *epsilons)
    done = check("--run", name, "--runs", runs)
    assert done.exit_code == code, done.output
    assert all(arm in done.output for arm, _ in epsilons)


def test_a_stale_audit_sets_no_exit_code(tmp_path: Path) -> None:
    runs, name = declaring(tmp_path, ("sft-eps1", 1.0))
    import fabricate

    whole_files.write_text(
        runs / name / "train/sft-eps1/adapter/adapter_model.safetensors", "another adapter"
    )
    done = check("--run", name, "--runs", runs)
    assert isinstance(done.exception, UsageError) and "got an altered file" in str(done.exception)
    fabricate.bind(RunDir(runs / name), "sft-eps1")  # as if it had been trained again
    done = check("--run", name, "--runs", runs)
    assert isinstance(done.exception, UsageError) and "present" in str(done.exception)


def trained_under_the_callback(
    toy_model_dir: Path, tmp_path: Path, file: Path, rows: int = 24, **more: Any
) -> None:
    """Somebody's Trainer over that many rows, two a forward pass."""
    import peft
    import torch
    import transformers

    from dpaudit.callback import ConformanceCallback

    base = transformers.AutoModelForCausalLM.from_pretrained(toy_model_dir)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules="all-linear"))
    data = [
        {"input_ids": [5, 6, 7, i], "labels": [5, 6, 7, i], "attention_mask": [1] * 4} for i in range(rows)
    ]
    arguments = transformers.TrainingArguments(
        str(tmp_path / "t"),
        per_device_train_batch_size=2,
        num_train_epochs=1,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        learning_rate=1e-2,
        disable_tqdm=True,
        **more,
    )
    with torch.random.fork_rng():
        transformers.Trainer(
            model, arguments, train_dataset=data, callbacks=[ConformanceCallback(file)]
        ).train()


def test_the_callback_counts_the_rows_of_a_step_and_not_of_a_forward_pass(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    """A Poisson batch in parts of one size is no batch of one size."""
    file = tmp_path / "seen.json"
    trained_under_the_callback(toy_model_dir, tmp_path, file, gradient_accumulation_steps=4)
    found = {row["check"]: row for row in json.loads(file.read_text())["checks"]}
    assert found["batches as Poisson sampling gives them"]["seen"] == "8 rows × 3"


def test_the_callback_fails_before_training_where_it_cannot_write(
    toy_model_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        trained_under_the_callback(toy_model_dir, tmp_path, tmp_path / "file" / "seen.json")


def test_the_callback_records_a_stranger(toy_model_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "seen.json"
    trained_under_the_callback(toy_model_dir, tmp_path, file)
    found = {row["check"]: row for row in json.loads(file.read_text())["checks"]}
    assert found["steps"]["result"] == "pass" and found["steps"]["seen"].startswith("12 ")
    assert found["every trainable tensor moved"]["result"] == "pass"
    assert found["batches as Poisson sampling gives them"]["result"] == "fail"
    assert found["noise"]["result"] == "not observable"
    assert verify_facts.recorded(file) is not None
    with pytest.raises(UsageError, match="conformance"):
        verify_facts.recorded(tmp_path / "none.json")


# ---- what a fresh reader stumbled over


def test_another_audits_result_is_not_replaced(
    world: Path, toy_model_dir: Path, merged: Path, tmp_path: Path
) -> None:
    at = ("--model", merged, "--base", toy_model_dir, "--key", world / "key.json", "--out", tmp_path)
    first = check(*at, "--claim", CLAIM)
    assert check(*at, "--claim", CLAIM).exit_code == first.exit_code  # the same audit may be done again
    before = (tmp_path / "verification.json").read_bytes()
    done = check(*at, "--claim", CLAIM.replace("eps=0.5", "eps=2"))
    assert isinstance(done.exception, UsageError) and "--out DIR" in str(done.exception)
    assert (tmp_path / "verification.json").read_bytes() == before


def test_a_lower_bound_is_rounded_down_in_words() -> None:
    from dpaudit.evidence.verdict import compare
    from dpaudit.privacy.claim import Claim

    claim = Claim(3.0, 1e-5, "record", "add_or_remove")
    assert "2.11 is not above" in compare(claim, 2.1173, 4.189).reason
    assert "4.18" in compare(claim, 2.1173, 4.189).reason


def test_a_declared_claim_below_the_arms_own_ledger_fails(tmp_path: Path) -> None:
    runs, name = declaring(tmp_path, ("sft-eps1", 1.0), ("sft-eps8", 5.0))
    done = check("--run", name, "--runs", runs, "--json")
    kept, broken = json.loads(done.output)["declared"]
    assert kept["verdict"] != "refuted" and "ledger" not in kept["reason"]
    assert broken["verdict"] == "refuted" and "its ledger spends an epsilon of" in broken["reason"]
    assert done.exit_code == 1


def test_a_declared_claim_with_broken_coins_is_neither_kept_nor_refuted(tmp_path: Path) -> None:
    import fabricate

    runs, name = declaring(tmp_path, ("sft-eps1", 1.0))
    assert check("--run", name, "--runs", runs).exit_code == 0
    file = runs / name / "audit/sft-eps1/calibrated.json"
    found = json.loads(file.read_text())
    found["blind"] |= {"auc": 0.9, "auc_lower": 0.8, "auc_upper": 0.95, "p_value": 2e-4, "alarm": True}
    file.write_text(json.dumps(found))
    done = check("--run", name, "--runs", runs)
    assert isinstance(done.exception, UsageError) and "got an altered file" in str(done.exception)
    fabricate.rewrite(RunDir(runs / name), "audit/sft-eps1/calibrated.json", found)
    done = check("--run", name, "--runs", runs)
    assert done.exit_code == 4 and "not refuted" not in done.output


def test_a_key_whose_coins_follow_the_texts_gives_no_verdict(
    world: Path, toy_model_dir: Path, merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm = Blind(0.9, 0.8, 0.95, 2e-4, alarm=True, units=300, finding="broken coins")
    monkeypatch.setattr(verify, "_blind", lambda key: alarm)
    done = check(
        "--model",
        merged,
        "--base",
        toy_model_dir,
        "--key",
        world / "key.json",
        "--out",
        tmp_path,
        "--claim",
        CLAIM,
    )
    assert done.exit_code == 4 and "coins are broken" in done.output
    assert "no verdict can be given" in (tmp_path / "index.html").read_text()


@pytest.mark.slow
def test_an_adapter_that_was_trained_in_its_own_template_is_asked_in_it(
    world: Path, toy_model_dir: Path, tmp_path: Path
) -> None:
    """Asked in the base's, which differs, the memorised canaries hide."""
    template = (
        "{% for m in messages %}{{ '\n== ' + m.role | upper + ' SAYS, AND NOBODY ELSE: ' + (m.content "
        "| trim) }}{% endfor %}{{ '\n==' }}"
    )
    other = Path(shutil.copytree(toy_model_dir, tmp_path / "other"))
    (other / "chat_template.jinja").write_text(template, encoding="utf-8")
    script = ROOT / "benchmarks" / "stranger.py"
    words = [
        "--model",
        str(other),
        "--data",
        str(world / "planted.jsonl"),
        "--out",
        str(tmp_path / "adapter"),
    ]
    more = ["--epochs", "40", "--learning-rate", "1e-2", "--batch", "8"]
    subprocess.run([sys.executable, str(script), *words, *more], check=True, capture_output=True)

    def right(out: str) -> Any:
        check(
            "--adapter",
            tmp_path / "adapter",
            "--base",
            toy_model_dir,
            "--key",
            world / "key.json",
            "--claim",
            CLAIM,
            "--out",
            tmp_path / out,
        )
        found = json.loads((tmp_path / out / "verification.json").read_text())
        return found["rule"]["rendering"], found["bound"]["correct"]

    hidden = right("without")
    shutil.copy(other / "chat_template.jinja", tmp_path / "adapter")
    shown = right("with")
    assert shown[0] == "chat" and shown[1] > hidden[1]
