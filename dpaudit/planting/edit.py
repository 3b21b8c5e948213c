"""What changes between the source and the file for training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Rows to add, in their order, as JSON texts, and rows of the source to leave out, counted from 0."""

    added: tuple[str, ...] = ()
    dropped: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Edited:
    """A row of the edited file: its JSON text, and its place in the source from 0; None where it was added.

    `renumbered`: its text is another than in the source.
    """

    line: str
    place: int | None
    renumbered: bool = False
