"""The grid of a suite: its arms, what each starts from, and how they are named."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from dpaudit.errors import BadValue, UsageError
from dpaudit.schema import at_least

Method = Literal["cpt", "sft", "dpo"]  # continued pretraining on plain text, dialogues, preference pairs
SEEDS_MOST = 1000  # trainings of one arm


@dataclass(frozen=True)
class Arm:
    """One trained model of the grid."""

    method: Method
    loss: str  # as the method, or the name of a DPO loss
    epsilon: float  # inf: non-private
    seed: int = 0
    twin: bool = False  # learns from no canary; only its quality counts

    @property
    def lesson(self) -> str:
        """What it learns from: the data of its method, with canaries or without."""
        return f"{self.method}-twin" if self.twin else self.method

    @property
    def private(self) -> bool:
        return math.isfinite(self.epsilon)

    @property
    def name(self) -> str:
        stem = f"dpo-{self.loss}" if self.method == "dpo" else self.method
        seed = f"-s{self.seed}" if self.seed else ""
        return f"{stem}-{epsilon_label(self.epsilon)}{seed}{'-twin' if self.twin else ''}"


@dataclass(frozen=True)
class Grid:
    """Which arms are asked for, and those that follow from it."""

    epsilons: tuple[float, ...] = (8.0, 4.0, 1.0)  # one SFT arm each
    baseline: bool = True  # the non-private arm beside them
    dpo: tuple[str, ...] = ()  # losses, one arm each and epsilon
    dpo_epsilons: tuple[float, ...] | None = None  # None: as epsilons (and inf with the baseline)
    stages: tuple[Method, ...] = ("sft",)  # what is trained beside the DPO arms of `dpo`
    chain: bool = False  # each stage continues from the one before; else every arm starts at the base
    share: float = 0.5  # chain: the part of a claim that the stages before may spend
    seeds: int = 1  # trainings of each arm, each with a seed of its own
    twin: bool = (
        False  # beside each non-private SFT arm one that sees no canary: what canaries cost in quality
    )

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise BadValue("share", "a number between 0 and 1", self.share)
        for key, epsilons in (("epsilons", self.epsilons), ("dpo_epsilons", self.dpo_epsilons or ())):
            for epsilon in epsilons:
                if not epsilon > 0:
                    raise BadValue(
                        key,
                        "numbers above 0",
                        f"{epsilon:g}",
                        "inf is the non-private arm",
                    )
        at_least(1, seeds=self.seeds)
        if self.seeds > SEEDS_MOST:
            raise BadValue(
                "seeds", f"at most {SEEDS_MOST}", self.seeds if self.seeds < 10**9 else "a larger number"
            )

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """Stage by stage, seed by seed, largest epsilon first; the arms that they start from are included."""
        asked = self._asked()
        arms = dict.fromkeys(asked)
        for arm in asked:
            while (earlier := self.start_of(arm)) is not None:
                arm = earlier
                arms.setdefault(arm)
        if self.twin:
            arms |= {replace(arm, twin=True): None for arm in arms if arm.method == "sft" and not arm.private}
        return tuple(sorted(arms, key=self._place))

    def _asked(self) -> list[Arm]:
        ladder = _ladder(self.epsilons, self.baseline)
        dpo_ladder = ladder if self.dpo_epsilons is None else _ladder(self.dpo_epsilons, False)
        stages = self.stages[-1:] if self.chain else self.stages  # in a chain, the others are added as starts
        seeds = range(self.seeds)
        arms = [Arm(stage, stage, epsilon, seed) for stage in stages for seed in seeds for epsilon in ladder]
        dpo = [(seed, loss, epsilon) for seed in seeds for loss in self.dpo for epsilon in dpo_ladder]
        return arms + [Arm("dpo", loss, epsilon, seed) for seed, loss, epsilon in dpo]

    def _place(self, arm: Arm) -> tuple[int, int, int, float, bool]:
        loss = self.dpo.index(arm.loss) if arm.method == "dpo" else 0
        return (self._methods.index(arm.method), arm.seed, loss, -arm.epsilon, arm.twin)

    @property
    def _methods(self) -> list[Method]:
        return [*self.stages, "dpo"]

    def start_of(self, arm: Arm) -> Arm | None:
        """The arm of the stage before, from whose adapter this one continues; None where it starts at the
        base.

        The start may spend `share` of the arm's claim; what is left is for the arm's own steps.
        """
        place = self._methods.index(arm.method)
        if not self.chain or place == 0:
            return None
        earlier = self.stages[place - 1]
        return Arm(earlier, earlier, arm.epsilon * self.share, arm.seed)

    def named(self, names: Sequence[str] | None, *, twins: bool = True) -> list[Arm]:
        """The arms with these names, in the grid's order; all where `names` is None. Raises UsageError for a
        name of no arm; twins count as unknown where `twins` is false.
        """
        known = {arm.name: arm for arm in self.arms if twins or not arm.twin}
        for name in names or ():
            if name not in known:
                is_twin = name in {arm.name for arm in self.arms}
                got = "a twin, which saw no canary" if is_twin else "no such arm"
                raise UsageError(f"--arm {name}", f"one of {', '.join(known)}", got)
        return [arm for name, arm in known.items() if names is None or name in names]


def nonprivate(arm: Arm, arms: Sequence[Arm]) -> Arm | None:
    """The arm that `arm` is measured against: non-private with its loss and seed, else the non-private SFT
    arm.
    """
    references = [a for a in arms if not a.private and not a.twin and a.seed == arm.seed]
    same = [a for a in references if (a.method, a.loss) == (arm.method, arm.loss)]
    return next(iter(same or [a for a in references if a.method == "sft"]), None)


def epsilon_label(epsilon: float) -> str:
    """The epsilon in an arm's name, short where that is exact: no two epsilons share one."""
    if math.isinf(epsilon):
        return "inf"
    short = f"{epsilon:g}"
    return f"eps{short if float(short) == epsilon else repr(float(epsilon))}"


def _ladder(epsilons: tuple[float, ...], baseline: bool) -> list[float]:
    return sorted({*epsilons, *((math.inf,) if baseline else ())}, reverse=True)


def schedule_key(arm: Arm, unit: str) -> str:
    """The key of `training` that says how an arm steps."""
    return ("" if arm.method == "sft" else f"{arm.method}_") + (
        "private" if is_noised(arm, unit) else "nonprivate"
    )


def is_noised(arm: Arm, unit: str) -> bool:
    """Whether training itself is private; under unit label its input already is."""
    return arm.private and unit != "label"
