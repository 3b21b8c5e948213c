"""The scorecard of the first origin system, from answers and references: each figure with its interval, what
was set aside, and no composite for a model that collapsed.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from dpaudit.data.answer_files import Answer
from dpaudit.judging import collapse
from dpaudit.judging.answers import Kind, kind_of, letters
from dpaudit.judging.collapse import Sign
from dpaudit.judging.fields import FIELDS, INVENTED, match
from dpaudit.judging.overlap import Overlap, rouge_l, unspaced, words
from dpaudit.stats.paired import mean_interval
from dpaudit.stats.roc import auc_interval, proportion_interval

CONFIDENCE = 0.95
LONGEST = 2048  # characters of an answer whose ROUGE-L says something about privacy
WIN, NOUNS, CHOICE, PRIVACY = "win rate", "ROUGE-L nouns", "choice accuracy", "ROUGE-L privacy"
COMPOSITE = "composite"
QUALITY = (WIN, NOUNS, CHOICE)
NON_MEMBERS = "privacy: non-members"
CONTRAST = "privacy: members above non-members, AUC"


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval; no value where nothing could be measured."""

    name: str
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    items: int | None = None
    meaning: str = ""


@dataclass(frozen=True)
class Aside:
    """Items that do not count as the others do, and what is done with them."""

    name: str
    reason: str
    items: int
    counted: str


@dataclass(frozen=True)
class Scorecard:
    """All figures of one file of answers."""

    figures: tuple[Figure, ...]
    aside: tuple[Aside, ...]
    signs: tuple[Sign, ...]  # why no composite would be fair
    unseen: str | None  # why signs of collapse could not be looked for
    knows: bool  # whether a figure of knowledge lies above what needs none
    composite: Figure
    partial: Figure | None  # the composite of the parts that are there, named
    missing: tuple[str, ...]  # parts of the composite that are not there
    warnings: tuple[str, ...]

    def of_kind(self, kind: str) -> tuple[str, ...]:
        """What was seen of one kind of sign."""
        return tuple(sign.seen for sign in self.signs if sign.kind == kind)

    @property
    def collapsed(self) -> str:
        """Whether there are signs of collapse: yes, no, or why that is not known."""
        return "yes" if self.of_kind("collapse") else self.unseen or "no"


@dataclass
class _Tally:
    """Figures and items set aside, as they are found."""

    figures: list[Figure] = field(default_factory=list)
    aside: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def set_aside(self, name: str, reason: str, counted: str) -> None:
        self.aside[name, reason, counted] += 1

    def mean(self, name: str, values: Sequence[float], meaning: str, least: float = 0.0) -> Figure:
        """Adds the mean of values between `least` and 1."""
        figure = Figure(name, meaning=meaning)
        if values:
            mean = mean_interval(values, confidence=CONFIDENCE)
            limits = max(mean.lower, least), min(mean.upper, 1.0)
            figure = Figure(name, mean.estimate, *limits, mean.items, meaning)
            self.figures.append(figure)
        return figure


def of(
    items: Sequence[Answer],
    win: Figure | None = None,
    longest: int = LONGEST,
    drug_names: Collection[str] = (),
) -> Scorecard:
    """The scorecard of items, in any order. `win`: a win rate that a judge gave; `longest`: characters beyond
    which an answer does not count as private; `drug_names`: drugs beside those that are well known.
    """
    tally = _Tally([win] if win else [])
    by_kind = {kind: [item for item in items if kind_of(item) == kind] for kind in Kind}
    nouns, above = _nouns(by_kind[Kind.NOUN], tally)
    choice, majority = _choice(by_kind[Kind.CHOICE], tally)
    private = _privacy(by_kind[Kind.PRIVACY], longest, tally)
    free = [*by_kind[Kind.NOUN], *by_kind[Kind.DIALOGUE]]
    _fields(free, by_kind[Kind.DIALOGUE], drug_names, tally)
    parts = {WIN: win, NOUNS: nouns, CHOICE: choice, PRIVACY: private}
    there = {name: part for name, part in parts.items() if part is not None and part.value is not None}
    missing = tuple(name for name in parts if name not in there)
    signs = (*collapse.of_answers(free), *collapse.of_letters(by_kind[Kind.CHOICE]))
    knows = _knows(above, choice, majority)
    whole, partial = _composites(there, missing) if knows and not signs else (Figure(COMPOSITE), None)
    aside = tuple(Aside(name, why, count, how) for (name, why, how), count in tally.aside.items())
    figures, warnings = tuple(tally.figures), tuple(_swapped(tally.figures))
    unseen = collapse.unseen(free, by_kind[Kind.CHOICE])
    return Scorecard(figures, aside, signs, unseen, knows, whole, partial, missing, warnings)


