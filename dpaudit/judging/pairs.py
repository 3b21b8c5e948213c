"""Which adapters are compared with which."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dpaudit.findings.judgement import NotCompared
from dpaudit.findings.quality import BASE
from dpaudit.suite.grid import Arm, Grid, nonprivate

Reference = Callable[[Grid, Arm, Sequence[Arm]], str | NotCompared | None]


@dataclass(frozen=True)
class Pair:
    """Two models; `role` is what the other is to the arm."""

    arm: str
    against: str
    role: str


def pairs_of(
    grid: Grid, arms: Sequence[Arm], against: Sequence[str], starts_outside: bool = False
) -> tuple[list[Pair], list[NotCompared]]:
    """The pairs that `against` asks for, each once with all its roles, and those that cannot be had.

    `against` holds keys of REFERENCES and names of arms; `arms` are those that are trained, twins left out.
    `starts_outside`: whether the run continues from an adapter of another run, whose answers are not there.
    """
    roles: dict[tuple[str, str], list[str]] = {}
    absent: list[NotCompared] = []
    names = {arm.name for arm in arms}
    for key in against:
        role, reference = REFERENCES.get(key, ("as asked for", _named(key)))
        for arm in arms:
            other = reference(grid, arm, arms)
            if other == BASE and key == "start" and starts_outside:
                other = NotCompared(arm.name, role, "it is an adapter from outside of the run")
            if isinstance(other, NotCompared):
                absent.append(other)
            elif other is not None and other != arm.name:
                if other in names or other == BASE:
                    roles.setdefault((arm.name, other), []).append(role)
                else:
                    absent.append(NotCompared(arm.name, role, f"{other} is not trained"))
    return [Pair(*pair, " and ".join(dict.fromkeys(said))) for pair, said in roles.items()], absent


def ladders(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Arms that differ in epsilon alone, largest first, where there are two or more."""
    groups: dict[tuple[str, str, int], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.method, arm.loss, arm.seed), []).append(arm)
    return [sorted(of, key=lambda arm: -arm.epsilon) for of in groups.values() if len(of) > 1]


# ---- what an arm is compared with


def _named(name: str) -> Reference:
    return lambda grid, arm, arms: name


def _open(grid: Grid, arm: Arm, arms: Sequence[Arm]) -> str | None:
    found = nonprivate(arm, arms)
    return found.name if found else None


def _base(grid: Grid, arm: Arm, arms: Sequence[Arm]) -> str:
    return BASE


def _start(grid: Grid, arm: Arm, arms: Sequence[Arm]) -> str | None:
    if arm.method != "dpo":
        return None
    start = grid.start_of(arm)
    return start.name if start else BASE


def _alone(grid: Grid, arm: Arm, arms: Sequence[Arm]) -> str | None:
    return Arm("sft", "sft", arm.epsilon, arm.seed).name if arm.method == "dpo" else None


def _rung(grid: Grid, arm: Arm, arms: Sequence[Arm]) -> str | None:
    return next((before.name for before, after in _rungs(arms) if after == arm), None)


def _rungs(arms: Sequence[Arm]) -> Iterator[tuple[Arm, Arm]]:
    for ladder in ladders(arms):
        yield from pairwise(ladder)


REFERENCES: dict[str, tuple[str, Reference]] = {  # key of judging.against -> what it is to the arm
    "inf": ("without noise", _open),
    "base": ("the base model", _base),
    "start": ("its start", _start),
    "sft": ("dialogues alone at the same claim", _alone),
    "rung": ("the next larger epsilon", _rung),
}
