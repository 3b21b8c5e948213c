"""Stage merge: a model that answers as base and adapter do, carries its ledger, and is there whole or not at
all.
"""

import json
import re
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from dpaudit.errors import UsageError
from dpaudit.models import adapter_files, hf, model_card
from dpaudit.models import merge as merging
from dpaudit.models.model_card import Audited
from dpaudit.privacy import beside
from dpaudit.privacy.accountants import epsilon_spent
from dpaudit.privacy.ledger import Ledger, digest
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stages.integrity import weights
from dpaudit.stages.train import merge
from dpaudit.storage import custody, lock
from dpaudit.system.progress import Progress

QUIET = Progress(quiet=True)
STEP = {"noise_multiplier": 1.0, "sampling_rate": 0.05, "steps": 40, "clip": 0.5}


def data(*stages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What the privacy.json of an adapter says, whose stages were `stages`."""
    whole = Mechanism(**STEP, stages=tuple(Mechanism(**stage) for stage in stages))
    return {
        "arm": {"method": "sft", "loss": "sft", "epsilon": 8.0, "seed": 0},
        "claim": {"epsilon": 8.0, "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"},
        "mechanism": STEP,
        "stages": list(stages),
        "expected_batch": 5,
        "population": 100,
        "population_assumed": True,
        "epsilon_pld": epsilon_spent(whole, 1e-5),
        "epsilon_rdp": 3.0,
        "steps_done": 40,
        "reproducible_noise": False,
        **changes,
    }


@pytest.fixture
def adapter(toy_adapter_dir: Path, tmp_path: Path) -> Path:
    """An adapter folder with its ledger."""
    folder = tmp_path / "adapter"
    shutil.copytree(toy_adapter_dir, folder)
    (folder / "privacy.json").write_text(json.dumps(data()))
    return folder


def merged(adapter: Path, out: Path, *, size: str = "2GB", **options: Any) -> dict[str, Any]:
    return merge.run(merge.of_folder(adapter, **options), out, size, QUIET)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.arange(5, 45)[None]).logits[0].float()
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_on_disk_answers_as_base_and_adapter_do(adapter: Path, tmp_path: Path, dtype: str) -> None:
    told = merged(adapter, tmp_path / "out", dtype=dtype, size="40KB")
    assert told["dtype"] == dtype and told["shards"] > 1
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    whole = hf.load_model(str(tmp_path / "out"), dtype)
    base = hf.load_model(merging.base_of(adapter))
    alone, both = logits(base), logits(hf.with_adapter(base, adapter))
    error, effect = (logits(whole) - both).norm() / both.norm(), (alone - both).norm() / both.norm()
    check = told["reload_check"]
    assert error < merging.TOLERANCE[dtype] == check["tolerance"] < effect
    assert check["difference"] < check["tolerance"] < check["adapter_effect"]
    assert check["adapter_kept"] == pytest.approx(1, abs=check["tolerance"])


def test_what_is_in_the_folder(adapter: Path, tmp_path: Path) -> None:
    merged(adapter, tmp_path / "out")
    out = tmp_path / "out"
    names = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert names | {"privacy.json", "README.md"} <= {path.name for path in out.iterdir()}
    assert not list(out.glob("*.bin")) and not list(tmp_path.glob(".*"))
    assert json.loads((out / "config.json").read_text())[beside.KEY] == digest(out / "privacy.json")
    kept = json.loads((out / "privacy.json").read_text())
    origin = kept.pop("merged_from")
    assert kept.pop("weights") == {"model.safetensors": custody.file_digest(out / "model.safetensors")}
    del kept["custody"]
    assert kept == data() and origin["adapter"] == "adapter" and len(origin["adapter_sha256"]) == 64
    found = beside.find(out)
    assert found is not None and found.mechanism == Mechanism(**STEP)
    card = (out / "README.md").read_text()
    assert "# Merged model" in card and "library_name: transformers" in card and "PeftModel" not in card
    assert "(8, 1e-05)-differentially private for the unit `patient` under `add_or_remove`" in card
    with pytest.raises(
        UsageError, match=f"got a merged model, .* adapter SHA-256 {origin['adapter_sha256']}; name"
    ):
        merge.of_folder(out)
    assert "0.05" not in card  # the population was counted from the data


AUDITED = Audited("not refuted", ("inside",), "2026-01-02", "ward-0123abcd")


def test_a_public_merge_tells_the_claim_and_keeps_the_ledger_beside(adapter: Path, tmp_path: Path) -> None:
    """What is released holds no figure of the ledger; what was spent is not lost, and no one trains on
    without it.
    """
    step = {"noise_multiplier": 1.2345, "sampling_rate": 0.0432, "steps": 39, "clip": 0.5}
    declared = data(mechanism=step, population=7654, population_assumed=False, steps_done=39)
    (adapter / "privacy.json").write_text(json.dumps(declared))
    out = tmp_path / "out"
    told = merge.run(merge.of_folder(adapter), out, "2GB", QUIET, full=False, audited=AUDITED)
    ledger = Path(told["ledger"])
    assert ledger.parent == tmp_path and ledger.name.startswith("out-")
    assert not (out / "privacy.json").exists()
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])["privacy"]
    assert (head["epsilon"], head["delta"], head["unit"]) == (8, 1e-5, "patient")
    assert head["audit"] == {"verdict": "not refuted", "as_of": "2026-01-02"}
    assert "**not refuted** (run `ward-0123abcd`" in card and "from inside" in card
    assert "No medical advice" in card and "Licence of the base, as its folder states it: not stated." in card
    for name in ("noise_multiplier", "sampling_rate", "population", "expected_batch"):
        assert f'"{name}"' in ledger.read_text()
    figures = re.compile(r"1\.2345|0\.0432|7654|\b39 steps")
    assert not figures.search(card) and not figures.search((out / "config.json").read_text())
    merge.run(merge.of_folder(adapter), tmp_path / "whole", "2GB", QUIET)
    assert len(set(figures.findall((tmp_path / "whole" / "README.md").read_text()))) == 4
    with pytest.raises(UsageError, match=r"no such file.*copy it here as privacy\.json, or ask who merged"):
        beside.find(out)
    shutil.copy(ledger, out / "privacy.json")
    found = beside.find(out)
    assert found is not None and found.mechanism == Mechanism(**step)


def test_the_hash_of_a_public_ledger_cannot_be_found_by_trying(adapter: Path, tmp_path: Path) -> None:
    """The hash in the released folder is of a salted ledger: two merges of one adapter differ in it."""
    source = merge.of_folder(adapter)
    places = [merge.run(source, tmp_path / name, "2GB", QUIET, full=False)["ledger"] for name in ("a", "b")]
    texts = [json.loads(Path(place).read_text()) for place in places]
    assert len({text["salt"] for text in texts}) == 2 and all(len(text["salt"]) == 32 for text in texts)
    assert {place.rpartition("-")[2] for place in places} != {places[0].rpartition("-")[2]}


def test_a_public_merge_that_fails_late_leaves_no_ledger(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> str:
        assert list(tmp_path.glob("out-*.privacy.json"))  # written before the model is in place
        raise OSError("no space left")

    monkeypatch.setattr(model_card, "model_card", fails)
    with pytest.raises(OSError, match="no space left"):
        merge.run(merge.of_folder(adapter), tmp_path / "out", "2GB", QUIET, full=False)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_without_an_audit_the_card_says_so(adapter: Path, tmp_path: Path) -> None:
    merge.run(merge.of_folder(adapter), tmp_path / "out", "2GB", QUIET, full=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Not audited when this card was written" in card and "verdict: not audited" in card


def test_the_ledger_is_noticed_after_loading_and_saving(adapter: Path, tmp_path: Path) -> None:
    """config.json keeps the hash through transformers; then the copy has no ledger beside it."""
    merged(adapter, tmp_path / "out")
    hf.load_model(str(tmp_path / "out")).save_pretrained(tmp_path / "copy")
    with pytest.raises(UsageError, match="no such file"):
        beside.find(tmp_path / "copy")


def test_the_cards_snippet_loads_it(adapter: Path, tmp_path: Path) -> None:
    merged(adapter, tmp_path / "out")
    snippet = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(snippet.replace("FOLDER", str(tmp_path / "out")), names)
    assert names["tokenizer"]("fever").input_ids and logits(names["model"]).isfinite().all()


def test_an_existing_folder_is_refused_and_left_alone(adapter: Path, tmp_path: Path) -> None:
    """A merge that was killed as it ended leaves its lock, which goes with the next one."""
    (tmp_path / "out").mkdir()
    (tmp_path / ".out.lock").mkdir()
    process = subprocess.Popen(["true"])
    process.wait()
    (tmp_path / ".out.lock" / "token").write_text(json.dumps(asdict(lock.here()) | {"pid": process.pid}))
    with pytest.raises(UsageError, match=r"--out .*: expected a folder that does not exist yet"):
        merged(adapter, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir()) and not list(tmp_path.glob(".*"))


def test_no_ledger_is_refused_unless_assumed_public(adapter: Path, tmp_path: Path) -> None:
    (adapter / "privacy.json").unlink()
    with pytest.raises(UsageError, match="--assume-public"):
        merged(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    told = merged(adapter, tmp_path / "out", assume_public=True)
    assert told["claim"] is None and "nothing is claimed" in told["caveat"]
    assert beside.find(tmp_path / "out") is None
    assert beside.KEY not in json.loads((tmp_path / "out" / "config.json").read_text())
    assert "assumed to be trained on public data" in (tmp_path / "out" / "README.md").read_text()


def test_a_ledger_that_says_too_little_stops_the_merge(adapter: Path, tmp_path: Path) -> None:
    (adapter / "privacy.json").write_text(json.dumps(data(epsilon_pld=0.1)))
    with pytest.raises(UsageError, match="mechanism and stages spend"):
        merged(adapter, tmp_path / "out")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fault", ["lost", "broken"])
def test_a_merge_that_went_wrong_leaves_nothing(
    adapter: Path, tmp_path: Path, dtype: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the adapter is left out, or one weight of the written model is not a number."""
    from peft.tuners.lora import LoraModel

    def faulty(model: LoraModel, **_: Any) -> Any:
        if fault == "lost":
            return model.unload()
        whole = merge_and_unload(model)
        whole.lm_head.weight.data[0, 0] = torch.nan
        return whole

    merge_and_unload = LoraModel.merge_and_unload
    monkeypatch.setattr(LoraModel, "merge_and_unload", faulty)
    with pytest.raises(UsageError, match="expected merged logits within"):
        merged(adapter, tmp_path / "out", dtype=dtype)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def scaled(adapter: Path, factor: float) -> Path:
    """The adapter with its effect multiplied."""
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({n: w * (factor if "lora_B" in n else 1) for n, w in weights.items()}, file)
    return adapter


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_that_was_lost_shows_however_weak_it_is(
    adapter: Path, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora import LoraModel

    weak = scaled(adapter, {"float32": 1e-5, "bfloat16": 0.02}[dtype])
    told = merged(weak, tmp_path / "kept", dtype=dtype)["reload_check"]
    assert told["adapter_effect"] < told["tolerance"]
    monkeypatch.setattr(LoraModel, "merge_and_unload", lambda model, **_: model.unload())
    with pytest.raises(UsageError, match="keeps the adapter's effect, got a share of 0"):
        merged(weak, tmp_path / "lost", dtype=dtype)


@pytest.mark.parametrize("how", ["weights", "lora_alpha"])
def test_an_adapter_without_effect_is_refused(adapter: Path, tmp_path: Path, how: str) -> None:
    """The model would be the base, beside a ledger of an adapter that is not in it."""
    if how == "weights":
        scaled(adapter, 0.0)
    else:
        edited(adapter, lora_alpha=0)
    with pytest.raises(
        UsageError, match="an adapter that changes the answers of its base, got an adapter without"
    ):
        merged(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def edited(adapter: Path, **settings: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def names_all(adapter: Path) -> dict[str, Any]:
    """The adapter's ledger as training writes it, with the hashes of weights, settings and base."""
    read = weights.of_base(merging.base_of(adapter))
    ledger = Ledger.from_json(data())
    told = adapter_files.bound(ledger, adapter, merging.base_of(adapter), read).to_json()
    (adapter / "privacy.json").write_text(json.dumps(custody.stamped(told, "", None)))
    return told


@pytest.mark.parametrize(
    "settings", [{"lora_alpha": 3200}, {"alpha_pattern": {"q_proj": 640}}, {"use_rslora": True}]
)
def test_settings_that_were_edited_are_refused(
    adapter: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    names_all(adapter)
    edited(adapter, **settings)
    with pytest.raises(
        UsageError, match=r"adapter_config\.json: expected the settings that .* got other settings"
    ):
        merged(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_base_of_the_same_shape_is_refused(adapter: Path, tmp_path: Path) -> None:
    names_all(adapter)
    base = Path(shutil.copytree(merging.base_of(adapter), tmp_path / "base"))
    told = merged(adapter, tmp_path / "same", model=str(base))  # the same weights elsewhere
    assert told["caveat"] is None
    tensors = load_file(base / "model.safetensors")
    first = min(tensors)
    save_file(tensors | {first: tensors[first] + 0.05}, base / "model.safetensors", {"format": "pt"})
    wanted = r"expected the base that .*, got .*base with another model\.safetensors; .* --model"
    with pytest.raises(UsageError, match=wanted):
        merged(adapter, tmp_path / "out", model=str(base))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "told"),
    [("adapter_sha256", "weights"), ("adapter_settings_sha256", "settings"), ("base_files", "base")],
)
def test_what_a_ledger_does_not_name_is_told(adapter: Path, tmp_path: Path, key: str, told: str) -> None:
    kept = {name: value for name, value in names_all(adapter).items() if name != key}
    (adapter / "privacy.json").write_text(json.dumps(custody.stamped(kept, "", None)))
    found = merged(adapter, tmp_path / "out")["caveat"]
    assert found == f"the ledger names no {told}: nothing shows that it belongs to this adapter on this base"


def on_top(adapter: Path, base: Path, folder: Path, ledger_of: dict[str, Any] | None) -> Path:
    """The same adapter on another base, as a second stage would leave it."""
    shutil.copytree(adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    (folder / "privacy.json").unlink()
    if ledger_of is not None:
        (folder / "privacy.json").write_text(json.dumps(ledger_of))
    return folder


def test_a_base_that_spent_something_must_be_among_the_stages(adapter: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    merged(adapter, first)
    forgetful = on_top(adapter, first, tmp_path / "forgetful", data())
    with pytest.raises(UsageError, match="whose first stages are those of its base"):
        merged(forgetful, tmp_path / "second")
    honest = on_top(adapter, first, tmp_path / "honest", data(STEP))
    merged(honest, tmp_path / "second")
    found = beside.find(tmp_path / "second")
    assert found is not None and found.mechanisms == (Mechanism(**STEP),) * 2
    public = on_top(adapter, first, tmp_path / "public", None)
    told = merged(public, tmp_path / "third", assume_public=True)
    assert told["claim"] == data()["claim"]


def test_another_unit_than_the_bases(adapter: Path, tmp_path: Path) -> None:
    merged(adapter, tmp_path / "first")
    claim = {"epsilon": 8.0, "delta": 1e-5, "unit": "record", "relation": "add_or_remove"}
    other = on_top(adapter, tmp_path / "first", tmp_path / "other", data(STEP, claim=claim))
    with pytest.raises(UsageError, match="whose first stages"):
        merged(other, tmp_path / "second")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"dtype": "float8"}, "--dtype: expected one of float32, bfloat16, got float8"),
        ({"size": "2 gigs"}, "--shard-size: expected a size such as 2GB"),
        ({"size": "0GB"}, "--shard-size"),
        ({"model": "./nowhere"}, "--model ./nowhere: .* no such folder"),
    ],
)
def test_slips(adapter: Path, tmp_path: Path, options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(UsageError, match=wanted):
        merged(adapter, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_no_adapters(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"an adapter's folder, with adapter_config\.json, got a folder without"
    ):
        merge.of_folder(tmp_path)
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="names its base, got no base; name the base with --model"):
        merge.of_folder(adapter)


def test_weights_that_are_not_numbers(adapter: Path, tmp_path: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: torch.full_like(weight, torch.nan) for name, weight in weights.items()}, file)
    with pytest.raises(UsageError, match="finite"):
        merged(adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["[1, 2]", "no JSON", '{"base": "gpt2"}', "{}"])
def test_a_file_of_that_name_beside_somebodys_adapter_is_not_read_as_a_runs(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "train.json").write_text(text)
    weights.require_trained_on(tmp_path / "train.json", "nobody/nothing", "")
