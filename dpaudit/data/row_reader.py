"""The rows of one file as records: all of one shape, with every column that bears on learning looked at."""

from dataclasses import dataclass, field
from typing import Any

from dpaudit.data import messages
from dpaudit.data.columns import BEFORE, Fields, present
from dpaudit.data.corpus import Record
from dpaudit.data.messages import truth
from dpaudit.data.shapes import Shape, of_fields, reads, shape_of
from dpaudit.errors import UsageError

LABELS = ("label", "kto_tag")  # TRL and LLaMA-Factory: whether an answer is a good or a bad example
KTO = (
    "a pair of a good and a bad answer is read as prompt, chosen and rejected; of good answers alone, "
    "keep: jq -c 'select(.label) | del(.label)' (rename a column that means something else)"
)
HELD_BACK = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation", "heldout",
    "holdout")  # fmt: skip
WITHOUT_TEXT = ("chat_template", "chat_template_kwargs")
CHECKED = frozenset(
    (
        *messages.LEARNT,
        *messages.UNLEARNT,
        *messages.TOOLS,
        *messages.MEDIA,
        *WITHOUT_TEXT,
        *LABELS,
        *BEFORE,
        "split",
    )
)
MOST_LAYOUTS = 4096


@dataclass(frozen=True)
class Layout:
    """What rows with the same keys have in common: their shape, the columns to check, and the columns not
    read.
    """

    shape: Shape
    checked: tuple[str, ...]
    unread: tuple[str, ...]


@dataclass
class Reader:
    """Turns the rows of one file into records. All have the shape of the first; `unread` are the columns that
    were not read.
    """

    first: Shape | None = None
    unread: set[str] = field(default_factory=set)
    _layouts: dict[tuple[str, ...], Layout] = field(default_factory=dict)

    def record(self, row: Fields, where: str, number: int) -> Record:
        """The record of a row. Raises UsageError that names the key at fault."""
        fields = present(row)
        layout = self._layouts.get(tuple(fields)) or self._new_layout(fields, row, where)
        for key in layout.checked:
            _check_row(key, fields[key], layout.shape, where)
        return of_fields(layout.shape, fields, where, number)

    def _new_layout(self, fields: Fields, row: Fields, where: str) -> Layout:
        shape = shape_of(row, where, self.first)
        self.first = self.first or shape
        if shape is not self.first:
            raise UsageError(
                where,
                f"the shape of the first record, {self.first.name}",
                f"a record with {shape.name}",
                "one shape a file",
            )
        read = reads(shape, fields)
        checked = tuple(key for key in fields if key in CHECKED and key not in read)
        layout = Layout(shape, checked, tuple(key for key in fields if key not in read))
        self.unread.update(layout.unread)
        if len(self._layouts) < MOST_LAYOUTS:
            self._layouts[tuple(fields)] = layout
        return layout


def _check_row(key: str, value: Any, shape: Shape, where: str) -> None:
    """Raises UsageError for a column that changes what is learned and would be lost."""
    spelled = str(value).strip().lower() if isinstance(value, bool | int | float | str) else ""
    place = f"{where}: {key}"
    if key in LABELS and truth(value) is not None and shape.letter != "t":
        raise UsageError(place, "answers to learn from", "answers marked good or bad, as for KTO", KTO)
    if key in (*messages.LEARNT, *messages.UNLEARNT) and isinstance(value, list) and value:
        raise UsageError(place, "turns that are all learned from", "a mask of turns or tokens", messages.CUT)
    if (key in messages.LEARNT and (spelled == "false" or (key == "weight" and truth(value) is False))) or (
        key in messages.UNLEARNT and spelled == "true"
    ):
        raise UsageError(
            place, "a row to learn from", "a row marked as not learned", "leave such rows out of the file"
        )
    if key == "split" and spelled in HELD_BACK:
        raise UsageError(
            place,
            "rows to learn from",
            "a row of the split {spelled}",
            "keep the others: jq -c 'select(.split == \"train\")'",
        )
    if (
        key in (*messages.TOOLS, *messages.MEDIA, *WITHOUT_TEXT)
        and value
        and spelled not in ("[]", "{}", "null", "false")
    ):
        remedy = (
            messages.NO_TOOLS
            if key in messages.TOOLS
            else f"leave such rows out, or, if the text is whole without it, the column: jq -c 'del(.{key})'"
        )
        raise UsageError(place, "text alone", "a column that the model would see too", remedy)
    if key in BEFORE and value:
        raise UsageError(
            place,
            f"no {key} beside {', '.join(shape.keys)}",
            f"a column {key}",
            "write it into the turns or the text, or leave the column out",
        )
