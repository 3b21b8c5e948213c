"""Nothing leaves the machine but a question about a name that was typed."""

import http.server
import importlib
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import no_network
import pytest
import typer
import yaml
from typed import MINI

from dpaudit import cli
from dpaudit.errors import UsageError
from dpaudit.planting import plant
from dpaudit.system import egress

ID = "nobody-here/nothing-of-this-name"
CLAIM = "eps=3,delta=1e-5,unit=record,relation=add_or_remove"
Type = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], toy_model_dir: Path
) -> Type:
    """Types `dpaudit ...` in this process: exit code, last line of stderr, and what was tried."""
    monkeypatch.chdir(tmp_path)
    suite = MINI | {"model": MINI["model"] | {"base": str(toy_model_dir)}}
    Path("mini.yaml").write_text(yaml.safe_dump(suite))

    def run(*words: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["dpaudit", *words])
        with pytest.raises(SystemExit) as ended, no_network.watched() as tried:
            cli.main()
        lines = capfd.readouterr().err.splitlines()
        return int(ended.value.code or 0), lines[-1] if lines else "", tried

    return run


@pytest.fixture
def lost(toy_adapter_dir: Path, tmp_path: Path) -> Path:
    """An adapter whose configuration names a base on a hub."""
    shutil.copytree(toy_adapter_dir, tmp_path / "lost")
    file = tmp_path / "lost" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": ID}))
    return tmp_path / "lost"


def suite_with(**changed: Any) -> str:
    Path("hub.yaml").write_text(
        yaml.safe_dump(
            {key: {**MINI.get(key, {}), **value} for key, value in changed.items()}
            | {k: v for k, v in MINI.items() if k not in changed}
        )
    )
    return "hub.yaml"


def test_the_watch_sees_what_it_should() -> None:
    with no_network.watched() as tried, pytest.raises(OSError, match="no network"):
        socket.create_connection(("example.org", 80), timeout=1)
    assert tried == ["socket.getaddrinfo 'example.org'"]
    with no_network.watched() as tried, pytest.raises(OSError, match="no network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    assert len(tried) == 1


def test_a_base_that_an_adapter_names_is_not_looked_up(typed: Type, lost: Path, toy_model_dir: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Question {i}?"},
                {"role": "assistant", "content": f"Answer {i}."},
            ]
        }
        for i in range(12)
    ]
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plant.plant(Path("data.jsonl"), Path("planted.jsonl"), Path("key.json"), 100)
    for option, words in {
        "--base": ("verify", "--adapter", str(lost), "--key", "key.json", "--claim", CLAIM),
        "--model": ("merge", "--adapter", str(lost), "--out", "merged", "--assume-public"),
    }.items():
        code, line, tried = typed(*words)
        assert (code, tried) == (2, [])
        assert f"{option} {ID}" in line
    code, _, tried = typed(
        "merge", "--adapter", str(lost), "--model", str(toy_model_dir), "--out", "merged", "--assume-public"
    )
    assert (code, tried) == (0, [])


NAMED = {"--model": {"model": {"base": ID}}, "--data": {"data": {"source": ID}}}


@pytest.mark.parametrize("option", NAMED)
def test_a_name_in_a_suite_asks_nobody(option: str, typed: Type, toy_model_dir: Path) -> None:
    name = suite_with(**({"model": {"base": str(toy_model_dir)}} | NAMED[option]))
    for words in (("train", "--suite", name), ("run", name, "--dry-run")):
        code, line, tried = typed(*words)
        assert (code, tried) == (2, [])
        assert f"{option} {ID}" in line
        assert not Path("runs").exists()


# the client of data tries again for 23 seconds
@pytest.mark.parametrize("option", ["--model", pytest.param("--data", marks=pytest.mark.slow)])
def test_a_typed_name_is_asked_about(option: str, typed: Type) -> None:
    code, line, tried = typed("train", "--suite", "mini.yaml", option, ID)
    assert code == 2 and tried and ID in line
    assert not Path("runs").exists()


def test_items_of_a_benchmark_are_asked_for_only_where_the_hubs_host_is_typed(typed: Type) -> None:
    name = suite_with(evaluation={"tasks": [{"name": "medqa_4options"}]}, model={"base": "builtin:tiny"})
    for words in (("train", "--suite", name), ("run", name)):
        code, line, tried = typed(*words)
        assert (code, tried) == (2, []) and "add --allow-egress huggingface.co" in line
        code, line, tried = typed(*words, "--allow-egress", "huggingface.co")
        assert code == 3 and tried and "huggingface.co does not answer" in line
        assert not Path("runs").exists()


