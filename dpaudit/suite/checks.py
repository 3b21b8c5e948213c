"""What the settings of a suite must be to one another. Each raises BadValue with the key."""

from collections.abc import Sequence

from dpaudit.data import canary
from dpaudit.errors import BadValue
from dpaudit.schema import at_least
from dpaudit.suite.grid import Grid

COPIES_MOST = 1000  # of one extraction canary


def check_canaries(family: str, repetitions: int, extraction: int, levels: Sequence[int]) -> None:
    """`levels` are the numbers of copies that the `extraction` secrets have in equal shares."""
    canary.check_family(family, extraction)
    if repetitions > canary.REPETITIONS_MOST:
        raise BadValue("canary_repetitions", f"at most {canary.REPETITIONS_MOST}, one a wording", repetitions)
    if not levels or len(set(levels)) < len(levels):
        raise BadValue(
            "extraction_repetitions", "a number, or a list of different numbers", str(list(levels))
        )
    at_least(1, extraction_repetitions=min(levels))
    if max(levels) > COPIES_MOST:
        raise BadValue("extraction_repetitions", f"at most {COPIES_MOST}", max(levels))
    if extraction % len(levels):
        raise BadValue(
            "extraction", f"a multiple of the {len(levels)} levels of extraction_repetitions", extraction
        )


def check_against(against: Sequence[str], grid: Grid, references: Sequence[str]) -> None:
    known = (*references, *(arm.name for arm in grid.arms if not arm.twin))
    unknown = [name for name in against if name not in known]
    if unknown:
        raise BadValue("judging.against", f"some of {', '.join(known)}", f"{unknown[0]:.60}")


def check_twin(grid: Grid) -> None:
    if not grid.twin:
        return
    twins = [arm for arm in grid.arms if arm.twin]
    if not twins:
        raise BadValue(
            "grid.twin",
            "a non-private SFT arm to be the twin of",
            "no such arm",
            "set grid.baseline: true, and name sft in grid.stages",
        )
    if grid.start_of(twins[0]) is not None:
        raise BadValue(
            "grid.twin",
            "an arm that starts at the base",
            "an arm after a stage that saw canaries",
            "set grid.chain: false",
        )
