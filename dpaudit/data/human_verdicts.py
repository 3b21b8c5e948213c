"""Verdicts of people on answers that a judge compared, from a table."""

from dataclasses import dataclass
from pathlib import Path

from dpaudit.data import identity, json_rows, rows
from dpaudit.errors import UsageError, kind_of

COLUMNS = "prompt, arm, against, winner"
DOCS = "docs/judges.md shows the table"


@dataclass(frozen=True)
class HumanVerdict:
    """A row: what one person says of two answers to one prompt. Sides are None where the table has none."""

    where: str  # FILE:LINE
    prompt: str
    arm: str | None
    against: str | None
    winner: str
    rater: str | None


def read(file: Path) -> tuple[HumanVerdict, ...]:
    """The rows of a table with the columns `prompt` (an id) and `winner`, and, where several pairs were
    judged, `arm` and `against`; with a column `rater`, of several people.

    Raises UsageError that names file and line; for a table too in which only some rows have a rater.
    """
    found: list[HumanVerdict] = []
    known: dict[tuple[str | None, ...], str] = {}
    unnamed: str | None = None  # the first row without a rater
    for number, row in rows.of_file(file):
        where = f"{file}:{number}"
        fields = json_rows.parsed(row, where) if isinstance(row, str) else row
        cells = {
            name: _cell(fields.get(name), f"{where}: {name}") for name in (*COLUMNS.split(", "), "rater")
        }
        prompt, winner = cells["prompt"], cells["winner"]
        for name, value in (("prompt", prompt), ("winner", winner)):
            if value is None:
                raise UsageError(f"{where}: {name}", f"a table with {COLUMNS}", "no value", DOCS)
        assert prompt is not None and winner is not None
        unnamed = unnamed or (where if cells["rater"] is None else None)
        verdict = HumanVerdict(where, prompt, cells["arm"], cells["against"], winner, cells["rater"])
        sides = sorted(side or "" for side in (verdict.arm, verdict.against))
        said = (prompt, *sides, verdict.rater)
        if said in known:
            raise UsageError(
                where,
                "one verdict of a person on two answers",
                f"the comparison of row {known[said]} again",
                "leave one out, or name several people in a column rater",
            )
        known[said] = str(number)
        found.append(verdict)
    if not found:
        raise UsageError(str(file), "at least one row", "none", DOCS)
    if unnamed and any(verdict.rater for verdict in found):  # else one person may count as two
        raise UsageError(f"{unnamed}: rater", "a person, as in other rows", "no value", "name all or none")
    return tuple(found)


def _cell(value: object, where: str) -> str | None:
    if isinstance(value, str | int | float) or value is None:
        return identity.of(value, where)
    raise UsageError(where, "a text", kind_of(value), DOCS)
