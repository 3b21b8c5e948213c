"""The run directory: the only interface between stages. Outputs are renamed into place last and name their inputs."""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit import content
from dpaudit.errors import UsageError

RUNS = Path("runs")


@dataclass(frozen=True)
class RunDir:
    """One run on disk. `path` is `runs/NAME`; every method takes paths relative to it."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    def file(self, relative: str) -> Path:
        return self.path / relative

    def read_json(self, relative: str) -> dict[str, Any]:
        """The JSON object in `relative`. Raises UsageError where it is missing or broken, with the stage to run."""
        path = self.file(relative)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise missing(path) from None
        except json.JSONDecodeError as error:
            raise UsageError(str(path), expected="JSON", got=f"a syntax error in line {error.lineno}",
                             remedy="delete the file and type the command again") from error  # fmt: skip
        if not isinstance(data, dict):
            raise UsageError(str(path), expected="a JSON object", got=type(data).__name__)
        return data

    def write_json(self, relative: str, data: dict[str, Any], inputs: Iterable[str] = ()) -> None:
        """Writes `data` as a whole or not at all; `inputs` (relative paths) are hashed into its key "inputs"."""
        stamped = {**data, "inputs": self.digests(inputs)}
        write_text(
            self.file(relative), json.dumps(stamped, ensure_ascii=False, indent=1, default=_plain) + "\n"
        )

    def read_lines(self, relative: str) -> list[dict[str, Any]]:
        return list(self.iterate_lines(relative))

    def iterate_lines(self, relative: str) -> Iterator[dict[str, Any]]:
        """The rows of a JSONL file one at a time, for files that are larger than memory."""
        path = self.file(relative)
        if not path.is_file():
            raise missing(path)
        with path.open(encoding="utf-8") as stream:
            yield from (json.loads(line) for line in stream if line.strip())

    def write_lines(self, relative: str, rows: Iterable[dict[str, Any]]) -> None:
        """Writes the rows one by one; the file appears as a whole or not at all."""
        lines = (json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)
        _write_pieces(self.file(relative), lines)

    def digest(self, relative: str) -> str:
        """SHA-256 of a file. Never called on private data: prepare writes keyed hashes of it to corpus/manifest.json."""
        path = self.file(relative)
        if not path.is_file():
            raise missing(path)
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:32]

    def digests(self, inputs: Iterable[str]) -> dict[str, str]:
        return {relative: self.digest(relative) for relative in inputs}

    def keyed_digest(self, relative: str) -> str:
        """HMAC-SHA-256 of a private file under the run's secret key: a plain hash would confirm a guessed corpus."""
        return keyed_file_digest(self.file(relative), self.hash_key())

    def hash_key(self) -> bytes:
        """The key of `keyed_digest`. Raises UsageError where the run's secret folder is gone."""
        try:
            return self.secret_file("hash.key").read_bytes()
        except OSError as error:
            raise UsageError(str(self.secret_file("hash.key")), expected="the run's secret key",
                             got=error.strerror or "an error", remedy="restore the run's secret/ folder") from error  # fmt: skip

    def secret_file(self, name: str) -> Path:
        """A file in `secret/` (mode 0700). Only prepare, train and audit may ask for one."""
        return self.path / "secret" / name

    def is_current(self, relative: str, inputs: Iterable[str]) -> bool:
        """Whether `relative` exists and was made from `inputs` as they are now (so the work can be skipped)."""
        path = self.file(relative)
        if not path.is_file():
            return False
        try:
            return self.recorded_inputs(relative) == self.digests(inputs)
        except (UsageError, ValueError):  # pyarrow's own error for what is no Parquet is a ValueError
            return False

    def require_current(self, relative: str, inputs: Iterable[str], command: str) -> None:
        """Raises UsageError where `relative` is missing or stale; `command` is the remedy (`dpaudit train`)."""
        if not self.file(relative).is_file():
            raise missing(self.file(relative), command)
        recorded = self.recorded_inputs(relative)
        for name, digest in self.digests(inputs).items():
            if recorded.get(name) != digest:
                raise UsageError(str(self.file(relative)), expected=f"a file made from the present {name}",
                                 got="one made from an earlier state", remedy=f"type `{command}` again")  # fmt: skip

    def recorded_inputs(self, relative: str) -> dict[str, str]:
        """The input hashes that an output carries: key "inputs" of JSON, metadata "inputs" of Parquet."""
        path = self.file(relative)
        if path.suffix == ".parquet":
            import pyarrow.parquet

            metadata = pyarrow.parquet.read_schema(path).metadata or {}
            return dict(json.loads(metadata.get(b"inputs", b"{}")))
        return dict(self.read_json(relative).get("inputs", {}))

    def work_folder(self, relative: str) -> Path:
        """A new folder beside `relative`, mode 0700, whose name `sweep` knows: who asks for it removes it."""
        final = self.file(relative)
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
        temporary.mkdir(parents=True, mode=0o700)  # texts and secrets are in it
        return temporary

    @contextmanager
    def whole_directory(self, relative: str) -> Iterator[Path]:
        """A temporary directory that becomes `relative` when the block ends without an error, else vanishes."""
        final, temporary = self.file(relative), self.work_folder(relative)
        try:
            yield temporary
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)