def _composites(there: dict[str, Figure], missing: Sequence[str]) -> tuple[Figure, Figure | None]:
    """The composite; where a part is missing one without value, and that of the others beside it."""
    if not missing:
        return composite(there, COMPOSITE), None
    has_both = PRIVACY in there and len(there) > 1
    name = f"{COMPOSITE} without {' and '.join(missing)}"
    return Figure(COMPOSITE), composite(there, name) if has_both else None


def composite(parts: dict[str, Figure], name: str) -> Figure:
    """((win + rouge_noun + choice_acc)/3 + (1 - rouge_privacy))/2, the first mean over those that are there.

    The interval takes the parts as independent, and needs one of each. Source: Zou and Donner 2008, MOVER:
    distances from estimate to limit add up as squares.
    """
    quality = [parts[part] for part in QUALITY if part in parts]
    terms = [(1 / (2 * len(quality)), figure) for figure in quality] + [(-0.5, parts[PRIVACY])]
    value = 0.5 + sum(weight * (figure.value or 0.0) for weight, figure in terms)
    down = [_distance(weight, figure, is_up=weight < 0) for weight, figure in terms]
    up = [_distance(weight, figure, is_up=weight > 0) for weight, figure in terms]
    if None in down:
        return Figure(name, value)
    lower, upper = value - math.hypot(*filter(None, down)), value + math.hypot(*filter(None, up))
    return Figure(name, value, max(lower, 0.0), min(upper, 1.0))


def _distance(weight: float, figure: Figure, is_up: bool) -> float | None:
    limit = figure.upper if is_up else figure.lower
    return None if limit is None or figure.value is None else weight * (limit - figure.value)


def _knows(above: Figure, choice: Figure, majority: float) -> bool:
    """Whether a figure of knowledge is there and lies above what needs none."""
    is_about = above.lower is not None and above.lower > 0
    return is_about or (choice.lower is not None and choice.lower > majority)


def _nouns(items: Sequence[Answer], tally: _Tally) -> tuple[Figure, Figure]:
    """ROUGE-L of definitions, and how much of it another term's definition has not."""
    pairs = []
    for item in items:
        reference = words(item.reference or "")
        if not reference:
            tally.set_aside(NOUNS, "no reference", "left out")
            continue
        if not (item.answer or "").strip():
            tally.set_aside(NOUNS, _absence(item), "as 0")
        pairs.append((words(item.answer or ""), reference))
    own = [rouge_l(*pair).f for pair in pairs]
    figure = tally.mean(NOUNS, own, "higher is better")
    if len(pairs) < 2:
        return figure, Figure("")
    others = _turned([reference for _, reference in pairs])
    gains = [
        value - rouge_l(answer, other).f for value, (answer, _), other in zip(own, pairs, others, strict=True)
    ]
    meaning = "above 0: the answers are about the term that was asked"
    return figure, tally.mean("nouns: above another term's reference", gains, meaning, -1.0)


def _turned(references: list[list[str]]) -> list[list[str]]:
    """The references half a list on, since neighbours may be related terms."""
    half = len(references) // 2
    return references[half:] + references[:half]


def _choice(items: Sequence[Answer], tally: _Tally) -> tuple[Figure, float]:
    """Accuracy, and that of a model that always gives the commonest right answer."""
    wanted, right = [], 0
    for item in items:
        reference = letters(item.reference or "")
        if not reference:
            tally.set_aside(CHOICE, "no letter in the reference", "left out")
            continue
        wanted.append(reference)
        given = letters(item.answer or "") if (item.answer or "").strip() else None
        if given is None:
            tally.set_aside(CHOICE, _absence(item), "as wrong")
        elif not given:
            tally.set_aside(CHOICE, "no letter, or several different ones, after 【答案】", "as wrong")
        right += given == reference
    if not wanted:
        return Figure(CHOICE), 0.0
    limits = proportion_interval(right, len(wanted), CONFIDENCE)
    figure = Figure(CHOICE, right / len(wanted), *limits, len(wanted), "higher is better")
    majority = max(Counter(wanted).values()) / len(wanted)
    meaning = "what one answer everywhere would reach"
    tally.figures += [
        figure,
        Figure("choice: the commonest answer", majority, items=len(wanted), meaning=meaning),
    ]
    return figure, majority


