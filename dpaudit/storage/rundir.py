"""The run directory: the only interface between stages. Outputs are renamed into place last and name their
inputs.
"""

import functools
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from dpaudit import content
from dpaudit.errors import UsageError, kind_of, unread
from dpaudit.storage import custody, disk, lock

RUNS = Path("runs")
PRIVATE = 0o600  # of files that hold prompts, answers or records, wherever somebody copies them
PLAN = "plan.json"
SEAL_KEY = "custody/seal.key"
SEAL_LOST = (
    "custody/seal.lost"  # made by hand, for a key that is gone for good: the run goes on without seals
)
RELEASE = "custody/release.json"  # that coins were drawn: others would be a second release
WRITES = {  # the folders of a run that a kind of work writes in: what a killed one left there is swept
    "train": ("", "corpus/**/", "custody/", "custody/trained/", "secret/**/", "train/**/"),
    "attack": ("attack/**/",),
    "shadows": ("attack/*/shadows/",),
    "audit": ("audit/**/", "custody/results/audit/"),
    "evaluate": ("evaluate/**/", "custody/results/evaluate/"),
    "judge": ("judge/**/", "custody/results/judge/"),
    "report": ("report/**/",),
    "records": ("records/**/", "custody/records/"),
}
NOTED = ("audit", "evaluate", "judge")  # stages whose results are missed when they are gone
_SOUND: set[tuple[bytes, str, bytes | None]] = (
    set()
)  # hash, place and seal key of outputs that were found as written
_SEEN: dict[tuple[Path, str], str] = {}  # see `RunDir.read_now`
_TEMPORARY = re.compile(r"(^|/)\.([^/]+)\.[0-9a-f]{8}\.tmp(?=/|$)")  # as `RunDir.new_folder` names it

