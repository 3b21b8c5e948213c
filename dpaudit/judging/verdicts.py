"""What a judge is shown, with delimiters that no answer can forge, and the verdict that its reply holds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from dpaudit.data.corpus import Turn

Verdict = Literal["first", "second", "tie", "both right", "both wrong"]
Winner = Literal["first", "second", "tie", "both right", "both wrong", "unscored"]

EVEN = ("tie", "both right", "both wrong")  # neither answer is preferred
SLOTS = ("question", "first", "second")
TAG = "tag"  # the slot of what makes delimiters random


@dataclass(frozen=True)
class Labels:
    """The verdicts that a judge may end with. An empty one is not offered."""

    first: str = "[[A]]"
    second: str = "[[B]]"
    tie: str = "[[tie]]"
    both_right: str = ""
    both_wrong: str = ""

    def verdicts(self) -> dict[str, Verdict]:
        """What stands in the brackets of each label, in lower case -> its verdict."""
        named: tuple[tuple[str, Verdict], ...] = (
            (self.first, "first"),
            (self.second, "second"),
            (self.tie, "tie"),
            (self.both_right, "both right"),
            (self.both_wrong, "both wrong"),
        )
        return {_bare(label): verdict for label, verdict in named if label}


def shown(prompt: str, turns: Sequence[Turn], first: str, second: str, tag: str) -> str:
    """The prompt with its slots filled in one pass, so that a slot's name inside an answer stays text.

    `tag` makes the delimiters of the prompt random: nobody who wrote an answer knows them. What looks like a
    delimiter of the prompt, or like a verdict, is made harmless in question and answers.
    """
    names = "|".join(
        sorted({re.escape(name) for name in re.findall(r"</?([^\s<>{}/]+?)_?(?:\{tag\})?>", prompt)})
    )
    values = {
        "question": escaped(question_of(turns), names),
        "first": escaped(first, names),
        "second": escaped(second, names),
        TAG: tag,
    }
    return re.sub(r"\{(question|first|second|tag)\}", lambda match: values[match[1]], prompt)


def escaped(text: str, names: str) -> str:
    """The text with verdicts and the delimiters called `names` (alternatives of a pattern) broken open."""
    text = text.replace("[[", "[ [").replace("]]", "] ]")
    return re.sub(rf"<(?=\s*/?\s*(?:{names}))", "‹", text, flags=re.IGNORECASE) if names else text


def question_of(turns: Sequence[Turn]) -> str:
    """The dialogue before the answer as plain text: the question alone where it has one turn."""
    if len(turns) == 1:
        return turns[0].text
    return "\n".join(f"{turn.role}: {turn.text}" for turn in turns)


def parse(reply: str, labels: Labels) -> Winner:
    """The verdict that stands last in a reply, in brackets, in a box, behind the word for it, or alone.

    What a model thinks in <think> is no reply. A line with two different verdicts, which repeats the
    question, has none; nor has running text that only mentions a winner: "unscored".
    """
    verdicts = labels.verdicts()
    told = re.sub(r"<think>.*?</think>", "", reply, flags=re.DOTALL)
    if "<think>" in told:  # cut off while it was thinking
        return "unscored"
    if (alone := verdicts.get(told.strip(" \n*.").casefold())) is not None:
        return alone
    pattern = _pattern(tuple(verdicts))
    for line in reversed(told.splitlines()):
        found = {verdicts[_bare(next(filter(None, match.groups())))] for match in pattern.finditer(line)}
        if found:
            return found.pop() if len(found) == 1 else "unscored"
    return "unscored"


@cache
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Where one of the names stands as a verdict."""
    name = "(" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")"
    forms = (
        rf"\[\[\s*{name}\s*\]\]",
        rf"\\boxed\s*\{{\s*(?:\\text\s*\{{)?\s*{name}\s*\}}",
        rf"(?:verdict|结论|判断|判定)\s*(?:is|为|是)?\s*[:：]?\s*[*\"'\s]*{name}[*\"'.。\s]*$",
    )
    return re.compile("|".join(forms), re.IGNORECASE)


def _bare(label: str) -> str:
    """What stands inside of a label's brackets."""
    return label.strip().removeprefix("[[").removesuffix("]]").strip().casefold()
