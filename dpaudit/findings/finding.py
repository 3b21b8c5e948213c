"""A finding and its file: how it is written, and the one way in which it is read back."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from dpaudit import schema
from dpaudit.errors import UsageError
from dpaudit.storage.rundir import RunDir

FORMAT, INPUTS = "format", "inputs"  # keys of the file that belong to no finding


@dataclass(frozen=True)
class Finding:
    """What a stage found, as its file holds it. FORMAT changes when a field changes its name or meaning."""

    FORMAT: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """The object that the file holds, the format first."""
        return {FORMAT: self.FORMAT, **schema.plain(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any], file: str) -> Self:
        """The finding in an object of `file`. Raises UsageError for another format, and for a key that does
        not fit.
        """
        cls._require_format(data, file)
        fields = {key: value for key, value in data.items() if key not in (FORMAT, INPUTS)}
        return schema.build(cls, fields, file=file)

    @classmethod
    def _require_format(cls, data: dict[str, Any], file: str) -> None:
        written = data.get(FORMAT)
        if written != cls.FORMAT:
            got = "no format" if written is None else f"{written!s:.60}"
            raise UsageError(f"{file}: {FORMAT}", cls.FORMAT, got)

    @classmethod
    def read(cls, run_dir: RunDir, relative: str) -> Self:
        """The finding in a file of a run. Raises UsageError where it is missing, altered, or of another
        format, with the command that makes it again.
        """
        return cls.of_file(run_dir, relative, run_dir.read_json(relative))

    @classmethod
    def of_file(cls, run_dir: RunDir, relative: str, data: dict[str, Any]) -> Self:
        """The finding in what was read of a file of a run. Raises UsageError as `read` does."""
        with run_dir.fitting(relative):
            return cls.from_json(data, str(run_dir.file(relative)))

    @classmethod
    def read_field(cls, run_dir: RunDir, relative: str, key: str) -> Any:
        """One field of the finding in a file, without the items beside it, which are many. Raises UsageError
        as `read` does.
        """
        data, file = run_dir.read_json(relative), str(run_dir.file(relative))
        with run_dir.fitting(relative):
            cls._require_format(data, file)
            return schema.field_of(cls, key, data, file=file)

    @classmethod
    def is_current(cls, run_dir: RunDir, relative: str, inputs: Iterable[str]) -> bool:
        """Whether the file was made from `inputs` as they are now, and is of this format: a finding of an
        earlier version is made again.
        """
        return run_dir.is_current(relative, inputs) and format_of(run_dir, relative) == cls.FORMAT

    def write(self, run_dir: RunDir, relative: str, inputs: Iterable[str] = ()) -> None:
        """Writes the file; `inputs` are the files that the finding was made from."""
        run_dir.write_json(relative, self.to_json(), inputs)


def format_of(run_dir: RunDir, relative: str) -> str | None:
    """The format that a file of a run names; None where it names none."""
    written = run_dir.read_json(relative).get(FORMAT)
    return written if isinstance(written, str) else None