def keyed_file_digest(path: Path, key: bytes) -> str:
    """HMAC-SHA-256 of a file's bytes, or of the names and bytes below a folder. Raises UsageError where it cannot be read."""
    code = hmac.new(key, digestmod=hashlib.sha256)
    files = sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
    try:
        for file in files:
            if path.is_dir():
                code.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
            with file.open("rb") as stream:
                while piece := stream.read(1 << 20):
                    code.update(piece)
    except OSError as error:
        raise UsageError(str(path), expected="a readable file", got=error.strerror or "an error") from error
    return code.hexdigest()[:32]


def write_text(path: Path, text: str) -> None:
    """Writes under a temporary name and renames last: the file's presence means it is whole."""
    _write_pieces(path, [text])


def _write_pieces(path: Path, pieces: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def missing(path: Path, command: str = "") -> UsageError:
    """The error for an output that an earlier stage has not made; the stage is known from the path."""
    stages = {"train": "train", "attack": "attack mia", "audit": "attack mia", "evaluate": "eval", "judge": "judge",
              "report": "report html"}  # fmt: skip
    stage = next((stages[part] for part in reversed(path.parts) if part in stages), "train")
    if stage == "attack mia" and path.stem in content.listing("attacks"):
        stage = f"attack {content.load_yaml(content.find('attacks', path.stem)).get('kind', 'mia')}"
    return UsageError(str(path), expected="a finished output", got="no such file",
                      remedy=f"type `{command or 'dpaudit ' + stage}` first")  # fmt: skip


@contextmanager
def locked(run_dir: RunDir) -> Iterator[None]:
    """Keeps a second command on this machine from training the same run. Raises UsageError where one is at it.

    The lock is the process's own and ends with it, however it ends; nothing of it is in the run.
    """
    name = hashlib.sha256(str(run_dir.path.resolve()).encode()).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"dpaudit-{name}.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(str(run_dir.path), expected="a run that nobody is training", got="another dpaudit at work on it",
                             remedy="wait for it to end") from None  # fmt: skip
        yield


def sweep(run_dir: RunDir) -> None:
    """Removes what killed commands left under temporary names. Only under `locked`."""
    for left in run_dir.path.glob("**/.*.tmp"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def existing(runs: Path = RUNS) -> list[RunDir]:
    """All whole runs, newest use last."""
    plans = [p for p in runs.glob("*/plan.json") if not p.parent.name.startswith(".")]
    return [
        RunDir(p.parent) for p in sorted(plans, key=lambda p: (p.parent.stat().st_mtime_ns, p.parent.name))
    ]


def find(name: str | None, runs: Path = RUNS) -> RunDir:
    """The run named `name` or, for None, the one used last. Raises UsageError where there is none."""
    known = existing(runs)
    if not known:
        raise UsageError(
            f"{runs}/{name or ''}",
            expected="a run",
            got="none at all",
            remedy="type `dpaudit train` or `dpaudit demo` first",
        )
    if name is None:
        return known[-1]
    for run in known:
        if run.name == Path(name).name:
            return run
    names = ", ".join(run.name for run in known)
    raise UsageError(
        f"{runs}/{name}", expected=f"one of {names}", got="no such run", remedy="see `dpaudit ls`"
    )


def located(plan: dict[str, Any], name: str, runs: Path = RUNS) -> RunDir:
    """Where the run of exactly this plan is or would be: the run is called `name` and a hash of the plan."""
    return RunDir(runs / f"{name}-{hashlib.sha256(_plan_text(plan).encode()).hexdigest()[:8]}")


def open_or_create(plan: dict[str, Any], name: str, runs: Path = RUNS) -> RunDir:
    """The run of exactly this plan: the existing one (to resume), or a new one holding plan.json and nothing else.

    `plan` is the resolved suite with seeds and versions.
    """
    run = located(plan, name, runs)
    if run.file("plan.json").is_file():
        os.utime(run.path)  # the run used last is the one that the next command finds
        return run
    with RunDir(runs).whole_directory(run.name) as temporary:
        (temporary / "plan.json").write_text(_plan_text(plan), encoding="utf-8")
    return run


def _plan_text(plan: dict[str, Any]) -> str:
    return json.dumps(plan, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _plain(value: object) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()  # NumPy scalars and arrays
    raise TypeError(f"not JSON: {type(value).__name__}")
