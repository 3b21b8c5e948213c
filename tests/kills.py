"""Commands that are killed at any moment: a server that starts them without the seconds of imports, and what
must hold after.

Run as a script it is the server: it imports what commands use, then for each line of JSON on stdin forks a
process that is `dpaudit WORDS` in a session of its own, as a shell would have started it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml

from dpaudit.storage.custody import keyed_file_digest

ORPHANS = 5.0  # seconds that a worker may outlive its parent
VOLATILE = {  # times, and hashes of what has times in it
    "seconds", "tokens_per_second", "peak_memory_mb", "device", "inputs", "custody", "sha256", "files",
    "outside", "source",
    "milliseconds", "hashes", "manifest", "shadow_seconds",
}  # fmt: skip
TRAINING = ("torch", "transformers", "peft", "safetensors.torch", "dpaudit.cli", "dpaudit.stages.train.train",
    "dpaudit.stages.train.checkpoints",
            "dpaudit.training.loop", "dpaudit.models.adapter_files", "dpaudit.models.hf",
            "dpaudit.planting.plant")  # fmt: skip
ALL = (
    *TRAINING,
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.linear_model",
    "dp_accounting.pld.privacy_loss_distribution",
    "jinja2",
    "dpaudit.stages.attack.attack",
    "dpaudit.stages.audit.audit",
    "dpaudit.stages.verify",
    "dpaudit.stages.train.merge",
    "dpaudit.stages.report",
    "dpaudit.stages.judge",
)


def serve() -> list[str] | None:
    """Forks for every line; in the forked process, the words of its command come back."""
    import importlib

    for name in sys.argv[1:]:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
        elif (child := os.fork()) == 0:
            return _become(asked)
        else:
            print(child, flush=True)
    return None


def _become(asked: dict[str, Any]) -> list[str]:
    os.setsid()
    os.chdir(asked["folder"])
    os.environ["TMPDIR"] = asked["temporary"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test may run where a shell has it ignored
    out = os.open(asked["told"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    return list(asked["words"])


class Server:
    """Starts commands in `folder`s and tells how they ended."""

    def __init__(self, imports: Sequence[str]) -> None:
        root = str(Path(__file__).parents[1])
        environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, *imports],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._answer() == "ready"

    def start(self, words: Sequence[str], folder: Path) -> int:
        """The number of the process that runs `dpaudit WORDS` in `folder`."""
        temporary = beside(folder, "temporary")
        temporary.mkdir(exist_ok=True)
        asked = {"folder": str(folder), "temporary": str(temporary), "told": str(beside(folder, "told"))}
        return int(self._asked({"words": words, **asked}))

    def wait(self, pid: int) -> int:
        return int(self._asked({"wait": pid}))

    def run(self, words: Sequence[str], folder: Path) -> int:
        return self.wait(self.start(words, folder))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _asked(self, question: dict[str, Any]) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@dataclass(frozen=True)
class Stage:
    """A command, in what state of the folder it is typed, and which files it may leave differently each
    time.
    """

    name: str
    words: tuple[str, ...]
    state: str
    final: str = ""  # of a command that refuses to write over its output
    code: int = 0  # with which it ends
    same: str = "**/*"  # which files it leaves as an unbroken one does; others are drawn anew each time


@dataclass
class World:
    """States of a folder, each as an earlier command left it, and how an unbroken command ends in it."""

    server: Server
    place: Path
    states: dict[str, Path] = field(default_factory=dict)
    unbroken: dict[str, tuple[float, dict[str, bytes]]] = field(default_factory=dict)

    def copy(self, state: str, name: str) -> Path:
        folder = self.place / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.states[state], folder, symlinks=True)
        return folder

    def expected(self, stage: Stage) -> tuple[float, dict[str, bytes]]:
        """Seconds and results of an unbroken command."""
        if stage.name not in self.unbroken:
            folder = self.copy(stage.state, f"unbroken-{stage.name}")
            began = time.monotonic()
            code = self.server.run(stage.words, folder)
            assert code == stage.code, told(folder)
            assert left(folder) == []
            self.unbroken[stage.name] = (time.monotonic() - began, results(folder, stage.same))
        return self.unbroken[stage.name]


def beside(folder: Path, name: str) -> Path:
    return folder.with_name(f"{folder.name}-{name}")


def told(folder: Path) -> str:
    """What the last command in `folder` printed, to stdout and stderr."""
    return beside(folder, "told").read_text(encoding="utf-8")


def killed(world: World, stage: Stage, number: signal.Signals, pick: Random) -> bool:
    """Kills the stage's command once, the parent alone, types it again and checks what must hold; whether it
    was at work still.
    """
    seconds, wanted = world.expected(stage)
    folder = world.copy(stage.state, "broken")
    pid = world.server.start(stage.words, folder)
    wait_for_moment(folder, seconds, pick)
    os.kill(pid, number)
    code = world.server.wait(pid)
    where = f"{stage.name}, {number.name}: "
    orphans = still_running(pid)
    assert orphans == [], f"{where}outlived its parent: {orphans}"
    ledgers_cover_weights(folder, where)
    hit = code != stage.code
    if number != signal.SIGKILL:
        assert code in (stage.code, 130), f"{where}exit {code}: {told(folder)}"
        assert left(folder, interrupted=True) == [], f"{where}left {left(folder, interrupted=True)}"
    is_done = bool(stage.final) and (folder / stage.final).exists()  # and then never overwritten
    assert world.server.run(stage.words, folder) == (2 if is_done else stage.code), where + told(folder)
    assert left(folder) == [], f"{where}left after the next start: {left(folder)}"
    check_results(folder, stage, wanted, where)
    return hit


def check_results(folder: Path, stage: Stage, wanted: dict[str, bytes], where: str) -> None:
    """As an unbroken command's; and planted data are those that the key is of."""
    found = results(folder, stage.same)
    assert found.keys() == wanted.keys(), f"{where}{found.keys() ^ wanted.keys()}"
    assert [name for name in found if found[name] != wanted[name]] == [], where
    if (folder / "out.jsonl").exists():
        key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
        digest = keyed_file_digest(folder / "out.jsonl", bytes.fromhex(key["hash_key"]))
        assert digest == key["data_digest"], where