P = ParamSpec("P")
R = TypeVar("R")


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
        """The JSON object in `relative`, as this run wrote it there.

        Raises UsageError with the way out where it is missing, broken, altered, or was written for another
        place or run. plan.json carries no stamp of its own: what was made from it tells its hash.
        """
        path = self.file(relative)
        try:
            text = path.read_text(encoding="utf-8")
            data = json.loads(text)
        except FileNotFoundError:
            is_made_again = relative != PLAN and not relative.startswith("records/")
            raise missing(path) if is_made_again else self.refused(relative, "no such file") from None
        except json.JSONDecodeError as error:
            raise self.refused(relative, f"a syntax error in line {error.lineno}", "JSON") from None
        except (ValueError, RecursionError):  # bytes that are no text, a number of thousands of digits
            raise self.refused(relative, "something else", "JSON") from None
        if not isinstance(data, dict):
            raise self.refused(relative, kind_of(data), "a JSON object")
        if relative == PLAN:
            return data
        key, place = self.seal_key(), _final(relative)
        seen = hashlib.sha256(text.encode()).digest(), place, key
        if seen not in _SOUND:  # the same bytes at the same place are looked at once
            if (wrong := custody.fault(data, place, key)) is not None:
                raise self.refused(relative, wrong)
            _SOUND.add(seen)
        del data[custody.KEY]
        return data

    def refused(self, relative: str, got: str, expected: str = "the file as this run wrote it") -> UsageError:
        """The error for a file that is not what the run wrote; the way out follows from its place."""
        return UsageError(str(self.file(relative)), expected, got, self._way_out(relative))

    def _way_out(self, relative: str) -> str:
        stage, _, rest = relative.partition("/")
        name = rest.partition("/")[0]
        if stage == "train" and name.endswith(".partial"):
            return f"restore it, or delete {self.file(f'train/{name}')} to train that arm from its start"
        if stage == "train" and name:
            return (
                f"restore it from a copy, or delete {self.file(f'train/{name}')} and type `dpaudit train`: a "
                f"second "
                "training on the same records"
            )
        if stage == "attack" and "/shadows/" in relative:
            folder = self.path / Path(*Path(relative).parts[:4])
            return f"delete {folder} and type `dpaudit attack mia` with --shadows again"
        if stage == "records" or relative.startswith("custody/records/"):
            return (
                "restore it and custody/records/ from one copy, or delete it and type `dpaudit run SUITE`, "
                "which writes it again "
                "as added later and notes that entries were lost"
            )
        if stage in ("attack", "audit", "evaluate", "judge", "report"):
            return f"delete it and type `{_command(Path(relative))}` again"
        if relative == RELEASE:
            return (
                "restore it from a copy, or delete it and type `dpaudit train`, which writes it again "
                "from corpus/"
            )
        return (
            f"restore it from a copy, or delete {self.path} to begin again: a second release on the same "
            f"records"
        )

    def seal_key(self) -> bytes | None:
        """The key of this run's seals; None where it is not there, or given up: then hashes are checked and
        seals are not.

        Raises UsageError for a broken one.
        """
        path = self.file(SEAL_KEY)
        if self.file(SEAL_LOST).exists():
            return None
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            return None
        if len(key) != custody.KEY_BYTES:
            raise UsageError(
                str(path),
                f"a key of {custody.KEY_BYTES} bytes",
                f"{len(key)} bytes",
                "restore it from a copy; without it seals cannot be checked",
            )
        return key

    def sealed_under(self, relative: str) -> str | None:
        """Which key sealed a JSON output, as it tells itself; None where it tells none, or cannot be read."""
        try:
            told = json.loads(self.file(relative).read_text(encoding="utf-8"))[custody.KEY]["key"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return told if isinstance(told, str) else None

    @property
    def is_sealable(self) -> bool:
        """Whether what is written now fits what was written before: not where that is sealed and the key is
        away.
        """
        if self.seal_key() is not None or self.file(SEAL_LOST).exists():
            return True
        return not any(
            map(self.sealed_under, ("corpus/manifest.json", RELEASE, "custody/records/chain.json"))
        )

    def require_sealable(self) -> None:
        """Raises UsageError where what is written now would be refused once the key is back."""
        if not self.is_sealable:
            raise UsageError(
                str(self.file(SEAL_KEY)),
                "the key that this run's files are sealed under",
                "no such file",
                "put it back; if it is lost for good, make an empty file "
                f"{self.file(SEAL_LOST)}, and the run continues without seals",
            )

    def write_json(self, relative: str, data: dict[str, Any], inputs: Iterable[str] = ()) -> None:
        """Writes `data` as a whole or not at all; `inputs` (relative paths) are hashed into its key "inputs".

        The file carries the hash of its own content, sealed under the run's key where there is one.
        """
        self._note(_final(relative))
        plain = json.loads(json.dumps({**data, "inputs": self.digests(inputs)}, default=_plain))
        stamped = custody.stamped(plain, _final(relative), self.seal_key())
        write_text(self.file(relative), json.dumps(stamped, ensure_ascii=False, indent=1) + "\n")

    def _note(self, relative: str) -> None:
        """Keeps a list of the results that a stage writes, apart from them, so that one that is deleted is
        missed.
        """
        stage = relative.partition("/")[0]
        if stage in NOTED and not relative.endswith(sidecar("")):
            known = self._noted(stage)
            if relative not in known:
                self.write_json(_notes(stage), {"files": sorted([*known, relative])})

    def _noted(self, stage: str) -> list[str]:
        file = _notes(stage)
        return list(self.read_json(file)["files"]) if self.file(file).is_file() else []

    def gone(self) -> dict[str, str]:
        """Results that this run had, or was about to write when it was killed, and has not -> the command
        that makes them.
        """
        files = [file for stage in NOTED for file in self._noted(stage) if not self.file(file).is_file()]
        return {file: _command(Path(file)) for file in files}

    def read_lines(self, relative: str) -> list[dict[str, Any]]:
        return list(self.iterate_lines(relative))

    def iterate_lines(self, relative: str) -> Iterator[dict[str, Any]]:
        """The rows of a JSONL file one at a time, for files that are larger than memory."""
        path = self.file(relative)
        if not path.is_file():
            raise missing(path)
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield self._row(relative, number, line)

    def _row(self, relative: str, number: int, line: bytes) -> dict[str, Any]:
        """The JSON object in one line. Raises UsageError for anything else, and never quotes it."""
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise self.refused(relative, f"something else in line {number}", "a JSON object a line")
        return row

    def write_lines(self, relative: str, rows: Iterable[dict[str, Any]]) -> None:
        """Writes the rows one by one, for their owner's eyes alone; the file appears as a whole or not at
        all.
        """
        lines = (json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)
        _write_pieces(self.file(relative), lines, PRIVATE)

    def read_sealed_lines(self, relative: str) -> list[dict[str, Any]]:
        """The rows of a file that `write_sealed_lines` wrote. Raises UsageError for other bytes than it
        wrote.
        """
        self.require_sealed(relative)
        return self.read_lines(relative)

    def require_sealed(self, relative: str) -> None:
        """Raises UsageError for a file with other bytes than `write_sealed` wrote."""
        path, told = self.file(relative), self.file(sidecar(relative))
        if not path.is_file():
            raise missing(path)
        known = self.read_json(sidecar(relative))["sha256"] if told.is_file() else ()
        if custody.file_digest(path) not in known:
            raise self.refused(
                relative, "an altered one" if known else "one whose hash is not kept beside it"
            )

    def write_sealed_lines(self, relative: str, rows: Iterable[dict[str, Any]]) -> None:
        """Writes rows of JSON, for their owner's eyes alone, as `write_sealed` does."""
        text = "".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows)
        self.write_sealed(relative, text, PRIVATE)

    def write_sealed(self, relative: str, text: str, mode: int = 0o666, inputs: Iterable[str] = ()) -> None:
        """Writes a text as a whole or not at all, and its hash, sealed, with those of its inputs, to a file
        beside it.

        The hash comes first, beside that of the text before: whenever a kill comes, one of both fits.
        """
        path, told = self.file(relative), self.file(sidecar(relative))
        known = self.read_json(sidecar(relative))["sha256"] if told.is_file() else ()
        before = [one for one in known if path.is_file() and one == custody.file_digest(path)]
        after = hashlib.sha256(text.encode()).hexdigest()
        self.write_json(sidecar(relative), {"sha256": [after, *before]}, inputs)
        write_text(path, text, mode)

    def digest(self, relative: str) -> str:
        """SHA-256 of a file, or of one key of a JSON file (FILE#KEY).

        Never called on private data: prepare writes keyed hashes of it to corpus/manifest.json.
        """
        name, _, key = relative.partition("#")
        if key:
            told = json.dumps(self.read_json(name).get(key), sort_keys=True)
            return hashlib.sha256(told.encode()).hexdigest()[:32]
        path = self.file(relative)
        if not path.is_file():
            raise missing(path)
        return custody.file_digest(path)[:32]

    def digests(self, inputs: Iterable[str]) -> dict[str, str]:
        return {name: _SEEN.get((self.path, name)) or self.digest(name) for name in inputs}

    @contextmanager
    def read_now(self, inputs: Iterable[str]) -> Iterator[None]:
        """Within, these inputs count as they are at its beginning: whatever takes their place meanwhile was
        not read.
        """
        mine = {(self.path, name): digest for name, digest in self.digests(inputs).items()}
        _SEEN.update(mine)
        try:
            yield
        finally:
            for key in mine:
                _SEEN.pop(key, None)

    def keyed_digest(self, relative: str) -> str:
        """HMAC-SHA-256 of a private file under the run's secret key: a plain hash would confirm a guessed
        corpus.
        """
        if not self.file(relative).is_file():
            raise self.refused(relative, "no such file")
        return keyed_file_digest(self.file(relative), self.hash_key())

    def hash_key(self) -> bytes:
        """The key of `keyed_digest`. Raises UsageError where the run's secret folder is gone."""
        try:
            return self.secret_file("hash.key").read_bytes()
        except OSError as error:
            raise UsageError(
                str(self.secret_file("hash.key")),
                "the run's secret key",
                error.strerror or "an error",
                "restore the run's secret/ folder",
            ) from error

    def secret_file(self, name: str) -> Path:
        """A file in `secret/` (mode 0700). Only prepare, train and audit may ask for one."""
        return self.path / "secret" / name

    def is_current(self, relative: str, inputs: Iterable[str]) -> bool:
        """Whether `relative` exists and was made from `inputs` as they are now (so the work can be skipped).

        Raises UsageError for a file that is not as this run wrote it: what was altered is told, never made
        anew in silence.
        """
        if not self.file(relative).is_file():
            return False
        recorded = self.recorded_inputs(relative)
        names = list(inputs)
        return all(
            self.file(name.partition("#")[0]).is_file() for name in names
        ) and recorded == self.digests(names)

    def require_current(self, relative: str, inputs: Iterable[str], command: str) -> None:
        """Raises UsageError where `relative` is missing or stale; `command` is the remedy (`dpaudit
        train`).
        """
        if not self.file(relative).is_file():
            raise missing(self.file(relative), command)
        recorded = self.recorded_inputs(relative)
        for name, digest in self.digests(inputs).items():
            if recorded.get(name) != digest:
                raise UsageError(
                    str(self.file(relative)),
                    f"a file made from the present {name}",
                    "a file made from an earlier state",
                    f"type `{command}` again",
                )

    def recorded_inputs(self, relative: str) -> dict[str, str]:
        """The input hashes that an output carries: key "inputs" of JSON, metadata "inputs" of Parquet."""
        found = self.read_metadata(relative) if relative.endswith(".parquet") else self.read_json(relative)
        inputs = found.get("inputs", {})
        if not isinstance(inputs, dict):
            raise self.refused(relative, "one whose inputs are no mapping")
        return dict(inputs)

    def read_metadata(self, relative: str) -> dict[str, Any]:
        """What a Parquet output tells of itself. Raises UsageError as `read_json` does."""
        import pyarrow
        import pyarrow.parquet

        if not self.file(relative).is_file():
            raise missing(self.file(relative))
        try:
            metadata = pyarrow.parquet.read_schema(self.file(relative)).metadata or {}
            found = json.loads(metadata.get(custody.KEY.encode(), b"null"))
        except (pyarrow.ArrowException, OSError, ValueError, RecursionError):
            raise self.refused(relative, "a broken one") from None
        if not isinstance(found, dict):
            raise self.refused(relative, "one without its own hash")
        if (wrong := custody.fault(found, relative, self.seal_key())) is not None:
            raise self.refused(relative, wrong)
        return found

    def stamped_metadata(self, relative: str, told: dict[str, Any]) -> dict[str, str]:
        """The metadata with which a Parquet output tells `told` (what its rows are among it) of itself, under
        a seal.
        """
        return {custody.KEY: json.dumps(custody.stamped(told, relative, self.seal_key()))}

    def new_folder(self, relative: str) -> Path:
        """A new folder beside `relative`, mode 0700, whose name `sweep` knows: who asks for it removes it."""
        return _made(self._temporary(relative))

    def _temporary(self, relative: str) -> Path:
        final = self.file(relative)
        return final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")

    @contextmanager
    def work_folder(self, relative: str) -> Iterator[Path]:
        """A `new_folder` that is gone when the block ends."""
        folder = self._temporary(relative)
        with disk.gone_after(folder):
            _made(folder)
            with disk.room(folder.parent):
                yield folder

    @contextmanager
    def whole_directory(self, relative: str) -> Iterator[Path]:
        """A temporary directory that becomes `relative` when the block ends without an error, else
        vanishes.
        """
        final = self.file(relative)
        with self.work_folder(relative) as temporary:
            yield temporary
            if final.exists():
                shutil.rmtree(final)
            temporary.rename(final)


