"""A dialogue as a chat template writes it, and where its answers stand there.

Plain texts are found in a frame: what the template writes around turns of these roles, known from one
dialogue of the kind. Everything else is found by marks (`marking`), which takes a second rendering.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

from dpaudit.data.corpus import Turn
from dpaudit.errors import UsageError
from dpaudit.models import templates
from dpaudit.models.marking import MARKS, TAG, Marking, Range, Written
from dpaudit.models.templates import Message, Template

NAMES = {"system": "###System: ", "user": "###Question: ", "assistant": "###Answer: "}
NOT_PLAIN = re.compile("|".join((TAG.pattern, *(marks.pattern for marks in MARKS.values()))))
HOLDERS, MOST_FRAMED = 0x100000, 100  # characters that stand for turns in a frame; turns
FOLDED = "system text stands before the first question, because the chat template has no place for it"


def render(turns: Sequence[Turn], tokenizer: Any, *, prompt: bool = False) -> str:
    """The dialogue as the model's chat template writes it; `prompt` opens the next assistant turn.

    Where a template takes no system turn, its text stands before the first question. A tokenizer without a
    chat template gets `###Question: … ###Answer: …` lines. Raises Refused for turns that the template does
    not take, and UsageError for a template that cannot work.
    """
    template = templates.of_tokenizer(tokenizer)
    if template is None:
        return _lines(turns, tokenizer.eos_token or "").text + (NAMES["assistant"] if prompt else "")
    return template.write(_messages(template, turns), prompt=prompt)


def write(turns: Sequence[Turn], tokenizer: Any) -> Written:
    """The dialogue as `render` writes it, with its answers. Raises Refused where they cannot be located,
    UsageError as `render`.
    """
    template = templates.of_tokenizer(tokenizer)
    if template is None:
        return _lines(turns, tokenizer.eos_token or "")
    messages = _messages(template, turns)
    written = _framed(template, messages) or Marking(template, messages).written()
    return written if len(messages) == len(turns) else replace(written, notes=written.notes | {FOLDED})


def _lines(turns: Sequence[Turn], end: str) -> Written:
    """Lines of question and answer, the origin's own template."""
    text = ""
    contents: list[Range] = []
    others: list[Range] = []
    for turn in turns:
        text += NAMES[turn.role]
        is_answer = turn.role == "assistant"
        (contents if is_answer else others).append((len(text), len(text) + len(turn.text)))
        text += f"{turn.text}{end if is_answer else ''}\n"
    answers = tuple((begin, stop + len(end)) for begin, stop in contents)
    return Written(text, tuple(contents), answers, tuple(others))


def _messages(template: Template, turns: Sequence[Turn]) -> list[Message]:
    """The input of the template; system text that it would not write stands before the first question."""
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    if [turn.role for turn in turns[:2]] != ["system", "user"] or template.takes_system:
        return messages
    content = f"{turns[0].text.strip()}\n\n{turns[1].text}"
    return [{"role": "user", "content": content}, *messages[2:]]


# ---- plain texts in a frame that is known


@dataclass(frozen=True)
class _Frame:
    """What a template writes around the texts of turns of given roles."""

    parts: tuple[str, ...]  # before, between and behind the texts
    turns: tuple[int, ...]  # the turn whose text stands behind each part but the last
    closings: dict[int, int]  # turn of the assistant -> characters of its end-of-turn mark


def _framed(template: Template, messages: Sequence[Message]) -> Written | None:
    """As `Marking` finds it, by one rendering in place of two; None where that needs marks.

    Plain texts stand where the frame of their roles has them if the rendering is the frame with these texts
    in it, character by character.
    """
    texts = [message["content"] for message in messages]
    if any(not text or text != text.strip() or NOT_PLAIN.search(text) for text in texts):
        return None
    frame = _frame(template, tuple(message["role"] for message in messages))
    if frame is None:
        return None
    pieces = [frame.parts[0]]
    for turn, part in zip(frame.turns, frame.parts[1:], strict=True):
        pieces += (texts[turn], part)
    whole = "".join(pieces)
    if template.write(messages) != whole:
        return None
    begins = list(accumulate(map(len, pieces)))[::2]
    ranges = [(begin, begin + len(texts[turn])) for begin, turn in zip(begins, frame.turns, strict=False)]
    placed = sorted(zip(frame.turns, ranges, strict=True))
    contents = [(turn, range_) for turn, range_ in placed if turn in frame.closings]
    answers = tuple((begin, end + frame.closings[turn]) for turn, (begin, end) in contents)
    others = tuple(range_ for turn, range_ in placed if turn not in frame.closings)
    return Written(whole, tuple(range_ for _, range_ in contents), answers, others)


@lru_cache(maxsize=256)
def _frame(template: Template, roles: tuple[str, ...]) -> _Frame | None:
    """None where a template marks what it generates or refuses these roles, and where no answer ends them:
    what ends a turn is then another question.
    """
    if "endgeneration" in template.source or roles[-1:] != ("assistant",) or len(roles) > MOST_FRAMED:
        return None
    holders = [chr(HOLDERS + place) for place in range(len(roles))]
    messages = [{"role": role, "content": text} for role, text in zip(roles, holders, strict=True)]
    try:
        found = Marking(template, messages).written()
    except UsageError:
        return None
    parts = MARKS[HOLDERS].split(found.text)
    turns = tuple(ord(holder) - HOLDERS for holder in MARKS[HOLDERS].findall(found.text))
    if len(turns) != len(found.contents) + len(found.others) or found.notes:
        return None
    assistants = [place for place, role in enumerate(roles) if role == "assistant"]
    ends = [answer[1] - content[1] for answer, content in zip(found.answers, found.contents, strict=True)]
    return _Frame(tuple(parts), turns, dict(zip(assistants, ends, strict=True)))
