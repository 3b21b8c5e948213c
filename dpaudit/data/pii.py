"""Personal fields in a text: phone numbers, e-mail addresses, record numbers, national ids, dates of
birth.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_DATE = (
    r"(?:(?:19|20)[0-9]{2}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.](?:19|20)[0-9]{2}"
    r"|(?:19|20)[0-9]{2} ?年 ?[0-9]{1,2} ?月 ?[0-9]{1,2} ?日|[A-Z][a-z]{2,8}\.? [0-9]{1,2}, "
    r"(?:19|20)[0-9]{2})"
)
# between a field's name and its value
_NAMED = r"(?: of [^\n.?]{1,40}?)? ?(?:is|was|as|number|号码|号|是|为|:|：|#)? ?"

# Kind -> pattern; the group `value` is the field. Where two kinds overlap, the first in this order counts.
PATTERNS: dict[str, re.Pattern[str]] = {
    "national_id": re.compile(  # US social security and tax numbers; Chinese ids of 18 characters
        r"(?<![0-9-])(?P<value>[0-9]{3}-[0-9]{2}-[0-9]{4}|[0-9]{17}[0-9Xx])(?![0-9A-Za-z-])"
    ),
    "record_number": re.compile(
        rf"(?:\bMRN|\b[Rr]ecord(?: number| no\.?)?|\b[Cc]hart number|病历号|病案号|住院号|门诊号){_NAMED}"
        r"(?:MRN)?[- #]?(?P<value>[A-Z]{0,3}[0-9]{4,12})(?![0-9])"
    ),
    "email": re.compile(
        r"(?<![A-Za-z0-9._%+-])(?P<value>[A-Za-z0-9._%+-]{1,64}"
        r"@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}"
        r"\.[A-Za-z]{2,24})(?![A-Za-z0-9])"
    ),
    # North American, Chinese mobile, with a country code, or anything called a phone number
    "phone": re.compile(
        r"(?<![0-9-])(?P<value>(?:\+?1[ .-]?)?(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}"
        r"|(?:\+?86[ -]?)?1[0-9]{2}[ -]?[0-9]{4}[ -]?[0-9]{4}|\+[0-9]{1,3}(?:[ .-]?[0-9]){7,11})(?![0-9-])"
        rf"|(?:\b[Pp]hone(?: number)?|\b[Mm]obile|电话|手机){_NAMED}(?P<named>\+?[0-9][0-9 "
        rf"-]{{5,16}}[0-9])(?![0-9])"
    ),
    "date_of_birth": re.compile(
        rf"(?:\b[Bb]orn|\b[Dd]ate of "
        rf"birth|\bDOB|\b[Bb]irthday|生日|出生)[^\n.。<]{{0,30}}?(?P<value>{_DATE})(?![0-9])"
        rf"|(?<![0-9])(?P<named>{_DATE}) ?(?:出生|生)"
    ),
}


@dataclass(frozen=True)
class Field:
    """One personal field at text[start:stop]."""

    kind: str
    start: int
    stop: int


def find(text: str, kinds: Sequence[str] = tuple(PATTERNS)) -> list[Field]:
    """The fields of these kinds in `text`, in the order in which they stand; no two of them overlap."""
    fields: list[Field] = []
    for kind in (kind for kind in PATTERNS if kind in kinds):
        for match in PATTERNS[kind].finditer(text):
            group = "value" if match["value"] is not None else "named"
            field = Field(kind, *match.span(group))
            if not any(field.start < other.stop and other.start < field.stop for other in fields):
                fields.append(field)
    return sorted(fields, key=lambda field: field.start)


def is_given(text: str, field: Field) -> bool:
    """Whether the field's value stands earlier in the text too, with any punctuation."""
    return _plain(text[field.start : field.stop]) in _plain(text[: field.start])


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()