def _made(folder: Path) -> Path:
    with disk.room(folder.parent):
        folder.mkdir(parents=True, mode=0o700)  # texts and secrets are in it
    return folder


def keyed_file_digest(path: Path, key: bytes) -> str:
    """HMAC-SHA-256 of a file's bytes, or of the names and bytes below a folder. Raises UsageError where it
    cannot be read.
    """
    code = hmac.new(key, digestmod=hashlib.sha256)
    try:
        if not path.is_dir():
            return custody.private_digest(path, key)[:32]
        for file in sorted(found for found in path.rglob("*") if found.is_file()):
            code.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
            code.update(bytes.fromhex(custody.private_digest(file, key)))
    except OSError as error:
        raise unread(path, "a readable file", error) from error
    return code.hexdigest()[:32]


def write_text(path: Path, text: str, mode: int = 0o666) -> None:
    """Writes under a temporary name and renames last: the file's presence means it is whole. `mode` as
    `open(2)` has it.
    """
    _write_pieces(path, [text], mode)


def _write_pieces(path: Path, pieces: Iterable[str], mode: int) -> None:
    def opened(name: str, flags: int) -> int:
        return os.open(name, flags, mode)

    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8", opener=opened) as stream:
        stream.writelines(pieces)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name that becomes `path` when the block ends without an error, else vanishes."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with disk.room(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with disk.gone_after(temporary):
            yield temporary
            temporary.replace(path)