def wait_for_moment(folder: Path, seconds: float, pick: Random) -> None:
    """A random moment, in half of the calls one at which something is being written."""
    began = time.monotonic()
    moment = 0.05 + pick.random() * seconds
    if pick.random() < 0.5:
        time.sleep(moment)
        return
    wanted, seen = pick.randrange(1, 12), set[str]()
    while len(seen) < wanted and time.monotonic() - began < seconds:
        seen.update(temporary_names(folder))
        time.sleep(0.0005)
    time.sleep(pick.random() * 0.005)


def temporary_names(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        yield from (f"{place}/{name}" for name in (*folders, *files) if name.endswith(".tmp"))


def still_running(session: int) -> list[str]:
    """What of a session is there after some seconds."""
    deadline = time.monotonic() + ORPHANS
    while (found := list(of_session(session))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def of_session(session: int) -> Iterator[str]:
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            yield place.parent.name


def left(folder: Path, interrupted: bool = False) -> list[str]:
    """Work folders, locks and half-made files; once a command has ended in peace, checkpoints too."""
    places = (folder, beside(folder, "temporary"))
    names = [
        path
        for place in places
        for path in place.rglob("*")
        if path.name.endswith((".tmp", ".lock")) or path.name.startswith("dpaudit-")
    ]
    if not interrupted:
        names += [*folder.glob("runs/*/train/.*"), *folder.glob("runs/*/secret/states/*")]
    return [str(path.relative_to(folder.parent)) for path in names]


def ledgers_cover_weights(folder: Path, where: str) -> None:
    """No weights on the disk without a ledger of at least the steps that they had."""
    for weights in folder.glob("runs/*/train/.*.partial/*/state.safetensors"):
        if weights.parent.name.isdigit():
            ledger = json.loads((weights.parents[1] / "privacy.json").read_text(encoding="utf-8"))
            assert ledger["steps_done"] >= int(weights.parent.name), where
    for weights in folder.glob("runs/*/train/*/adapter/adapter_model.safetensors"):
        ledger = json.loads((weights.parents[1] / "privacy.json").read_text(encoding="utf-8"))
        assert ledger["steps_done"] == ledger["mechanism"]["steps"], where


def results(folder: Path, pattern: str) -> dict[str, bytes]:
    """The files that a command left, without times, and without hashes of what has times in it."""
    files = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    found = {str(path.relative_to(folder)): path for path in files}
    return {name: READERS.get(path.suffix, Path.read_bytes)(path) for name, path in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _json(path: Path) -> bytes:
    return json.dumps(_plain(json.loads(path.read_text(encoding="utf-8"))), sort_keys=True).encode()


def _lines(path: Path) -> bytes:
    rows = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(json.dumps(_plain(json.loads(row)), sort_keys=True) for row in rows).encode()


def _table(path: Path) -> bytes:
    import pyarrow.parquet

    return json.dumps(pyarrow.parquet.read_table(path).to_pylist()).encode()


def _there(path: Path) -> bytes:
    return b"there"  # a page: report.json beside it has its figures


READERS: dict[str, Callable[[Path], bytes]] = {
    ".json": _json,
    ".jsonl": _lines,
    ".parquet": _table,
    ".html": _there,
}


SCHEDULE = {"batch": 16, "steps": 12, "learning_rate": 0.01}
SUITE = {
    "name": "killed",
    "data": {
        "source": "builtin:clinic",
        "preference": "builtin:clinic",
        "text": "builtin:clinic",
        "patients": 60,
        "heldout": 8,
    },
    "candidates": {"canaries": 100, "records": 10, "extraction": 4, "extraction_repetitions": 2},
    "training": {
        "clip": 0.1,
        "checkpoint_every": 2,
        **{
            f"{method}{kind}": SCHEDULE
            for method in ("", "dpo_", "cpt_")
            for kind in ("private", "nonprivate")
        },
        "lora": {"rank": 2, "alpha": 4, "dropout": 0.1},
    },
    "grid": {"epsilons": [8], "stages": ["cpt", "sft"], "dpo": ["sigmoid"], "dpo_epsilons": [8]},
    "attacks": ["mia", "extract"],
    "evaluation": {"tasks": [{"name": "clinic_choice", "data": "builtin:clinic"}], "limit": 4},
    "judging": {"prompts": 3, "max_new_tokens": 8},
}
TRAIN = ("train", "--suite", "suite.yaml", "--insecure-seed", "5")
ARM = ("--arm", "sft-eps8")
STAGES = [
    Stage("prepare", (*TRAIN, "--workers", "1", "--arm", "sft-inf"), "empty", same="**/*.safetensors"),
    Stage("train sft", (*TRAIN, "--workers", "1", "--arm", "sft-inf", *ARM), "prepared"),
    Stage("train one", (*TRAIN, "--workers", "1", "--arm", "sft-inf"), "prepared"),
    Stage("train cpt", (*TRAIN, "--workers", "1", "--arm", "cpt-eps8"), "prepared"),
    Stage("train dpo", (*TRAIN, "--workers", "1", "--arm", "dpo-sigmoid-eps8"), "prepared"),
    Stage("train two workers", (*TRAIN, "--workers", "2"), "prepared"),
    Stage(
        "shadows", ("attack", "mia", *ARM, "--shadows", "4", "--recipe", "rmia", "--workers", "1"), "trained"
    ),
    Stage(
        "shadows two workers",
        ("attack", "mia", *ARM, "--shadows", "4", "--recipe", "rmia", "--workers", "2"),
        "trained",
    ),
    Stage("attack", ("attack", "mia", *ARM), "trained"),
    Stage("extract", ("attack", "extract", *ARM), "trained"),
    Stage("eval", ("eval",), "trained"),
    Stage("judge", ("judge",), "trained"),
    Stage("report", ("report", "html"), "attacked"),
    Stage(
        "merge",
        ("merge", *ARM, "--out", "merged"),
        "trained",
        final="merged",
        same="merged/[!c]*",  # config.json has the hash of a salted ledger
    ),
    Stage(
        "plant",
        ("plant", "data.jsonl", "--out", "out.jsonl", "--key", "key.json", "--canaries", "100"),
        "empty",
        final="out.jsonl",
        same="data.jsonl",
    ),
    Stage(
        "verify",
        (
            "verify",
            "--adapter",
            "adapter/adapter",
            "--key",
            "key.json",
            "--claim",
            "eps=8,delta=1e-5,unit=record,relation=add_or_remove",
        ),
        "planted",
        code=4,
    ),
]
BY_NAME = {stage.name: stage for stage in STAGES}


def rows() -> Iterator[str]:
    for number in range(300):
        told = [
            ("human", f"Question {number}: what helps against pain number {number % 7}?"),
            ("gpt", f"Rest, and {number % 11} tablets."),
        ]
        yield json.dumps({"conversations": [{"from": who, "value": text} for who, text in told]})


def begun(server: Server, place: Path, model: Path) -> World:
    """A world with the state `empty`: a suite, and data to plant into."""
    world = World(server, place)
    empty = world.states["empty"] = place / "empty"
    empty.mkdir()
    (empty / "suite.yaml").write_text(
        yaml.safe_dump(SUITE | {"model": {"base": str(model), "max_length": 96}})
    )
    (empty / "data.jsonl").write_text("".join(f"{row}\n" for row in rows()))
    return world


def advance(world: World, state: str, of: str, *words: str) -> Path:
    """The new `state` that a command makes of an older one."""
    folder = world.copy(of, state)
    world.states[state] = folder
    assert world.server.run(words, folder) == 0, told(folder)
    return folder


def trained(world: World, *options: str) -> None:
    """The states `prepared` and `trained`."""
    folder = advance(world, "trained", "empty", *TRAIN, "--workers", "1", *options)
    world.states["prepared"] = world.place / "prepared"
    shutil.copytree(folder, world.states["prepared"])
    [arms] = world.states["prepared"].glob("runs/*/train")
    shutil.rmtree(arms)


def whole(server: Server, place: Path, model: Path) -> World:
    """A world with every state that a stage begins in."""
    world = begun(server, place, model)
    trained(world)
    advance(world, "attacked", "trained", "attack", "mia", *ARM)
    planted = advance(world, "planted", "empty", *BY_NAME["plant"].words)
    [arm] = world.states["trained"].glob("runs/*/train/sft-eps8")
    shutil.copytree(arm, planted / "adapter")
    return world


@contextmanager
def served(imports: Sequence[str] = ALL) -> Iterator[Server]:
    server = Server(imports)
    try:
        yield server
    finally:
        server.close()


if __name__ == "__main__":
    if (words := serve()) is not None:
        from dpaudit import cli

        sys.argv = ["dpaudit", *words]
        cli.main()
