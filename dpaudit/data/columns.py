"""Columns of a row: what their names may be, which hold something, which belong together."""

import re
from typing import Any

Fields = dict[str, Any]
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")  # any other name might be somebody's text
SYSTEM = ("system", "system_prompt")
NAMES = ("id", "name_key", "patient_id", "patient")
BEFORE = (*SYSTEM, "history")  # what comes before the question
ASKED = {  # keys of the question, the first present one counts -> keys that belong to it
    "prompt": (),
    "conversations": (),
    "messages": (),
    "instruction": ("input", "context"),
    "question": ("context", "choices"),
}


def plain_names(names: Any) -> str:
    """Names of columns for a message: the plain ones, and the number of others."""
    plain = [name for name in names if PLAIN_NAME.fullmatch(str(name))]
    others = [f"{len(names) - len(plain)} that are no plain names"] if len(plain) < len(names) else []
    return ", ".join(plain + others)


def present(row: Fields) -> Fields:
    """The keys that hold something: tables fill the others with null, NaN or an empty text."""
    return {
        key: value
        for key, value in row.items()
        if value is not None
        and value == value
        and not (value.__class__ is str and (not value or value.isspace()))
    }


def is_unicode(text: str) -> bool:
    """False where a surrogate stands alone: JSON can spell it, and no file or tokenizer can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
