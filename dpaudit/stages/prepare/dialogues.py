"""Rows against the model's chat template, checked before coins are drawn; what encoding leaves out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.suite.suite import Model

if TYPE_CHECKING:
    from dpaudit.training.examples import Example

CUT_MOST = 0.05  # share of the rows that are cut, above which there is a warning


def checked(
    numbered_rows: Iterable[tuple[int, Record]], source: str, tokenizer: Any
) -> Iterator[tuple[int, Record]]:
    """The rows as they are, each rendered when it passes; without a tokenizer (of a model that is not here)
    none is rendered.

    Raises UsageError after the last row, with the number of the first row that the chat template refuses, or
    changes so that its answers cannot be located, and with the count of such rows.
    """
    from dpaudit.models.dialogue import write
    from dpaudit.models.templates import Refused

    if tokenizer is None:
        yield from numbered_rows
        return
    first: tuple[int, Refused] | None = None
    rows = refused = 0
    for number, record in numbered_rows:
        rows += 1
        try:
            for turns in _dialogues(record):
                write(turns, tokenizer)
        except Refused as error:
            refused += 1
            first = first or (number, error)
        yield number, record
    if first is not None:
        place, fault = first
        so = f", in {refused:,} of {rows:,} rows" if refused > 1 else ""
        raise UsageError(f"{source}:{place}", fault.expected, f"{fault.got}{so}", fault.remedy)


def check(numbered_rows: Iterable[tuple[int, Record]], source: str, tokenizer: Any) -> None:
    """Raises as `checked` does."""
    for _ in checked(numbered_rows, source, tokenizer):
        pass


def _dialogues(record: Record) -> list[tuple[Turn, ...]]:
    if record.is_pair:
        answers = (record.chosen, record.rejected)
        return [(*record.turns, Turn("assistant", answer)) for answer in answers if answer is not None]
    return [record.turns] if record.text is None else []


@dataclass
class Tally:
    """What encoding left out of the rows that pass: the two sequences of a pair are one row."""

    rows: int = 0
    cut: int = 0
    without: int = 0  # rows of which an answer is cut away whole
    kept: int = 0  # tokens that are learned
    lost: int = 0  # tokens of answers that were cut
    notes: Counter[str] = field(default_factory=Counter)

    def passing(self, units: "Iterable[tuple[str, list[Example]]]") -> "Iterator[tuple[str, list[Example]]]":
        """The units as they are, each counted when it is asked for."""
        for name, examples in units:
            for example in examples:
                self._add(example)
            yield name, examples

    def _add(self, example: "Example") -> None:
        learned = [sum(sequence.answer_mask) for sequence in example.sequences]
        lost = [sequence.lost for sequence in example.sequences]
        self.rows += 1
        self.cut += any(sequence.truncated for sequence in example.sequences)
        self.without += any(not some and gone for some, gone in zip(learned, lost, strict=True))
        self.kept += sum(learned)
        self.lost += sum(lost)
        self.notes.update({note for sequence in example.sequences for note in sequence.notes})

    def lines(self, model: Model, which: str) -> list[str]:
        """The lines to print on `which` rows; none where all is learned as it is."""
        lines = [
            f"{which}: {note}, in {count:,} of {self.rows:,} rows"
            for note, count in sorted(self.notes.items())
        ]
        if not self.cut:
            return lines
        share = self.lost / max(1, self.lost + self.kept)
        line = (
            f"{which}: {self.cut:,} of {self.rows:,} rows are {_limits(model)} and are cut: the answers' "
            f"end, {share:.1%} of their tokens, is not learned"
        )
        warned = "warning: " if self.cut > CUT_MOST * self.rows else ""
        whole = f"; of {self.without:,} rows a whole answer" if self.without else ""
        return [*lines, f"{warned}{line}{whole}"]


def _limits(model: Model) -> str:
    parts = [f"longer than model.max_length {model.max_length} tokens"]
    for name in ("pair_prompt", "pair_answer"):
        if (limit := getattr(model, name)) is not None:
            parts.append(f"model.{name} {limit}")
    return " or ".join(parts)
