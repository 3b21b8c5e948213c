"""One run on disk, the only interface between stages: its files, and what each was made from."""

import copy
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit.errors import UsageError, kind_of, unread
from dpaudit.storage import custody, disk
from dpaudit.storage.custody import sidecar
from dpaudit.storage.remedies import command_of, missing, of_run, way_out
from dpaudit.storage.seals import seal_key
from dpaudit.storage.whole_files import PRIVATE, final, left_of, temporary, write_pieces, write_text

PLAN = "plan.json"
NOTED = ("attack", "audit", "evaluate", "judge")  # stages whose missing results are reported
# hash, place and seal key of outputs that were read and are as they were written -> their inputs
_SOUND: dict[tuple[bytes, str, bytes | None], Any] = {}
_SEEN: dict[tuple[Path, str], str] = {}  # see `RunDir.read_now`


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
        place or run. plan.json carries no stamp of its own: the outputs made from it carry its hash.
        """
        written = self._bytes(relative)
        try:
            data = json.loads(written.decode())
        except json.JSONDecodeError as error:
            raise self.refused(relative, f"a syntax error in line {error.lineno}", "JSON") from None
        except (ValueError, RecursionError):  # bytes that are no text, or a huge number
            raise self.refused(relative, "another content", "JSON") from None
        if not isinstance(data, dict):
            raise self.refused(relative, kind_of(data), "a JSON object")
        if relative == PLAN:
            return data
        seen = self._seen(relative, written)
        if seen not in _SOUND:  # the same bytes at the same place are checked once
            if (wrong := custody.fault(data, *seen[1:])) is not None:
                raise self.refused(relative, wrong)
            _SOUND[seen] = copy.copy(data.get("inputs", {}))
        del data[custody.KEY]
        return data

    def _bytes(self, relative: str) -> bytes:
        try:
            return self.file(relative).read_bytes()
        except FileNotFoundError:
            raise self._absent(relative) from None

    def _seen(self, relative: str, written: bytes) -> tuple[bytes, str, bytes | None]:
        """What a file is known by once it was checked: nothing of it may change."""
        return hashlib.sha256(written).digest(), final(relative), seal_key(self.path)

    def _absent(self, relative: str) -> UsageError:
        is_made_again = relative != PLAN and not relative.startswith("records/")
        return missing(self.file(relative)) if is_made_again else self.refused(relative, "no such file")

    @contextmanager
    def fitting(self, relative: str) -> Iterator[None]:
        """What does not fit the format of a file, inside the block, is refused with the way out of that
        file.
        """
        try:
            yield
        except UsageError as error:
            raise UsageError(error.where, error.expected, error.got, way_out(self.path, relative)) from None

    def refused(self, relative: str, got: str, expected: str = "the file as this run wrote it") -> UsageError:
        """The error for a file that is not what the run wrote; the way out follows from its place."""
        return UsageError(str(self.file(relative)), expected, got, way_out(self.path, relative))

    def write_json(self, relative: str, data: dict[str, Any], inputs: Iterable[str] = ()) -> None:
        """Writes `data` as a whole or not at all; `inputs` (relative paths) are hashed into its key "inputs".

        The file carries the hash of its own content, sealed under the run's key where there is one.
        """
        self._note(final(relative))
        content = json.loads(json.dumps({**data, "inputs": self.digests(inputs)}, default=plain))
        stamped = custody.stamped(content, final(relative), seal_key(self.path))
        write_text(self.file(relative), json.dumps(stamped, ensure_ascii=False, indent=1) + "\n")

    def _note(self, relative: str) -> None:
        """Keeps a list of the results that a stage writes, apart from them, which shows a deleted one."""
        stage = relative.partition("/")[0]
        if stage in NOTED and _is_noted(relative):
            known = self._noted(stage)
            if relative not in known:
                self.write_json(results_note(stage), {"files": sorted([*known, relative])})

    def notable(self, stage: str) -> list[str]:
        """The results of a stage that are there and that its note names."""
        files = [p.relative_to(self.path).as_posix() for p in self.file(stage).rglob("*") if p.is_file()]
        return sorted(file for file in files if _is_noted(file))

    def _noted(self, stage: str) -> list[str]:
        file = results_note(stage)
        if not self.file(file).is_file():
            return []
        files = self.texts(file, "files")
        if any(not name.startswith(f"{stage}/") or ".." in Path(name).parts for name in files):
            raise self.refused(file, "a file of another folder", f"files of {stage}/")
        return files

    def texts(self, relative: str, key: str) -> list[str]:
        """The list of texts under a key of a JSON file of the run. Raises UsageError for anything else."""
        texts = self.read_json(relative).get(key)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self.refused(relative, f"a file without {key}", f"a list of texts under {key}")
        return texts

    def gone(self) -> dict[str, str]:
        """Results that this run had, or was about to write when it was killed, and has not -> the command
        that makes them.
        """
        files = [file for stage in NOTED for file in self._noted(stage) if not self.file(file).is_file()]
        return {file: command_of(self.file(file)) for file in files}

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
            raise self.refused(relative, f"no JSON object in line {number}", "a JSON object in each line")
        return row

    def write_lines(self, relative: str, rows: Iterable[dict[str, Any]]) -> None:
        """Writes the rows one by one, for their owner's eyes alone; the file appears as a whole or not at
        all.
        """
        lines = (json.dumps(row, ensure_ascii=False, default=plain) + "\n" for row in rows)
        write_pieces(self.file(relative), lines, PRIVATE)

    def digest(self, relative: str) -> str:
        """SHA-256 of a file, or of one key of a JSON file (FILE#KEY); also of a run beside this one
        (../RUN/FILE), by its own seals.

        Never called on private data: prepare writes keyed hashes of it to corpus/manifest.json.
        """
        if relative.startswith("../"):
            _, run, own = relative.split("/", 2)
            return RunDir(self.path.parent / run).digest(own)
        name, _, key = relative.partition("#")
        if key:
            value = json.dumps(self.read_json(name).get(key), sort_keys=True)
            return hashlib.sha256(value.encode()).hexdigest()[:32]
        path = self.file(relative)
        if not path.is_file():
            raise self._absent(relative)
        return custody.file_digest(path)[:32]

    def digests(self, inputs: Iterable[str]) -> dict[str, str]:
        return {name: _SEEN.get((self.path, name)) or self.digest(name) for name in inputs}

    @contextmanager
    def read_now(self, inputs: Iterable[str]) -> Iterator[None]:
        """Inside the block these inputs keep the digests of its beginning: a later version was not read."""
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
        return custody.keyed_file_digest(self.file(relative), self.hash_key())

    def hash_key(self) -> bytes:
        """The key of `keyed_digest`. Raises UsageError where the run's secret folder is gone."""
        try:
            return self.secret_file("hash.key").read_bytes()
        except OSError as error:
            file, way = self.secret_file("hash.key"), "restore the run's secret/ folder"
            raise unread(file, "the run's secret key", error, way) from error

    def secret_file(self, name: str) -> Path:
        """A file in `secret/` (mode 0700). Only prepare, train and audit may ask for one."""
        return self.path / "secret" / name

    def is_current(self, relative: str, inputs: Iterable[str]) -> bool:
        """Whether `relative` exists and was made from `inputs` as they are now (so the work can be skipped).

        Raises UsageError for a file that is not as this run wrote it: an altered file is reported, and never
        replaced in silence.
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
            raise missing(self.file(relative), of_run(command, self.name))
        recorded = self.recorded_inputs(relative)
        for name, digest in self.digests(inputs).items():
            if recorded.get(name) != digest:
                raise UsageError(
                    str(self.file(relative)),
                    f"a file made from the present {name}",
                    "a file made from an earlier state",
                    f"type `{of_run(command, self.name)}` again",
                )

    def recorded_inputs(self, relative: str) -> dict[str, str]:
        """The input hashes that an output carries: key "inputs" of JSON, metadata "inputs" of Parquet."""
        if relative.endswith(".parquet"):
            inputs = self.read_metadata(relative).get("inputs", {})
        elif (seen := self._seen(relative, self._bytes(relative))) in _SOUND:
            inputs = _SOUND[seen]
        else:
            inputs = self.read_json(relative).get("inputs", {})
        if not isinstance(inputs, dict):
            raise self.refused(relative, "a file whose inputs are no mapping")
        return dict(inputs)

    def read_metadata(self, relative: str) -> dict[str, Any]:
        """The stamped metadata of a Parquet output. Raises UsageError as `read_json` does."""
        import pyarrow
        import pyarrow.parquet

        if not self.file(relative).is_file():
            raise missing(self.file(relative))
        try:
            metadata = pyarrow.parquet.read_schema(self.file(relative)).metadata or {}
            stamped = json.loads(metadata.get(custody.KEY.encode(), b"null"))
        except (pyarrow.ArrowException, OSError, ValueError, RecursionError):
            raise self.refused(relative, "a broken file") from None
        if not isinstance(stamped, dict):
            raise self.refused(relative, "a file without its own hash")
        if (wrong := custody.fault(stamped, relative, seal_key(self.path))) is not None:
            raise self.refused(relative, wrong)
        return stamped

    def stamped_metadata(self, relative: str, content: dict[str, Any]) -> dict[str, str]:
        """What a Parquet output carries: `content` (what its rows are among it), under a seal."""
        self._note(relative)
        return {custody.KEY: json.dumps(custody.stamped(content, relative, seal_key(self.path)))}

    def new_folder(self, relative: str) -> Path:
        """A new folder beside `relative`, mode 0700, that the caller removes; after a kill `sweep` does."""
        return _made(temporary(self.file(relative)))

    @contextmanager
    def work_folder(self, relative: str) -> Iterator[Path]:
        """A `new_folder` that is gone when the block ends."""
        folder = temporary(self.file(relative))
        with disk.gone_after(folder):
            _made(folder)
            with disk.room(folder.parent):
                yield folder

    @contextmanager
    def whole_directory(self, relative: str) -> Iterator[Path]:
        """A temporary directory that becomes `relative` when the block ends without an error, else vanishes.
        What a killed worker left of it, whose job went on elsewhere, vanishes too.
        """
        place = self.file(relative)
        for left in left_of(place):
            shutil.rmtree(left)
        with self.work_folder(relative) as folder:
            yield folder
            if place.exists():
                shutil.rmtree(place)
            folder.rename(place)


def _made(folder: Path) -> Path:
    with disk.room(folder.parent):
        folder.mkdir(parents=True, mode=0o700)  # texts and secrets are in it
    return folder


def results_note(stage: str) -> str:
    """The list of the results that a stage wrote."""
    return f"custody/results/{stage}/files.json"


def _is_noted(relative: str) -> bool:
    """Whether a file of a stage is a result of its own: shadow models are an input of their scores."""
    path = Path(relative)
    is_hidden = any(part.startswith(".") for part in path.parts)
    is_result = path.suffix in (".json", ".parquet") and not relative.endswith(sidecar(""))
    return is_result and not is_hidden and "shadows" not in path.parts


def plain(value: object) -> Any:
    """NumPy scalars and arrays as JSON has them, for the `default` of `json.dumps`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"not JSON: {type(value).__name__}")