def test_training_and_merging_ask_nobody(typed: Type) -> None:
    """PEFT asks a hub whether a base's vocabulary was changed, as it saves; Transformers whether a tokenizer
    is patched.
    """
    assert typed("train", "--suite", "mini.yaml", "--eps", "8", "--no-baseline", "--workers", "1")[::2] == (
        0,
        [],
    )
    assert typed("merge", "--arm", "sft-eps8", "--out", "merged")[::2] == (0, [])
    assert typed("show")[::2] == (0, [])


def test_a_users_own_ban_holds_for_typed_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with egress.closed():
        egress.allow(ID)
        with egress.asking(ID, "--model"):
            assert constants.HF_HUB_OFFLINE


def test_what_was_open_is_open_again() -> None:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    with egress.closed():
        assert constants.HF_HUB_OFFLINE
        with pytest.raises(UsageError, match=f"type --model {ID}"), egress.asking(ID, "--model"):
            pass
        egress.allow(ID)
        with egress.asking(ID, "--model"):
            assert not constants.HF_HUB_OFFLINE
        assert constants.HF_HUB_OFFLINE
    assert before == constants.HF_HUB_OFFLINE


def test_a_library_that_was_loaded_meanwhile_is_open_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a notebook could load no model of a hub after one call of ours."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "constants", constants)  # put back afterwards
    monkeypatch.delitem(sys.modules, constants.__name__)
    with egress.closed():
        loaded = importlib.import_module(constants.__name__)
        assert loaded is not constants and loaded.HF_HUB_OFFLINE
    assert not loaded.HF_HUB_OFFLINE


# ---- every command, in a process of its own

FULL = {
    "data": MINI["data"] | {"preference": "builtin:clinic", "patients": 120, "heldout": 6},
    "training": MINI["training"]
    | {"dpo_private": MINI["training"]["private"], "dpo_nonprivate": MINI["training"]["nonprivate"]},
    "grid": {"epsilons": [8], "dpo": ["sigmoid"], "dpo_epsilons": [8]},
    "attacks": ["mia", "extract", "preference"],
    "judging": {"rubric": "likelihood", "prompts": 2},
    "evaluation": MINI["evaluation"] | {"limit": 4},
}
EVERY = """
init data.jsonl --out drafted.yaml
train --suite own.yaml --workers 2
attack mia --shadows 2 --arm sft-eps8
attack extract
attack preference
attack list
eval
judge
judge validate
judge replay
judge --answers mine.jsonl --against theirs.jsonl --controls builtin:clinic
judge replay --out judged
scorecard answers.jsonl
report
report html
report md --out page.md
report csv
report html --public
report card sft-eps8
report junit
report json
report verify
report diff NAME NAME
plan own.yaml --no-measure
run own.yaml
ls
show
show --adapter merged-from
merge --arm sft-eps8 --out merged
generate data.jsonl --run NAME --arm sft-eps8 --max-new-tokens 4 --out answers
generate data.jsonl --model merged --max-new-tokens 4 --out merged.jsonl
plant data.jsonl --out planted.jsonl --key key.json --canaries 100
verify --adapter ADAPTER --base MODEL --key key.json --claim CLAIM
verify --model merged --base builtin:tiny --key key.json --claim CLAIM --out second
verify --run NAME --arm sft-eps8 --claim eps=3,delta=1e-5,unit=patient,relation=add_or_remove
account --sigma 1 --rate 0.1 --steps 10 --delta 1e-5
bound one-run --canaries 100 --guesses 50 --correct 30 --delta 1e-5
bound scores scores.csv --delta 1e-5
bound power --eps 8 --rate 0.1 --steps 10 --delta 1e-5 --canaries 100
doctor
list
rm NAME --yes
""".strip().splitlines()
ALIKE = {"demo": "run"}  # the same work on another suite, which takes a minute
TYPES = """
import sys
from pathlib import Path
from dpaudit import cli
for line in sys.stdin.read().splitlines():
    run = max(Path("runs").glob("mini-*"), default=Path("none"))
    named = {"NAME": run.name, "merged-from": str(run / "train" / "sft-eps8")}
    sys.argv = ["dpaudit", *(named.get(word, word) for word in line.split())]
    try:
        cli.main()
    except SystemExit as ended:
        print(f"ended {int(ended.code or 0)} {line}", file=sys.stderr, flush=True)
"""


def commands() -> list[str]:
    """All that can be typed, from the command line's own tables: `attack mia`; a group that works alone too,
    as `judge` does.
    """

    def below(words: list[str], command: Any) -> Iterator[str]:
        inner = getattr(command, "commands", {})
        if not inner or "run" in {option.name for option in command.params}:
            yield " ".join(words)
        for name, one in inner.items():
            yield from below([*words, name], one)

    return sorted(below([], typer.main.get_command(cli.app)))


def typed_as(line: str) -> str:
    """The command of a line of `EVERY`."""
    return next(
        known for known in sorted(commands(), key=len, reverse=True) if f"{line} ".startswith(f"{known} ")
    )


