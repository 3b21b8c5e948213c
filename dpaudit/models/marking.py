"""Where the answers of a dialogue stand in what a chat template makes of it: found by construction.

The dialogue is rendered a second time with marks, characters that occur nowhere else, at the ends of every
turn's text. Where taking the marks out leaves the first rendering, they show where each text stands. What
they show is checked dialogue by dialogue: every answer in its own turn, in order, and equal to its text in
the dialogue.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise, takewhile

from dpaudit.models.templates import Message, Refused, Template

Range = tuple[int, int]  # characters, the end left out

MARKS = {0xF0000: re.compile("[\U000f0000-\U000ffffd]"), 0x100000: re.compile("[\U00100000-\U0010fffd]")}
GENERATED = (0xFFFC, 0xFFFD)  # marks around text that the template declares as generated
TAG = re.compile(r"<[^<>\s]{1,40}>|◁[^◁▷\s]{1,40}▷|\[/?[A-Z_]{2,20}\]")  # <think>, [/THINK]
LAST_TAG = re.compile(rf"(?:{TAG.pattern})$")
ATOM = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\s+|\w+|.", re.DOTALL)

TRIMMED = "the chat template leaves out white space of answers"
REASONING = "the chat template leaves out reasoning before answers"


@dataclass(frozen=True)
class Written:
    """`answers` has one range an assistant turn, from its first character to behind its end-of-turn mark;
    `contents` ends before that.
    """

    text: str
    contents: tuple[Range, ...]
    answers: tuple[Range, ...]
    others: tuple[Range, ...]  # what users and system say; of a turn of white space or tags alone, nothing
    notes: frozenset[str] = frozenset()  # what the template changed: TRIMMED, REASONING, FOLDED


# ---- one turn with marks


@dataclass(frozen=True)
class _Turn:
    """A turn's text and the places of its marks: two a piece, where it begins and where it ends.

    The pieces of an answer are the texts between its tags, such as tags around reasoning; the last piece ends
    it. Where the answer begins with a tag, `opens` is set and one mark more stands before that.
    """

    content: str
    places: tuple[int, ...]
    opens: bool = False

    def marked(self, first: int) -> str:
        """The text with its marks, the characters from number `first` on."""
        parts = [self.content[a:b] for a, b in pairwise((0, *self.places, len(self.content)))]
        return parts[0] + "".join(chr(first + number) + part for number, part in enumerate(parts[1:]))

    def wider(self, side: int) -> "_Turn":
        """With the white space before its first mark (0) or behind its last one (-1)."""
        begin, *inside, end = self.places
        places = (0, *inside, end) if side == 0 else (begin, *inside, len(self.content))
        return replace(self, places=places)


def _whole(content: str) -> _Turn:
    return _Turn(content, (0, len(content)))


def _between_tags(content: str) -> _Turn:
    """The pieces of an answer without the white space around them; the last may be empty."""
    begin, stop = _stripped(content, 0, len(content))
    tags = [tag.span() for tag in TAG.finditer(content, begin, stop)]
    edges = [begin, *(edge for tag in tags for edge in tag), stop]
    pieces = [_stripped(content, a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    kept = [*(piece for piece in pieces[:-1] if piece[0] < piece[1]), pieces[-1]]
    opens = bool(tags) and tags[0][0] == begin
    return _Turn(
        content, (*((begin,) if opens else ()), *(place for piece in kept for place in piece)), opens
    )


def _core(content: str) -> _Turn:
    """A user's text without tags and white space at its ends; no mark where nothing is left."""
    turn = _between_tags(content)
    places = turn.places[turn.opens :]
    pieces = [piece for piece in zip(places[::2], places[1::2], strict=True) if piece[0] < piece[1]]
    return _Turn(content, (pieces[0][0], pieces[-1][1]) if pieces else ())


def _stripped(content: str, begin: int, stop: int) -> Range:
    """The range without white space at its ends; of white space alone, its end."""
    inside = content[begin:stop]
    first = begin + len(inside) - len(inside.lstrip())
    return first, max(first, begin + len(inside.rstrip()))


def _letters(text: str) -> str:
    """The text without white space."""
    return "".join(text.split())


# ---- a dialogue with marks


@dataclass(frozen=True)
class _Seen:
    """Where every mark stands in the text without marks: by turn and place its positions; and what is
    generated.
    """

    at: list[list[list[int]]]
    generated: list[Range]


