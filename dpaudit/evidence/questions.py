"""The two questions of every claim: what may be asked is settled by counts alone, then all are tested in one
family.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from scipy.stats import binom

from dpaudit.evidence import family
from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.verdict import EQUAL, Verdict, conclude, kept, rounded_down, share
from dpaudit.findings.answers import SHOWN, Answered, Before, Question
from dpaudit.findings.inside import Inside
from dpaudit.privacy.claim import Claim
from dpaudit.stats.epsilon import least_right
from dpaudit.stats.roc import proportion_lower

CONTROL_CONFIDENCE = 0.9  # of the lower limit of the control's share of right guesses
NO_CONTROL = "its power is unknown: no adapter was audited that was trained in the same way without noise"


@dataclass(frozen=True)
class Control:
    """The guesses on an adapter that was trained in the same way without noise. It gives power and nothing
    else.
    """

    name: str
    guesses: Guesses


@dataclass(frozen=True)
class Outside:
    """The guesses on one adapter, for all its claims at one delta; `unknown` says why there is no
    control.
    """

    arm: str
    guesses: Guesses
    control: Control | None = None
    unknown: str = NO_CONTROL
    broken: str | None = None  # why guesses prove nothing

    def least(self, claim: Claim) -> float:
        """The p-value had all guesses been right: of counts alone."""
        return self._p_value(claim, self.guesses.guesses)

    def p_value(self, claim: Claim) -> float:
        """At the claim; 1.0 where guesses prove nothing."""
        return 1.0 if self.broken else self._p_value(claim, self.guesses.correct)

    def _p_value(self, claim: Claim, correct: int) -> float:
        return self.guesses.p_value(claim, correct)

    def power(self, claim: Claim, level: float) -> float | None:
        """The chance to refute the claim at `level` on an adapter like the control; None where it is
        unknown.

        Each guess is taken as right with the lower limit of the control's share, independently of the others.
        """
        if self.control is None or self.silent(claim) is not None:
            return None
        known = self.control.guesses
        right = proportion_lower(known.correct, known.guesses, CONTROL_CONFIDENCE)
        needed = least_right(
            canaries=self.guesses.canaries,
            guesses=self.guesses.guesses,
            epsilon=claim.epsilon,
            delta=claim.delta,
            error=level,
        )
        return 0.0 if needed is None else float(binom.sf(needed - 1, self.guesses.guesses, right))

    def silent(self, claim: Claim) -> str | None:
        """Why the guesses cannot refute the claim, whatever was guessed; None where they could."""
        if self.broken is not None:
            return self.broken
        if self.guesses.equal_scores:
            return EQUAL
        reachable = self.guesses.reachable(claim.delta)
        if reachable <= claim.epsilon < self.guesses.ceiling(claim.delta):
            wrong = self.guesses.guesses - self.guesses.correct_at_most
            return f"{wrong} of {self.guesses.guesses} guesses are wrong by equal scores"
        return None

    def unshown(self, claim: Claim, power: float, level: float) -> str | None:
        """Why this power is too small: how little the guesses on the control prove; None where it is not."""
        if self.control is None or power >= SHOWN:
            return None
        known = self.control.guesses.at(1 - level)
        proven = known.lower(claim.delta)
        found = f"an epsilon of {rounded_down(proven)} only" if proven else "nothing"
        return (
            f"on the control {self.control.name}, trained without noise, the attack proves {found} "
            f"({known.correct} of {known.guesses} guesses right), so that no noise at all would have been "
            f"caught with probability {share(power)} only"
        )


@dataclass(frozen=True)
class Training:
    """What the mechanism test says of one training, and the chance to refute it with less noise."""

    arm: str
    p_value: float
    draws: int  # of the null
    power_halved: float
    power_third: float

    @classmethod
    def of(cls, found: Inside) -> "Training":
        p_value = found.mechanism_test.p_value
        return cls(found.arm, p_value, found.draws, found.power_halved, found.power_third)

    @property
    def least(self) -> float:
        """The smallest p-value that there could be."""
        return 1 / (1 + self.draws)


@dataclass(frozen=True)
class Asked:
    """A claim and what bears on it: guesses on its adapter, the trainings that it rests on, what failed."""

    arm: str
    claim: Claim
    outside: Outside | None
    trainings: tuple[Training, ...] = ()  # its own stage and those before, as far as they were looked at
    failed: tuple[str, ...] = ()  # near certain, and outside of the correction
    unseen: tuple[str, ...] = ()  # trainings that it rests on and that were not looked at, each with why
    earlier: "tuple[Earlier, ...]" = ()  # the same claim in the runs that this one repeats

    def of_run(self, run: str) -> "Asked":
        """The same under names that tell it from the same arm of another run."""
        return replace(
            self,
            arm=named(run, self.arm),
            outside=self.outside and replace(self.outside, arm=named(run, self.outside.arm)),
            trainings=tuple(replace(found, arm=named(run, found.arm)) for found in self.trainings),
        )


@dataclass(frozen=True)
class Earlier:
    """A claim in a run that is repeated, under the names of that run, and what its own page says; None where
    that page does not have the claim.
    """

    run: str
    asked: Asked
    own_page: Verdict | None


def answered(asked: Sequence[Asked], error: float = family.ERROR) -> tuple[Answered, ...]:
    """The verdict on every claim of one page, in their order: if all claims are true, the questions of the
    page, those of runs that it repeats among them, refute any with a chance of at most `error`. What the page
    of such a run has refuted by itself stays refuted, and had an `error` of its own.
    """
    return _Family(tuple(asked), error).answers()


def size_of(found: Sequence[Answered]) -> int:
    """How many members the family of these answers has."""
    every = [(a.claim.delta, q) for a in found for q in (*a.questions, *_before(a))]
    tested = [(delta, q) for delta, q in every if q.level is not None]
    return len({(q.side, q.arm, delta if q.side == "outside" else None) for delta, q in tested})


def _before(answer: Answered) -> list[Question]:
    return [question for earlier in answer.before for question in earlier.questions]


@dataclass(frozen=True)
class _Family:
    asked: tuple[Asked, ...]
    error: float

    def answers(self) -> tuple[Answered, ...]:
        return tuple(self._answer(claimed) for claimed in self.asked)

    def _answer(self, claimed: Asked) -> Answered:
        questions = self._questions(claimed)
        before = tuple(map(self._before, claimed.earlier))
        failed, unseen = claimed.failed, claimed.unseen
        found = conclude(questions, failed, unseen, before)
        return Answered(
            claimed.arm, claimed.claim, questions, failed, found.verdict, found.reason, unseen, before
        )

    def _before(self, earlier: Earlier) -> Before:
        questions = self._questions(earlier.asked)
        found = kept(earlier.own_page, conclude(questions, earlier.asked.failed, earlier.asked.unseen))
        own_page = earlier.own_page.verdict if earlier.own_page else None
        return Before(earlier.run, questions, found.verdict, found.reason, own_page)

    def _questions(self, claimed: Asked) -> tuple[Question, ...]:
        asked_outside = [] if claimed.outside is None else [self._outside(claimed.outside, claimed.claim)]
        return (*asked_outside, *map(self._inside, claimed.trainings))

    def _outside(self, outside: Outside, claim: Claim) -> Question:
        level = self._level_of(outside, claim)
        guesses = outside.guesses.at(1 - (self.one_more if level is None else level))
        power = None if level is None else outside.power(claim, self.first)
        note = outside.silent(claim)
        if level is None and note is None:
            ceiling = rounded_down(guesses.ceiling(claim.delta))
            note = (
                f"all guesses right would have proven {ceiling}, no more than the claimed {claim.epsilon:g}"
            )
        elif note is None:
            note = outside.unknown if power is None else outside.unshown(claim, power, self.first)
        return Question(
            side="outside",
            arm=outside.arm,
            p_value=None if outside.broken else outside.p_value(claim),
            level=level,
            epsilon_lower=guesses.lower(claim.delta),
            ceiling=guesses.ceiling(claim.delta),
            violation="no noise at all",
            power=power,
            control=outside.control.name if outside.control else None,
            note=note,
        )

    def _inside(self, finding: Training) -> Question:
        halves = finding.power_halved >= SHOWN
        return Question(
            side="inside",
            arm=finding.arm,
            p_value=finding.p_value,
            level=self.levels.get(inside_name(finding.arm)),
            epsilon_lower=None,
            ceiling=None,
            violation="half of the noise" if halves else "a third of the noise",
            power=finding.power_halved if halves else finding.power_third,
            control=None,
            note=None,
        )

    @cached_property
    def kept(self) -> list[str]:
        """The members of the family."""
        least = {name: min(o.least(c) for c in claims) for name, (o, claims) in self._outsides.items()}
        least |= {inside_name(finding.arm): finding.least for finding in self._trainings}
        return family.admitted(least, self.error)

    @cached_property
    def first(self) -> float:
        return family.first_level(len(self.kept), self.error)

    @cached_property
    def one_more(self) -> float:
        """The level that a question would have had which was left out."""
        return family.first_level(len(self.kept) + 1, self.error)

    @cached_property
    def levels(self) -> dict[str, float]:
        """The level at which every member was tested."""
        p_values: dict[str, list[float]] = {
            name: [outside.p_value(claim) for claim in claims if outside.least(claim) <= self.first]
            for name, (outside, claims) in self._outsides.items()
        }
        p_values |= {inside_name(f.arm): [f.p_value] for f in self._trainings}
        return family.levels({name: p_values[name] for name in self.kept}, self.error)

    def _level_of(self, outside: Outside, claim: Claim) -> float | None:
        if outside.least(claim) > self.first:
            return None
        return self.levels.get(outside_name(outside.arm, claim.delta))

    @cached_property
    def _outsides(self) -> dict[str, tuple[Outside, list[Claim]]]:
        """Every adapter and delta with its guesses and the claims that they bear on."""
        found: dict[str, tuple[Outside, list[Claim]]] = {}
        for claimed in self._every:
            if claimed.outside is not None:
                name = outside_name(claimed.arm, claimed.claim.delta)
                found.setdefault(name, (claimed.outside, []))[1].append(claimed.claim)
        return found

    @cached_property
    def _trainings(self) -> list[Training]:
        return list({f.arm: f for claimed in self._every for f in claimed.trainings}.values())

    @property
    def _every(self) -> list[Asked]:
        """All that is asked, of repeated runs too."""
        return [every for a in self.asked for every in (a, *(earlier.asked for earlier in a.earlier))]


def named(run: str, arm: str) -> str:
    """What an arm of a repeated run is called beside the same arm of the repeat."""
    return f"{run}: {arm}"


def outside_name(arm: str, delta: float) -> str:
    """The name of the member of the family that guesses on an adapter are."""
    return f"outside {arm} {delta!r}"


def inside_name(arm: str) -> str:
    return f"inside {arm}"