def test_the_watch_goes_over_every_command_that_there_is() -> None:
    assert {typed_as(line) for line in EVERY} | set(ALIKE) == set(commands())


@pytest.mark.slow
def test_no_command_tries_to_connect(toy_model_dir: Path, toy_adapter_dir: Path, tmp_path: Path) -> None:
    """One new process types them all, since loading libraries takes longer than most of them; workers are its
    own.
    """
    (tmp_path / "own.yaml").write_text(
        yaml.safe_dump(MINI | FULL | {"model": {"base": "builtin:tiny", "max_length": 96}})
    )
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Question {i}?"},
                {"role": "assistant", "content": f"Answer {i}."},
            ]
        }
        for i in range(12)
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = [{"name_key": f"privacy_{i}", "answer": f"word {i}", "reference": f"word {i}"} for i in range(4)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    for name in ("mine", "theirs"):
        row = {"prompt": "Why?", "answer": name}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "scores.csv").write_text("score,included\n" + "".join(f"{i},{i % 2}\n" for i in range(100)))
    (tmp_path / "hooked").mkdir()
    environment = no_network.environment(tmp_path / "hooked")
    probe = "import socket; socket.create_connection(('example.org', 80))"
    subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=False)
    tried = tmp_path / "hooked" / "tried"
    assert "example.org" in tried.read_text()
    tried.unlink()
    named = {"ADAPTER": str(toy_adapter_dir), "MODEL": str(toy_model_dir), "CLAIM": CLAIM}
    lines = [" ".join(named.get(word, word) for word in line.split()) for line in EVERY]
    done = subprocess.run(
        [sys.executable, "-c", TYPES],
        cwd=tmp_path,
        env=environment,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    ended = [line.split(maxsplit=2)[1:] for line in done.stderr.splitlines() if line.startswith("ended ")]
    assert [line for _, line in ended] == lines, done.stderr[-2000:]
    assert {code for code, _ in ended} <= {"0", "1", "4"}, done.stderr[-2000:]
    assert not tried.exists(), tried.read_text()


# ---- a hub on this machine


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of a model hub as fetching needs: one model, the toy's folder."""

    folder: Path
    asked: list[str]
    COMMIT = "0" * 40

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def do_GET(self) -> None:
        self._answer(send=True)

    def _answer(self, send: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        name = path.rpartition("/")[2]
        if path.startswith("/api/models/"):
            content = self._listed(path)
        elif (self.folder / name).is_file():
            content = (self.folder / name).read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for key, value in (
            ("Content-Length", str(len(content))),
            ("ETag", f'"{name}"'),
            ("X-Repo-Commit", self.COMMIT),
        ):
            self.send_header(key, value)
        self.end_headers()
        if send:
            self.wfile.write(content)

    def _listed(self, path: str) -> bytes:
        files = [file for file in self.folder.iterdir() if file.is_file()]
        if "/tree/" in path:
            rows = [
                {"type": "file", "oid": file.name, "size": file.stat().st_size, "path": file.name}
                for file in files
            ]
            return json.dumps(rows).encode()
        found = {"id": ID, "sha": self.COMMIT, "siblings": [{"rfilename": file.name} for file in files]}
        return json.dumps(found).encode()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of a hub that has the toy model as ID."""
    from huggingface_hub import constants

    Hub.folder, Hub.asked = toy_model_dir, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield Hub.asked
    server.shutdown()
    server.server_close()


def test_a_typed_model_is_fetched_once_and_read_from_its_folder(hub: list[str], toy_model_dir: Path) -> None:
    from dpaudit.models import hf, hf_model, preflight
    from dpaudit.models import hub as models
    from dpaudit.stages.integrity import weights

    with egress.closed():
        with pytest.raises(UsageError, match=f"type --model {ID}"):
            hf.load_model(ID)
        models.fetch(ID, "--model", weights=False)
        assert not any(path.endswith(".safetensors") for path in hub)
        with pytest.raises(UsageError, match=f"type --model {ID}"):
            hf.load_model(ID)
        models.fetch(ID, "--model")
        asked = len(hub)
        models.fetch(ID, "--model")
        preflight.check(ID)
        hf_model.HFModel.load(ID)
        assert len(hub) == asked
        assert weights.of_base(ID) == weights.of_base(str(toy_model_dir))


def test_a_hubs_model_without_safetensors_is_told(
    hub: list[str], toy_model_dir: Path, tmp_path: Path
) -> None:
    from dpaudit.models import hub as models

    shutil.copytree(toy_model_dir, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    Hub.folder = tmp_path / "pickled"
    with egress.closed(), pytest.raises(UsageError, match="a repository without"):
        models.fetch(ID, "--model")