def missing(path: Path, command: str = "") -> UsageError:
    """The error for an output that an earlier stage has not made; the stage is known from the path."""
    return UsageError(
        str(path), "a finished output", "no such file", f"type `{command or _command(path)}` first"
    )


def _command(path: Path) -> str:
    """The command that makes an output."""
    stages = {
        "train": "train",
        "attack": "attack mia",
        "audit": "attack mia",
        "evaluate": "eval",
        "judge": "judge",
        "report": "report html",
    }
    stage = next((stages[part] for part in reversed(path.parts) if part in stages), "train")
    if stage == "attack mia" and path.stem in content.listing("attacks"):
        stage = f"attack {content.load_yaml(content.find('attacks', path.stem)).get('kind', 'mia')}"
    return f"dpaudit {stage}"


def _final(relative: str) -> str:
    """The place of a file once the folders that it is written in have their own names."""
    return _TEMPORARY.sub(r"\1\2", relative)


def _notes(stage: str) -> str:
    return f"custody/results/{stage}/files.json"


def sidecar(relative: str) -> str:
    """Where the hash of a file lies that carries none itself."""
    return f"{relative}.custody.json"


@contextmanager
def writing(run_dir: RunDir, work: str) -> Iterator[None]:
    """Nobody else does the same `work`, a key of WRITES, on this run during the block, and what a killed one
    left is gone.

    Raises UsageError where another is at it, and where the key is away that its outputs are sealed under. A
    page is no evidence and is made again in a moment: it may be written without.
    """
    with lock.held(run_dir.path, work):
        if work != "report":
            run_dir.require_sealable()
        sweep(run_dir, work)
        yield