class Marking:
    """Finds the answers of one dialogue in what a template makes of it."""

    def __init__(self, template: Template, messages: Sequence[Message]) -> None:
        self.template, self.messages = template, messages
        self.text = template.write(messages)
        texts = "".join((self.text, *(message["content"] for message in messages)))
        plane = next((first for first, marks in MARKS.items() if not marks.search(texts)), None)
        if plane is None:
            raise self._refused("private-use characters of both planes")
        self.plane = plane

    def written(self) -> Written:
        """Located by marks around whole answers, or else around the pieces left after white space and
        reasoning are stripped.
        """
        whole = self._turns(_whole)
        seen = self._seen(whole)
        if seen is not None and all(self._has_all(seen, place) for place in self._answers()):
            return self._found(whole, seen)
        turns = self._turns(_between_tags)
        seen = self._seen(turns)
        if seen is None:
            raise self._refused("a template that the words of a turn change")
        for place, side in ((place, side) for place in self._answers() for side in (0, -1)):
            tried = [*turns[:place], turns[place].wider(side), *turns[place + 1 :]]
            if tried != turns and (marks := self._seen(tried)) is not None:
                turns, seen = tried, marks
        return self._found(turns, seen)

    def _answers(self) -> list[int]:
        return [place for place, message in enumerate(self.messages) if message["role"] == "assistant"]

    def _refused(self, got: str) -> Refused:
        return Refused(
            self.template.where,
            expected="a dialogue that the chat template writes whole, each answer in its turn",
            got=got,
            remedy="leave such rows out, or name a model with another template",
        )

    def _turns(self, answer: Callable[[str], _Turn]) -> list[_Turn]:
        return [
            (answer if message["role"] == "assistant" else _core)(message["content"])
            for message in self.messages
        ]

    def _seen(self, turns: Sequence[_Turn]) -> _Seen | None:
        """Where the marks stand; None where the text without them differs."""
        firsts = list(accumulate((len(turn.places) for turn in turns), initial=self.plane))
        if firsts[-1] >= self.plane + GENERATED[0]:
            raise self._refused("too many turns")
        marked = [
            {**message, "content": turn.marked(first)}
            for message, turn, first in zip(self.messages, turns, firsts, strict=False)
        ]
        opens, closes = (chr(self.plane + number) for number in GENERATED)
        written = self.template.write(marked, marks=(opens, closes))
        if MARKS[self.plane].sub("", written) != self.text:
            return None
        at: dict[str, list[int]] = {}
        for before, mark in enumerate(MARKS[self.plane].finditer(written)):
            at.setdefault(mark.group(), []).append(mark.start() - before)
        by_turn = [
            [at.get(chr(first + place), []) for place in range(len(turn.places))]
            for turn, first in zip(turns, firsts, strict=False)
        ]
        return _Seen(by_turn, list(zip(at.get(opens, []), at.get(closes, []), strict=True)))

    def _has_all(self, seen: _Seen, place: int) -> bool:
        """Whether a whole answer stands in the text as it is."""
        begins, ends = seen.at[place]
        texts = [self.text[a:b] for a, b in zip(begins, ends, strict=False)]
        return texts == [self.messages[place]["content"]]

    def _found(self, turns: Sequence[_Turn], seen: _Seen) -> Written:
        """The answers, checked against each other and against the texts of users and system."""
        others = {
            place: list(zip(*seen.at[place], strict=True))
            for place, turn in enumerate(turns)
            if turn.places and self.messages[place]["role"] != "assistant"
        }
        for place, ranges in others.items():
            if not ranges:
                raise self._refused(f"turn {place + 1} left out")
        own = {place: self._own(turns[place], seen.at[place], place) for place in self._answers()}
        ends = self._ends(own, others, seen.generated)
        answers = {place: (begin, ends[place]) for place, (begin, _) in own.items()}
        self._check_order(answers, others)
        kept = [self.text[begin:end] for begin, end in own.values()]
        contents = [self.messages[place]["content"] for place in own]
        notes = {
            REASONING if _letters(a) != _letters(b) else TRIMMED
            for a, b in zip(kept, contents, strict=True)
            if a != b
        }
        return Written(
            self.text,
            tuple(own.values()),
            tuple(answers.values()),
            tuple(range_ for ranges in others.values() for range_ in ranges),
            frozenset(notes),
        )

    def _own(self, turn: _Turn, at: Sequence[Sequence[int]], place: int) -> Range:
        """Where an answer's own text stands: all of it, or its last pieces where the first ones were
        stripped.
        """
        pieces = list(zip(at[turn.opens :: 2], at[turn.opens + 1 :: 2], strict=True))
        begins = list(zip(turn.places[turn.opens :: 2], pieces, strict=True))
        left = [(first, positions) for first, positions in begins if positions != ([], [])]
        if (
            any(len(a) != 1 or len(b) != 1 for _, (a, b) in left)
            or left != begins[len(begins) - len(left) :]
            or not left
        ):
            raise self._refused(f"turn {place + 1} cut, left out or repeated")
        first, (begin, _) = left[0]
        start, end = begin[0], left[-1][1][1][0]
        if turn.opens and left == begins:
            has_mark = len(at[0]) == 1
            first, start = (
                (turn.places[0], at[0][0]) if has_mark else self._with_tags(turn.content, first, start)
            )
        if _letters(self.text[start:end]) != _letters(turn.content[first : turn.places[-1]]):
            raise self._refused(f"turn {place + 1} in other words")
        return start, end

    def _with_tags(self, content: str, first: int, start: int) -> tuple[int, int]:
        """With the tags directly before it, where the template rewrites them, such as <think> with line ends
        of its own.
        """
        before, text = content[:first].rstrip(), self.text[:start].rstrip()
        while (tag := _last_tag(before)) and text.endswith(tag):
            first, start = len(before) - len(tag), len(text) - len(tag)
            before, text = content[:first].rstrip(), self.text[:start].rstrip()
        return first, start

    def _ends(
        self, own: dict[int, Range], others: dict[int, list[Range]], generated: Sequence[Range]
    ) -> dict[int, int]:
        """Where each turn of the assistant ends: after the same closing text that the template writes at the
        dialogue's end.

        A template that marks generated text marks these ends too.
        """
        if generated:
            return {place: self._generated_end(own[place], generated, place) for place in own}
        closing = self._closing(max(own), own) if own else ""
        starts = {place: ranges[0][0] for place, ranges in others.items()} | {p: r[0] for p, r in own.items()}
        following = {
            place: min((s for p, s in starts.items() if p > place), default=len(self.text)) for place in own
        }
        return {
            place: end + len(_common(closing, self.text[end : following[place]]))
            for place, (_, end) in own.items()
        }

    def _closing(self, last: int, own: dict[int, Range]) -> str:
        """What the template writes behind the last answer, where a dialogue ends with it."""
        if last == len(self.messages) - 1:
            return self.text[own[last][1] :].rstrip()
        shorter = Marking(self.template, self.messages[: last + 1]).written()
        return shorter.text[shorter.contents[-1][1] : shorter.answers[-1][1]]

    def _generated_end(self, own: Range, generated: Sequence[Range], place: int) -> int:
        ends = [end for begin, end in generated if begin <= own[0] and own[1] <= end]
        if len(ends) != 1:
            raise self._refused(f"turn {place + 1} outside of what the template marks as generated")
        return max(own[1], len(self.text[: ends[0]].rstrip()))

    def _check_order(self, answers: dict[int, Range], others: dict[int, list[Range]]) -> None:
        """Raises Refused unless turns that occur once stand in their order, and none reaches into another."""
        once = [(place, ranges[0]) for place, ranges in others.items() if len(ranges) == 1]
        ordered = [place for _, range_ in sorted([*once, *answers.items()]) for place in range_]
        apart = sorted([*answers.values(), *(range_ for ranges in others.values() for range_ in ranges)])
        if ordered != sorted(ordered) or any(a[1] > b[0] for a, b in pairwise(apart)):
            raise self._refused("turns in another order or into each other")


def _last_tag(text: str) -> str:
    """The tag that a text ends with."""
    match = LAST_TAG.search(text, max(0, len(text) - 64))
    return match.group() if match else ""


def _common(closing: str, following: str) -> str:
    """The common beginning of two texts, in whole tags and words, without white space at its end."""
    alike = takewhile(
        lambda pair: pair[0] == pair[1], zip(ATOM.findall(closing), ATOM.findall(following), strict=False)
    )
    return "".join(atom for atom, _ in alike).rstrip()
