"""The outputs of a run as its page reads them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from dpaudit import schema
from dpaudit.findings.finding import Finding
from dpaudit.storage.rundir import RunDir

T = TypeVar("T")
F = TypeVar("F", bound=Finding)


class Reading:
    """The outputs of one run as they are read: which files the page is made from, and which were out of
    date.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self.files: list[str] = []
        self.stale: list[str] = []

    def is_there(self, file: str) -> bool:
        """Whether an output is there and current; then the page is made from it."""
        if not self.run_dir.file(file).is_file():
            return False
        is_current = self.run_dir.is_current(file, self.run_dir.recorded_inputs(file))
        (self.files if is_current else self.stale).append(file)
        return is_current

    def finding(self, cls: type[F], file: str) -> F | None:
        """The finding in an output; None where there is no such file, or an outdated one."""
        return cls.read(self.run_dir, file) if self.is_there(file) else None

    def field(self, cls: type[Finding], file: str, key: str) -> Any:
        """One field of the finding in an output; None as for the finding."""
        return cls.read_field(self.run_dir, file, key) if self.is_there(file) else None

    def part(self, cls: type[T], file: str) -> T | None:
        """What `cls` takes of an output that holds more; None as for a finding."""
        if not self.is_there(file):
            return None
        with self.run_dir.fitting(file):
            return narrowed(cls, self.run_dir.read_json(file), str(self.run_dir.file(file)))


def narrowed(cls: type[T], data: Mapping[str, Any], file: str) -> T:
    """An instance of `cls` from the keys of `data` that are its fields. Raises UsageError naming file and key
    where a field is missing or does not fit.
    """
    names = [field.name for field in fields(cast(Any, cls)) if field.name in data]
    return schema.build(cls, {name: data[name] for name in names}, file=file)
