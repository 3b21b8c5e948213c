"""Dialogues as data sets write them: a list of messages in any of the common spellings, as turns. Whatever
changes what is learned is either read or refused.
"""

import json
import re
from typing import Any

from dpaudit.data.corpus import Role, Turn
from dpaudit.errors import UsageError, kind_of

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "patient": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "doctor": "assistant",
}
TOOL_ROLES = (
    "tool",
    "observation",
    "function",
    "function_call",
    "function_response",
    "tool_call",
    "tool_response",
    "ipython",
)
LEARNT = (
    "weight",
    "loss",
    "loss_weight",
    "loss_mask",
    "train",
    "training",
    "train_on_turn",
    "learn",
    "trainable",
)  # false: no lesson
UNLEARNT = ("mask", "masked", "skip", "ignore", "ignored", "exclude", "train_detail")  # true: no lesson
TOOLS = ("tools", "functions", "tool_calls", "function_call")
MEDIA = ("image", "images", "image_url", "video", "videos", "audio", "audios")
REASONING = ("reasoning_content", "reasoning", "thinking")
TEXT_PARTS = (None, "text", "input_text", "output_text")
SPELLED = re.compile(r"""\s*\[\s*\{\s*(["'])(?:from|role|value|content)\1\s*:""")
NO_TOOLS = "write tool calls and their results as text in turns of user and assistant, or leave such rows out"
LESSON, NO_LESSON = "a turn to learn from", "a turn marked as not to be learned from"
CUT = "end the dialogue before it, or leave such rows out: the model learns from every turn of the assistant"
OTHERWISE = "name it user or assistant, whichever it stands for, or leave such rows out"
PLAIN = frozenset(("from", "value", "role", "content"))


def turns_of(value: object, where: str) -> tuple[Turn, ...]:
    """The turns of a list of messages, of one message, or of the JSON text of either. Raises UsageError that
    names the place.
    """
    decoded = unspelled(value, where)
    messages = [decoded] if isinstance(decoded, dict) else decoded
    if not isinstance(messages, list) or not messages:
        raise UsageError(
            where, "a list of turns", kind_of(value), "ShareGPT `conversations` or `messages` are read"
        )
    return tuple(_turn(message, where, index) for index, message in enumerate(messages))


def unspelled(value: object, where: str) -> object:
    """The list of messages that a JSON text holds, since tables have no lists; any other value unchanged."""
    if not isinstance(value, str) or not SPELLED.match(value):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise UsageError(
            where,
            "messages as a list, or as JSON text",
            "a text that is not JSON",
            "write the column with json.dumps, not with str",
        ) from None


def require_last(turns: tuple[Turn, ...], role: Role, where: str) -> None:
    if turns[-1].role != role:
        raise UsageError(
            where,
            f"a dialogue that ends with the {role}",
            f"a last turn of the {turns[-1].role}",
            f"remove what follows the last turn of the {role}, or leave such rows out",
        )


def _turn(message: object, where: str, index: int) -> Turn:
    if not isinstance(message, dict):
        raise UsageError(
            f"{where}[{index}]",
            f"a role of {', '.join(ROLES)}, and a text",
            kind_of(message),
            'write each turn as {"role": "user", "content": "…"}',
        )
    name = speaker(message)
    text = message.get("value") if message.get("content") is None else message["content"]
    role = ROLES.get(name) or ROLES.get(name.lower()) if isinstance(name, str) else None
    if len(message) > 2:
        _check_extras(message, role, f"{where}[{index}]")
    if role is None:
        raise _bad_role(name, "from" if message.get("role") is None else "role", where, index)
    if not isinstance(text, str):
        text = _joined(text, f"{where}[{index}]")
    if not text or text.isspace():
        raise no_text(None, f"{where}[{index}]")
    return Turn(role, text)


def speaker(message: dict[str, Any]) -> Any:
    """What a message names as its role."""
    return message.get("from") if message.get("role") is None else message["role"]