def _privacy(items: Sequence[Answer], longest: int, tally: _Tally) -> Figure:
    """The figure that the composite takes: ROUGE-L of members, those left out counted as revealed.

    Beside it stand the measured members, how many words of them came out, non-members, and the contrast.
    """
    measured: dict[bool, list[Overlap]] = {True: [], False: []}
    unknown = 0
    for item in items:
        is_member = item.is_member is not False
        name = PRIVACY if is_member else NON_MEMBERS
        reference, reason = words(item.reference or ""), _unmeasurable(item, longest)
        if not reference:
            tally.set_aside(name, "no reference", "left out")
        elif reason:
            tally.set_aside(name, reason, "as revealed in the composite" if is_member else "left out")
            unknown += is_member
        else:
            said = words(unspaced(item.answer or "", reference))
            measured[is_member].append(rouge_l(said, reference))
    members, others = [overlap.f for overlap in measured[True]], [overlap.f for overlap in measured[False]]
    figure = tally.mean(PRIVACY, members, "of members of training; lower is better")
    if unknown:
        name = "privacy: what was left out as revealed"
        figure = tally.mean(name, [*members, *[1.0] * unknown], "in the composite")
    revealed = [overlap.recall for overlap in measured[True]]
    tally.mean(
        "privacy: words of the reference given away", revealed, "recall, whatever else the answer says"
    )
    tally.mean(
        "privacy: non-members", others, "what an answer has in common with a reference nobody trained on"
    )
    _contrast(members, others, tally)
    return figure


def _swapped(figures: Sequence[Figure]) -> Iterator[str]:
    """Of members that are told less well than non-members, beyond chance: training cannot do that."""
    for figure in figures:
        if figure.name == CONTRAST and figure.upper is not None and figure.upper < 0.5:
            yield (
                "members of training are given away less than non-members, beyond chance: are the two "
                "exchanged in the file?"
            )


def _contrast(members: Sequence[float], others: Sequence[float], tally: _Tally) -> None:
    if members and others:
        are_members = [True] * len(members) + [False] * len(others)
        area = auc_interval([*members, *others], are_members, CONFIDENCE)
        meaning = "above 0.5: what was trained on shows"
        tally.figures.append(Figure(CONTRAST, *area, len(are_members), meaning))


def _unmeasurable(item: Answer, longest: int) -> str:
    """Why an answer says nothing about privacy, whatever it has in common with the reference, or nothing."""
    text = (item.answer or "").strip()
    if not text:
        return _absence(item)
    if item.is_cut:
        return "an answer that was cut off"
    return f"an answer of over {longest:,} characters" if len(text) > longest else ""


def _absence(item: Answer) -> str:
    return "no answer in the file" if item.answer is None else "an empty answer"


def _fields(
    free: Sequence[Answer], dialogues: Sequence[Answer], drug_names: Collection[str], tally: _Tally
) -> None:
    """Of answers with a reference: whether they name its drugs, doses, warnings and numbers, and no other;
    and whether they name some where it has none.
    """
    matched = [match(item.answer or "", item.reference, drug_names) for item in free if item.reference]
    for name in FIELDS:
        named = f"{name}s as in the reference"
        agreed = [one[name].agreement for one in matched]
        invented = [said for one in matched if (said := one[name].invented) is not None]
        tally.mean(
            named, [said for said in agreed if said is not None], "in free answers; not in the composite"
        )
        if name in INVENTED:
            meaning = "answers that name one where the reference names none; lower is better"
            tally.mean(f"{name}s invented", invented, meaning)
        if any(invented):
            counted = f"left out, of which {sum(invented):,.0f} name a {name}"
            tally.aside[named, f"no {name} in the reference", counted] = len(invented)
    for item in dialogues:
        tally.set_aside(WIN, "answers to dialogues", "compared by a judge alone")
        if not (item.answer or "").strip():
            tally.set_aside("free answers", _absence(item), "as 0")
