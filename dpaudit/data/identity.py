"""Identities of rows and patients: one spelling for ids that data write in several ways."""

import math
import re
import unicodedata
from decimal import Decimal
from uuid import UUID

from dpaudit.errors import UsageError, kind_of

EXACT = 2**53  # from here on a float stands for several whole numbers
NOBODY = frozenset(
    ("nan", "NaN", "None", "null", "NULL", "<NA>", "NaT")
)  # what tables write for an empty cell
WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0*")  # 3.0, as a table writes 3 where another row has none
ROUNDED = re.compile(r"[+-]?[0-9](\.[0-9]+)?[eE]\+[0-9]{2,}")  # 1.2345678e+17
ODD = re.compile(r"[^!-~]|\.0*$|[eE]\+|^(?:nan|NaN|NaT|None|null|NULL|<NA>)$")


def of(value: object, where: str) -> str | None:
    """The identity that a value of `id` or `patient_id` stands for; None where it stands for nobody.

    A whole number, the float of the same value and the text of either are one identity (3, 3.0, "3", "3.0"),
    in every file of a run; "003" is another. Space around a text and the way of writing an accent make no
    difference. Raises UsageError for what names nobody in particular: a bool, a list, a date, a fraction, a
    float that stands for several whole numbers.
    """
    if isinstance(value, str):
        return _of_text(value, where) if ODD.search(value) else value or None
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float | Decimal):
        return _of_number(value, where)
    raise _refused(where, kind_of(value))


def _of_text(text: str, where: str) -> str | None:
    text = unicodedata.normalize("NFC", text.strip())
    if not text or text in NOBODY:
        return None
    if ROUNDED.fullmatch(text):
        raise _refused(where, "a number that a table has rounded")
    if whole := WHOLE.fullmatch(text):
        return _of_number(Decimal(whole[1]), where)
    return text


def _of_number(number: float | Decimal, where: str) -> str | None:
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise _refused(where, "infinity")
    if not -EXACT < number < EXACT:
        raise _refused(where, "a number of 2^53 or more written as a float, which stands for several numbers")
    if number != int(number):
        raise _refused(where, "a number with a fraction")
    return str(int(number))


def _refused(where: str, got: str) -> UsageError:
    return UsageError(
        where,
        "a text or a whole number that names one record or patient",
        got,
        "write it as text, the same in every row and file",
    )