def text_keys(message: dict[str, Any]) -> list[str]:
    """The keys that hold a message's text; where there are two, they say the same."""
    return [key for key in ("value", "content") if message.get(key) is not None]


def no_text(value: object, where: str) -> UsageError:
    """The error for `value` in the place of a text."""
    remedy = "fill it in, or leave such rows out" if value is None else "write it as text"
    return UsageError(where, "a non-empty text", kind_of(value), remedy)


def _bad_role(name: object, key: str, where: str, index: int) -> UsageError:
    """The error names only the place: a speaker's name may be a patient's."""
    expected, place = f"a role of {', '.join(ROLES)}", f"{where}[{index}]"
    if isinstance(name, str) and name.lower() in TOOL_ROLES:
        return UsageError(place, expected, f"the role {name.lower()}", NO_TOOLS)
    if name is None:
        return UsageError(place, expected, "no role", "write who speaks into each turn, as role")
    got = "another role" if isinstance(name, str) else kind_of(name)
    listed = f"jq '.{where.rpartition(' ')[2]}[].{key}' FILE | sort | uniq -c"
    return UsageError(place, expected, got, f"{OTHERWISE}; of JSONL all roles are listed by: {listed}")


def _joined(content: object, where: str) -> str:
    """Content in parts, all of which are text, as templates join them."""
    if not isinstance(content, list) or not content:
        raise no_text(content or None, where)
    texts = [part if isinstance(part, str) else _text_of(part) for part in content]
    if any(text is None for text in texts):
        raise UsageError(
            where,
            "parts of type text alone",
            "a part of another type",
            "leave rows with images or other parts out: a text model learns from text",
        )
    return "".join(text for text in texts if text is not None)


def _text_of(part: object) -> str | None:
    if not isinstance(part, dict) or part.get("type") not in TEXT_PARTS:
        return None
    text = part.get("text")
    return text if isinstance(text, str) else None


def _check_extras(message: dict[str, Any], role: Role | None, where: str) -> None:
    """Raises UsageError for keys beside role and text that would be lost: marks of unlearned turns, tools,
    images.
    """
    for key in message.keys() - PLAIN:
        value = message[key]
        if not isinstance(key, str) or value is None or value in ("", [], {}):
            continue
        if key in LEARNT:
            _check_lesson(key, truth(value), role, where)
        elif key in UNLEARNT and truth(value) is not False and role == "assistant":
            raise UsageError(f"{where}: {key}", LESSON, NO_LESSON, CUT)
        elif key in (*TOOLS, *MEDIA, *REASONING):
            raise UsageError(
                f"{where}: {key}",
                "only role and text",
                "a key with more text for the model",
                NO_TOOLS if key in TOOLS else "write it into the text, or leave such rows out",
            )
    for sharegpt_key, openai_key in (("from", "role"), ("value", "content")):
        values = message.get(sharegpt_key), message.get(openai_key)
        if None not in values and values[0] != values[1]:
            raise UsageError(where, f"{sharegpt_key} or {openai_key}", "both keys with different content")


def _check_lesson(key: str, is_learnt: bool | None, role: Role | None, where: str) -> None:
    """Loss is on the assistant's turns, and on all of them alike."""
    if role == "assistant" and is_learnt is not True:
        got = NO_LESSON if is_learnt is False else "a weight that is neither 0 nor 1"
        raise UsageError(f"{where}: {key}", LESSON, got, CUT)
    if (
        role in ("user", "system") and is_learnt is True and key != "weight"
    ):  # a weight counts for answers alone
        raise UsageError(
            f"{where}: {key}",
            "loss on the assistant's turns only",
            f"loss on a turn of the {role}",
            "plain `text` is learned from as a whole",
        )


def truth(value: object) -> bool | None:
    """The truth value of a flag: a bool, 0 or 1, or the text of either; None for anything else."""
    spelled = str(value).strip().lower() if isinstance(value, bool | int | float | str) else ""
    return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(spelled)
