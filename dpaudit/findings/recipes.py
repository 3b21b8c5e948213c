"""What every attack recipe found on an arm, once it is allowed for that many were tried."""

from dataclasses import dataclass

from dpaudit.schema import Count, Proportion, Size


@dataclass(frozen=True)
class Corrected:
    """One recipe on one arm. `p_value` is that of scores that tell nothing; `p_holm` allows for all recipes
    of the arm. `epsilon_lower` is what its guesses prove at the confidence of `ArmRecipes`; None where the
    recipe has no bound, or where broken coins withhold it.
    """

    recipe: str
    p_value: Proportion
    p_holm: Proportion
    epsilon_lower: Size | None  # nats


@dataclass(frozen=True)
class ArmRecipes:
    """All recipes of one arm. With a chance of `error` at most, any bound among them is above the true
    epsilon: each is at `confidence`, so that the best of them may be read.
    """

    arm: str
    strongest: str  # the recipe that tells members from others most clearly
    tell: Count  # recipes that do so at `error`, by `p_holm`
    recipes: Count
    epsilon_lower: Size | None  # the largest of the bounds, nats; None where there is none
    above_claim: tuple[str, ...]  # recipes whose bound here is above the arm's claim
    error: Proportion
    confidence: Proportion  # of each bound
    each: tuple[Corrected, ...]  # in the order of the audits
