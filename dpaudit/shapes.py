"""The shapes that a row of data may have, and what each says as a record."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpaudit.corpus import Record, Role, Turn
from dpaudit.errors import UsageError

Fields = dict[str, Any]
ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "patient": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "doctor": "assistant",
}
PLAIN_NAME = re.compile(
    r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"
)  # any other name of a column might be somebody's text
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Shape:
    """`name` is told to the user; a row that has one of `keys` is of this shape."""

    name: str
    keys: tuple[str, ...]
    parse: Callable[
        [Fields, str], Record
    ]  # of fields and the place for messages; id and patient are filled in later
    letter: str  # begins the ids of records that have none, so that no two parts of the data share one


def shape_of(row: Fields, where: str, first: Shape | None = None) -> Shape:
    """The shape by the keys that hold something; a row without any is of the shape `first`, for its faults to be named.

    Raises UsageError that lists the row's keys where none is known.
    """
    fields = _present(row)
    for keys in (fields, row):
        for shape in SHAPES:
            if any(key in keys for key in shape.keys):
                return shape
        if first is not None:
            return first
    plain = [name for name in row if PLAIN_NAME.fullmatch(str(name))]
    others = [f"{len(row) - len(plain)} that are no plain names"] if len(plain) < len(row) else []
    expected = "; ".join(shape.name for shape in SHAPES)
    raise UsageError(where, expected=f"one of: {expected}", got=f"the columns {', '.join(plain + others) or 'of none'}",
                     remedy="rename the columns")  # fmt: skip


def record(shape: Shape, row: Fields, where: str, number: int) -> Record:
    """The record that a row of this shape says. Raises UsageError that names the key at fault."""
    fields = _present(row)
    found = shape.parse(fields, where)
    identity = str(fields.get("id") or fields.get("name_key") or f"{shape.letter}{number}")
    patient = fields.get("patient_id", fields.get("patient"))
    named = Record(identity, found.turns, None if patient is None else str(patient), found.chosen, found.rejected, found.text)  # fmt: skip
    turns = (turn.text for turn in named.turns)
    for text in (named.id, named.patient, named.chosen, named.rejected, named.text, *turns):
        if text is not None and not is_unicode(text):
            raise UsageError(where, expected="text that is valid Unicode", got="half of a surrogate pair")
    return named


# ---- dialogues


def _listed(fields: Fields, where: str) -> Record:
    key = "conversations" if "conversations" in fields else "messages"
    turns = _turns(fields.get(key), f"{where}: {key}")
    _require_last(turns, "assistant", f"{where}: {key}")
    return Record("", turns)


def _instruction(fields: Fields, where: str) -> Record:
    """Alpaca, with the `system` and `history` (pairs of question and answer) that some add."""
    question = _text(fields, "instruction", where)
    question += f"\n\n{_text(fields, 'input', where)}" if "input" in fields else ""
    turns = [Turn("system", _text(fields, "system", where))] if "system" in fields else []
    history = fields.get("history", [])
    if not isinstance(history, list) or not all(_is_exchange(pair) for pair in history):
        raise UsageError(f"{where}: history", expected="a list of [question, answer]", got="something else")
    for asked, answered in history:
        turns += [Turn("user", asked), Turn("assistant", answered)]
    turns += [Turn("user", question), Turn("assistant", _text(fields, "output", where))]
    return Record("", tuple(turns))


def _completion(fields: Fields, where: str) -> Record:
    key = "completion" if "completion" in fields else "response"
    answer = _answer(fields.get(key), f"{where}: {key}")
    return Record("", (*_prompt(fields, where), Turn("assistant", answer)))


def _question(fields: Fields, where: str) -> Record:
    """Question and answer; `choices` are listed by letter below the question, and `answer` is then an index."""
    asked = "\n".join(
        _text(fields, key, where) for key in ("context", "question") if key in fields or key == "question"
    )
    if "choices" not in fields:
        return Record("", (Turn("user", asked), Turn("assistant", _text(fields, "answer", where))))
    choices, answer = fields["choices"], fields.get("answer")
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= len(LETTERS)
        or not all(isinstance(c, str) for c in choices)
    ):
        raise UsageError(
            f"{where}: choices", expected=f"a list of 2 to {len(LETTERS)} texts", got=_kind(choices)
        )
    if not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise UsageError(f"{where}: answer", expected="the index of a choice, from 0", got=_kind(answer))
    options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return Record("", (Turn("user", "\n".join((asked, *options))), Turn("assistant", options[answer])))


# ---- preference pairs and plain text


def _pair(fields: Fields, where: str) -> Record:
    """`prompt`, `chosen` and `rejected` as texts or as messages; chosen and rejected may both begin with the prompt."""
    turns = _prompt(fields, where) if _has_prompt(fields) else _shared_prompt(fields, where)
    chosen, rejected = (_answer(fields.get(key), f"{where}: {key}", turns) for key in ("chosen", "rejected"))
    return Record("", turns, chosen=chosen, rejected=rejected)


def _has_prompt(fields: Fields) -> bool:
    listed = isinstance(fields.get("chosen"), list) and isinstance(fields.get("rejected"), list)
    return not listed or any(key in fields for key in ("prompt", "conversations"))


def _shared_prompt(fields: Fields, where: str) -> tuple[Turn, ...]:
    """All turns but the last of chosen and rejected, which must be the same in both."""
    chosen, rejected = (_turns(fields[key], f"{where}: {key}")[:-1] for key in ("chosen", "rejected"))
    if chosen != rejected or not chosen:
        raise UsageError(
            f"{where}: prompt", expected="one, or the same turns before both answers", got="neither"
        )
    return chosen


def _plain(fields: Fields, where: str) -> Record:
    return Record("", (), text=_text(fields, "text", where))


SHAPES = (  # the first one that fits a row is its shape: data sets often carry a rendered `text` or a bare `prompt` too
    Shape("prompt, chosen and rejected", ("chosen", "rejected"), _pair, "p"),
    Shape("conversations or messages", ("conversations", "messages"), _listed, "r"),
    Shape("instruction and output", ("instruction",), _instruction, "r"),
    Shape("prompt and completion", ("completion", "response"), _completion, "r"),
    Shape("question and answer", ("question",), _question, "r"),
    Shape("text", ("text",), _plain, "t"),
)


# ---- pieces


def _prompt(fields: Fields, where: str) -> tuple[Turn, ...]:
    """`prompt` as a text or as messages, which end with the user."""
    key = "conversations" if "prompt" not in fields and "conversations" in fields else "prompt"
    if not isinstance(fields.get(key), list):
        return (Turn("user", _text(fields, key, where)),)
    turns = _turns(fields[key], f"{where}: {key}")
    _require_last(turns, "user", f"{where}: {key}")
    return turns


def _answer(value: object, where: str, prompt: tuple[Turn, ...] = ()) -> str:
    """One answer: a text, a message, or messages of which all but the last are the prompt."""
    if isinstance(value, str) and value.strip():
        return value
    if not isinstance(value, list | dict):
        raise UsageError(where, expected="a non-empty text", got=_kind(value))
    turns = _turns(value if isinstance(value, list) else [value], where)
    _require_last(turns, "assistant", where)
    if turns[:-1] not in ((), prompt):
        raise UsageError(where, expected="one answer, alone or behind the prompt", got=f"{len(turns)} turns")
    return turns[-1].text


def _turns(value: object, where: str) -> tuple[Turn, ...]:
    if not isinstance(value, list) or not value:
        raise UsageError(where, expected="a list of turns", got=_kind(value),
                         remedy="ShareGPT `conversations` or `messages` are read")  # fmt: skip
    turns = []
    for index, turn in enumerate(value):
        place = f"{where}[{index}]"
        role = turn.get("from", turn.get("role")) if isinstance(turn, dict) else None
        text = turn.get("value", turn.get("content")) if isinstance(turn, dict) else None
        if not isinstance(role, str) or role.lower() not in ROLES:
            raise UsageError(place, expected=f"a role of {', '.join(ROLES)}", got=_kind(role))
        if not isinstance(text, str) or not text.strip():
            raise UsageError(place, expected="a non-empty text", got=_kind(text))
        turns.append(Turn(ROLES[role.lower()], text))
    return tuple(turns)


def _require_last(turns: tuple[Turn, ...], role: Role, where: str) -> None:
    if turns[-1].role != role:
        raise UsageError(
            where, expected=f"a dialogue that ends with the {role}", got=f"{turns[-1].role} last"
        )


def _text(fields: Fields, key: str, where: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {key}", expected="a non-empty text", got=_kind(value))
    return value


def _is_exchange(pair: object) -> bool:
    is_two = isinstance(pair, list) and len(pair) == 2
    return is_two and all(isinstance(text, str) and text.strip() for text in pair)  # type: ignore[attr-defined]


def _present(row: Fields) -> Fields:
    """The keys that hold something: tables fill the others with null, NaN or an empty text."""
    return {key: value for key, value in row.items() if not _is_missing(value)}


def _is_missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def is_unicode(text: str) -> bool:
    """False where a surrogate stands alone: JSON can spell it, and no file or tokenizer can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
