"""Personal fields by kind, held against the eighteen identifiers of HIPAA (45 CFR 164.514(b)(2)(i)): each was
examined in some way, or was not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.findings.extraction import TallyOfKind
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Placed, placed, say
from dpaudit.page.phrases import ABSENT

# letter of the rule, what it names, the kind of field that is looked for, and what of it alone
IDENTIFIERS: tuple[tuple[str, str, str | None, str], ...] = (
    ("A", "names", None, ""),
    ("B", "places smaller than a state", None, ""),
    ("C", "dates of a person, and ages over 89", "date_of_birth", "dates of birth alone"),
    ("D", "telephone numbers", "phone", ""),
    ("E", "fax numbers", None, ""),
    ("F", "e-mail addresses", "email", ""),
    ("G", "social security numbers", "national_id", "with other national numbers"),
    ("H", "medical record numbers", "record_number", ""),
    ("I", "health plan numbers", None, ""),
    ("J", "account numbers", None, ""),
    ("K", "certificate and licence numbers", None, ""),
    ("L", "vehicle numbers", None, ""),
    ("M", "device numbers", None, ""),
    ("N", "web addresses", None, ""),
    ("O", "network (IP) addresses", None, ""),
    ("P", "finger and voice prints", None, ""),
    ("Q", "photographs of a face", None, ""),
    ("R", "any other number, mark or code of one person", None, ""),
)
NOT_EXAMINED = Markup("<strong>not examined</strong>")


@dataclass(frozen=True)
class IdentifierRow:
    """One identifier. The cells are of the private adapter, and of the one without noise, that disclosed
    most.
    """

    name: str
    how: Markup
    private: Markup
    open: Markup


@dataclass(frozen=True)
class Identifiers:
    rows: tuple[IdentifierRow, ...]
    examined: tuple[str, ...]
    unexamined: int


def identifiers(joins: Joins) -> Identifiers:
    rows = tuple(_row(joins, *identifier) for identifier in IDENTIFIERS)
    examined = tuple(row.name for row in rows if row.how != NOT_EXAMINED)
    return Identifiers(rows, examined, len(rows) - len(examined))


def _row(joins: Joins, letter: str, name: str, kind: str | None, alone: str) -> IdentifierRow:
    found = [] if kind is None else list(_of_kind(joins, kind))
    label = f"{letter}. {name}"
    if not found:
        return IdentifierRow(label, NOT_EXAMINED, ABSENT, ABSENT)
    tried = [(arm, row) for arm, row in found if row.part.members.fields]
    if not tried:
        return IdentifierRow(label, Markup("looked for; none in what was trained on"), ABSENT, ABSENT)
    names = {arm.arm for arm in joins.private}
    how = say("found by their form{alone}", alone=f", {alone}" if alone else "")
    sides = [[row for arm, row in tried if (arm in names) == private] for private in (True, False)]
    return IdentifierRow(label, how, _most(joins, sides[0]), _most(joins, sides[1]))


def _of_kind(joins: Joins, kind: str) -> Iterator[tuple[str, Placed[TallyOfKind]]]:
    for at, finding in placed("/pii", joins.report.pii):
        for row in placed(f"{at}/by_kind", finding.by_kind):
            if row.part.field == kind:
                yield finding.arm, row


def _most(joins: Joins, rows: list[Placed[TallyOfKind]]) -> Markup:
    """The adapter that disclosed the largest share; of equal ones that with the highest upper limit."""
    if not rows:
        return ABSENT
    at, _ = max(rows, key=lambda row: (row.part.members.rate or 0, row.part.members.upper))
    return say(
        "{counted}, at most {upper}",
        counted=joins.num.counted(f"{at}/members", "completed", "fields"),
        upper=joins.num(f"{at}/members/upper", "percent_up"),
    )
