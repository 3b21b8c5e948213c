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
        written = data.get(FORMAT)
        if written != cls.FORMAT:
            got = "no format" if written is None else f"{written!s:.60}"
            raise UsageError(f"{file}: {FORMAT}", cls.FORMAT, got)
        fields = {key: value for key, value in data.items() if key not in (FORMAT, INPUTS)}
        return schema.build(cls, fields, file=file)

    @classmethod
    def read(cls, run_dir: RunDir, relative: str) -> Self:
        """The finding in a file of a run. Raises UsageError where it is missing, altered, or of another
        format, with the command that makes it again.
        """
        data = run_dir.read_json(relative)
        with run_dir.fitting(relative):
            return cls.from_json(data, str(run_dir.file(relative)))

    def write(self, run_dir: RunDir, relative: str, inputs: Iterable[str] = ()) -> None:
        """Writes the file; `inputs` are the files that the finding was made from."""
        run_dir.write_json(relative, self.to_json(), inputs)


def format_of(run_dir: RunDir, relative: str) -> str | None:
    """The format that a file of a run names; None where it names none."""
    written = run_dir.read_json(relative).get(FORMAT)
    return written if isinstance(written, str) else None
