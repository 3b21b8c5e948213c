"""Pieces of a record as columns say them: question, history, system text, answer."""

import json

from dpaudit.data import messages
from dpaudit.data.columns import ASKED, SYSTEM, Fields
from dpaudit.data.corpus import Turn
from dpaudit.data.messages import no_text, require_last, turns_of
from dpaudit.errors import UsageError, kind_of

LETTERS = "ABCDEFGHIJ"


def prompt_of(fields: Fields, key: str, where: str) -> tuple[Turn, ...]:
    """System text, history and the question in the column `key`: a text with what belongs to it, or messages
    that end with the user.
    """
    value = messages.unspelled(fields.get(key), f"{where}: {key}")
    if isinstance(value, list | dict):
        asked = turns_of(value, f"{where}: {key}")
        require_last(asked, "user", f"{where}: {key}")
    else:
        asked = (Turn("user", _asked(fields, key, where)),)
    return with_system(fields, (*_history(fields, where), *asked), where)


def _asked(fields: Fields, key: str, where: str) -> str:
    text = text_of(fields, key, where)
    if key == "instruction":
        more = next((name for name in ASKED[key] if name in fields), None)
        return text if more is None else f"{text}\n\n{text_of(fields, more, where)}"
    if key == "question":
        before = [text_of(fields, "context", where)] if "context" in fields else []
        return "\n".join((*before, text, *(options_of(fields, where) if "choices" in fields else ())))
    return text


def options_of(fields: Fields, where: str) -> list[str]:
    """The choices of a question, listed by letter."""
    choices = _list_in(fields["choices"])
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= len(LETTERS)
        or not all(isinstance(c, str) for c in choices)
    ):
        raise UsageError(
            f"{where}: choices",
            f"a list of 2 to {len(LETTERS)} texts",
            "a list of other length or type" if isinstance(choices, list) else kind_of(choices),
        )
    return [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]


def _history(fields: Fields, where: str) -> tuple[Turn, ...]:
    """Earlier turns: pairs of question and answer, or messages."""
    value = _list_in(fields.get("history", []))
    if isinstance(value, list) and value and all(isinstance(message, dict) for message in value):
        turns = turns_of(value, f"{where}: history")
        require_last(turns, "assistant", f"{where}: history")
        return turns
    if not isinstance(value, list) or not all(_is_exchange(pair) for pair in value):
        raise UsageError(
            f"{where}: history", "a list of [question, answer] or of messages", "a value of another shape"
        )
    return tuple(
        turn for asked, answered in value for turn in (Turn("user", asked), Turn("assistant", answered))
    )


def with_system(fields: Fields, turns: tuple[Turn, ...], where: str) -> tuple[Turn, ...]:
    """The turns with the row's system text before them, unless they begin with it already."""
    system_turns = [Turn("system", text_of(fields, key, where)) for key in SYSTEM if key in fields]
    if turns and turns[0].role == "system":
        system_turns.append(turns[0])
    if len(set(system_turns)) > 1:
        raise UsageError(f"{where}: system", "one system text", "several system texts", "write them into one")
    return (*system_turns[:1], *spoken(turns)) if system_turns else turns


def spoken(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns without a system turn that they begin with."""
    return turns[1:] if turns and turns[0].role == "system" else turns


def answer_of(value: object, where: str) -> tuple[Turn, ...]:
    """One answer, a text, a message, or messages that end with it."""
    value = messages.unspelled(value, where)
    if isinstance(value, str) and value.strip():
        return (Turn("assistant", value),)
    if not isinstance(value, list | dict):
        raise no_text(value, where)
    turns = turns_of(value, where)
    require_last(turns, "assistant", where)
    return turns


def check_prefix(answer: tuple[Turn, ...], prompt: tuple[Turn, ...], where: str) -> None:
    """Raises UsageError where other turns than the prompt come before an answer."""
    if answer[:-1] not in ((), prompt, spoken(prompt)):
        raise UsageError(
            where,
            "one answer, alone or behind the prompt",
            f"{len(answer)} turns",
            "write what comes before the answer into the prompt",
        )


def text_of(fields: Fields, key: str, where: str) -> str:
    """The text in a column. Raises UsageError where there is none."""
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise no_text(value, f"{where}: {key}")
    return value


def _list_in(value: object) -> object:
    """The list that a text spells as JSON; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _is_exchange(pair: object) -> bool:
    if not isinstance(pair, list) or len(pair) != 2:
        return False
    return all(isinstance(text, str) and text.strip() for text in pair)
