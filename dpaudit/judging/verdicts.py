"""What a judge is shown, with delimiters that no answer can forge, and the verdict that its reply holds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from dpaudit.data.corpus import Turn

Verdict = Literal["first", "second", "tie", "both right", "both wrong"]
Winner = Literal["first", "second", "tie", "both right", "both wrong", "unscored"]

EVEN = ("tie", "both right", "both wrong")  # neither answer is preferred
SLOTS = ("question", "first", "second")
CRITERION_SLOTS = ("question", "answer", "criterion")  # of a judge that sees one answer alone
TAG = "tag"  # the slot of what makes delimiters random


@dataclass(frozen=True)
class Labels:
    """The verdicts that a judge may end with. An empty one is not offered.

    Of a rubric of criteria, `first` says that a criterion is met and `second` that it is not.
    """

    first: str = "[[A]]"
    second: str = "[[B]]"
    tie: str = "[[tie]]"
    both_right: str = ""
    both_wrong: str = ""

    def verdicts(self) -> dict[str, Verdict]:
        """What stands in the brackets of each label, in lower case -> its verdict."""
        return {_bare(label): verdict for verdict, label in self.offered().items()}

    def offered(self) -> dict[Verdict, str]:
        """Verdict -> its label, as it is written."""
        named: dict[Verdict, str] = {
            "first": self.first,
            "second": self.second,
            "tie": self.tie,
            "both right": self.both_right,
            "both wrong": self.both_wrong,
        }
        return {verdict: label for verdict, label in named.items() if label}


@dataclass(frozen=True)
class Found:
    """A verdict in a reply: where its form begins, and where the name of it in that form."""

    verdict: Verdict
    start: int
    name: int


def shown(prompt: str, texts: Mapping[str, str], tag: str) -> str:
    """The prompt with its slots filled by `texts` in one pass, so that a slot's name inside an answer stays
    text.

    `tag` makes the delimiters of the prompt random: nobody who wrote an answer knows them. What looks like a
    delimiter of the prompt, or like a verdict, is made harmless in the texts.
    """
    names = "|".join(
        sorted({re.escape(name) for name in re.findall(r"</?([^\s<>{}/]+?)_?(?:\{tag\})?>", prompt)})
    )
    values = {slot: escaped(text, names) for slot, text in texts.items()} | {TAG: tag}
    return re.sub(r"\{(" + "|".join(values) + r")\}", lambda match: values[match[1]], prompt)


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
    found = located(reply, labels)
    return "unscored" if found is None else found.verdict


def located(reply: str, labels: Labels) -> Found | None:
    """The verdict that `parse` reads, and where it stands; None where it reads none."""
    verdicts, told = labels.verdicts(), unthought(reply)
    if told is None:
        return None
    bare = told.strip(" \n*.")
    if (alone := verdicts.get(bare.casefold())) is not None:
        return Found(alone, told.index(bare), told.index(bare))
    pattern, end = _pattern(tuple(verdicts)), len(told)
    for line in reversed(told.splitlines(keepends=True)):
        end -= len(line)
        matches = list(pattern.finditer(line.rstrip("\r\n")))
        if matches:
            found = [_found(match, verdicts, end) for match in matches]
            return found[-1] if len({one.verdict for one in found}) == 1 else None
    return None


def unthought(reply: str) -> str | None:
    """The reply with line feeds in place of its <think>; None where it was cut off while it was thinking."""
    told = re.sub(r"<think>.*?</think>", lambda match: "\n" * len(match[0]), reply, flags=re.DOTALL)
    return None if "<think>" in told else told


def _found(match: re.Match[str], verdicts: Mapping[str, Verdict], offset: int) -> Found:
    group = next(number for number, text in enumerate(match.groups(), 1) if text)
    return Found(verdicts[_bare(match[group])], offset + match.start(), offset + match.start(group))


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