def alone(
    work: str,
) -> "Callable[[Callable[Concatenate[RunDir, P], R]], Callable[Concatenate[RunDir, P], R]]":
    """Makes a function of a run hold `writing(run_dir, work)` while it is at work."""

    def holding(function: "Callable[Concatenate[RunDir, P], R]") -> "Callable[Concatenate[RunDir, P], R]":
        @functools.wraps(function)
        def held(run_dir: RunDir, *arguments: P.args, **named: P.kwargs) -> R:
            with writing(run_dir, work):
                return function(run_dir, *arguments, **named)

        return held  # type: ignore[return-value]  # the run always comes first

    return holding


@contextmanager
def making(*paths: Path) -> Iterator[None]:
    """Nobody else makes one of `paths` during the block, and what killed commands left of them is gone."""
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(lock.held(path))
            remove_left(path)
        yield


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder outside of any run, mode 0700, that is gone when the block ends; where a kill left one, with
    the next such block.
    """
    place = Path(tempfile.gettempdir())
    for left in place.glob("dpaudit-*"):
        if left.is_dir() and left.stat().st_uid == os.getuid():
            with suppress(UsageError), lock.held(left):  # who is at work in it holds its lock
                _remove([left])
    folder = place / f"dpaudit-{secrets.token_hex(8)}"
    with lock.held(folder):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove([folder])


def sweep(run_dir: RunDir, work: str) -> None:
    """Removes what killed commands of this kind left under temporary names. Only under its lock."""
    for folder in WRITES[work]:
        _remove(run_dir.path.glob(f"{folder}.*.tmp"))
    if work == "train":
        remove_left(run_dir.path)


def remove_left(path: Path) -> None:
    """Removes what killed commands left of `path` under temporary names beside it. Only under its lock."""
    _remove(left_of(path))


def left_of(path: Path) -> list[Path]:
    """What carries a temporary name of `path`."""
    temporary = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    return [left for left in path.parent.glob(".*.tmp") if temporary.fullmatch(left.name)]


def _remove(paths: Iterable[Path]) -> None:
    for left in list(paths):
        disk.remove(left)


def existing(runs: Path = RUNS) -> list[RunDir]:
    """All whole runs, newest use last; one whose plan was lost is among them, to be told."""
    folders = {p.parents[depth] for name, depth in ((PLAN, 0), (SEAL_KEY, 1)) for p in runs.glob(f"*/{name}")}
    whole = [folder for folder in folders if not folder.name.startswith(".")]
    return [RunDir(folder) for folder in sorted(whole, key=lambda p: (p.stat().st_mtime_ns, p.name))]


def find(name: str | None, runs: Path = RUNS) -> RunDir:
    """The run named `name`, in full or without its hash where it is the only one, or for None the one used
    last. Raises UsageError where there is none.
    """
    known = existing(runs)
    if not known:
        raise UsageError(
            f"{runs}/{name or ''}",
            "a run",
            "no run",
            "type `dpaudit train` or `dpaudit demo` first",
        )
    if name is None:
        return known[-1]
    for run in known:
        if run.name == Path(name).name:
            return run
    begun = [run for run in known if re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{8}}", run.name)]
    if len(begun) == 1:  # the one run of that suite
        return begun[0]
    names = ", ".join(run.name for run in begun or known)
    raise UsageError(
        f"{runs}/{name}",
        f"one of {names}",
        f"the name that {len(begun)} runs begin with" if begun else "no such run",
        "type one of these in full; `dpaudit ls` lists them",
    )


def located(plan: dict[str, Any], name: str, runs: Path = RUNS) -> RunDir:
    """Where the run of exactly this plan is or would be: the run is called `name` and a hash of the plan."""
    return RunDir(runs / f"{name}-{hashlib.sha256(_plan_text(plan).encode()).hexdigest()[:8]}")


def open_or_create(plan: dict[str, Any], name: str, runs: Path = RUNS) -> RunDir:
    """The run of exactly this plan: the existing one (to resume), or a new one holding plan.json and nothing
    else.

    `plan` is the resolved suite with seeds and versions.
    """
    run = located(plan, name, runs)
    if run.path.exists():
        if run.read_json(PLAN) != json.loads(_plan_text(plan)):
            raise run.refused(PLAN, "an altered one", "the plan that the run began with")
        os.utime(run.path)  # the run used last is the one that the next command finds
        return run
    with RunDir(runs).whole_directory(run.name) as temporary:
        (temporary / PLAN).write_text(_plan_text(plan), encoding="utf-8")
        _write_seal_key(temporary / SEAL_KEY)
    return run


def _write_seal_key(file: Path) -> None:
    file.parent.mkdir(mode=0o700)
    file.touch(mode=0o600)
    file.write_bytes(secrets.token_bytes(custody.KEY_BYTES))


def _plan_text(plan: dict[str, Any]) -> str:
    return json.dumps(plan, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _plain(value: object) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()  # NumPy scalars and arrays
    raise TypeError(f"not JSON: {type(value).__name__}")
