"""What a judge is shown, with delimiters that no answer can forge, and the verdict that its reply holds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dpaudit.data.corpus import Turn
from dpaudit.judging import reading

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

    first: str = "[[A]]"  # the first answer is better
    second: str = "[[B]]"  # the second one is
    tie: str = "[[tie]]"  # neither is
    both_right: str = ""  # neither has a fault
    both_wrong: str = ""  # both have one

    def verdicts(self) -> dict[str, Verdict]:
        """What stands in the brackets of each label, in lower case -> its verdict."""
        return {_bare(label): verdict for verdict, label in self.offered().items()}

    def names(self) -> frozenset[str]:
        """What stands in the brackets of each label, as it is written."""
        return frozenset(name_of(label) for label in self.offered().values())

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


USUAL = Labels()


@dataclass(frozen=True)
class Found:
    """A verdict in a reply: where its form begins, and where the name of it in that form."""

    verdict: Verdict
    start: int
    name: int


def shown(prompt: str, texts: Mapping[str, str], tag: str, labels: Labels = USUAL) -> str:
    """The prompt with its slots filled by `texts` in one pass, so that a slot's name inside an answer stays
    text.

    `tag` makes the delimiters of the prompt random: nobody who wrote an answer knows them. What looks like a
    delimiter of the prompt, or like a verdict, is made harmless in the texts.
    """
    names = "|".join(
        sorted({re.escape(name) for name in re.findall(r"</?([^\s<>{}/]+?)_?(?:\{tag\})?>", prompt)})
    )
    values = {slot: escaped(text, names, labels) for slot, text in texts.items()} | {TAG: tag}
    return re.sub(r"\{(" + "|".join(values) + r")\}", lambda match: values[match[1]], prompt)


def escaped(text: str, names: str, labels: Labels = USUAL) -> str:
    """The text with verdicts and the delimiters called `names` (alternatives of a pattern) broken open."""
    text = re.sub(r"(?<=[\[【［])(?=[\[【［])|(?<=[\]】］])(?=[\]】］])", " ", text)
    text = re.sub(r"\\(?=f?boxed?\b)", r"\\ ", text, flags=re.IGNORECASE)
    known, lines = labels.names(), text.splitlines(keepends=True)
    text = "".join(_quoted(line) if reading.worded(line, known) else line for line in lines)
    return re.sub(rf"<(?=\s{{0,9}}/?\s{{0,9}}(?:{names}))", "‹", text, flags=re.IGNORECASE) if names else text


def _quoted(line: str) -> str:
    """The line in marks that no verdict stands in."""
    told = line.rstrip()
    return f"‹{told}›{line[len(told) :]}"


def question_of(turns: Sequence[Turn]) -> str:
    """The dialogue before the answer as plain text: the question alone where it has one turn."""
    if len(turns) == 1:
        return turns[0].text
    return "\n".join(f"{turn.role}: {turn.text}" for turn in turns)


def parse(reply: str, labels: Labels) -> Winner:
    """The verdict that stands last in a reply and is sure to be one; else "unscored".

    It is sure at the end of a line in brackets or in a box, as a sentence of its own or behind words that
    announce it; behind the word for it; alone on the last line; in a JSON object. What a model thinks is no
    reply. A mention in running text is no verdict, and a later mention of another one makes it unsure.
    """
    found = located(reply, labels)
    return "unscored" if found is None else found.verdict


def located(reply: str, labels: Labels) -> Found | None:
    """The verdict that `parse` reads, and where it stands; None where it reads none."""
    told = unthought(reply)
    if told is None:
        return None
    place = reading.last(told, labels.names())
    return None if place is None else Found(labels.verdicts()[place.label], place.start, place.name)


def unthought(reply: str) -> str | None:
    """The reply with line feeds in place of what was thought; None where it was cut off in its thoughts.

    Some servers leave the mark out that thoughts begin with: what stands before a mark that ends them is
    thought too.
    """
    pieces, end, is_open = [], 0, False
    for mark in _THOUGHT.finditer(reply):
        closes = mark[1] == "/"
        if closes:
            pieces.append("\n" * (mark.end() - end))
            end = mark.end()
        elif not is_open:
            pieces.append(reply[end : mark.start()])
            end = mark.start()
        is_open = not closes
    return None if is_open else "".join(pieces) + reply[end:]


_THOUGHT = re.compile(r"<(/?)(?:think|thinking|thought|thoughts|reasoning)>", re.IGNORECASE)


def _bare(label: str) -> str:
    """What stands inside of a label's brackets, in lower case."""
    return name_of(label).casefold()


def name_of(label: str) -> str:
    """What stands inside of a label's brackets."""
    return label.strip().removeprefix("[[").removesuffix("]]").strip()
