"""How many questions a run will ask, by counts alone: known before anything is trained."""

from dpaudit.evidence import family, questions
from dpaudit.evidence.guesses import Guesses
from dpaudit.privacy.claim import Claim
from dpaudit.signals import recipe
from dpaudit.stats import epsilon
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan


def members(plan: Plan, axes: bool) -> int:
    """How many questions the run's claims will have, by counts alone: known before anything is trained.

    `axes` says whether private arms have canaries along axes of the weights. The questions of the runs that
    this one repeats are in its family, and are as many for each: their plan is the same.
    """
    made_by = recipe.load(plan.suite.primary)
    smallest: dict[str, float] = {}
    for arm, claim in claims(plan):
        reached = least(plan, made_by, claim)
        for named in (arm.name, *(questions.named(known.run, arm.name) for known in plan.repeats)):
            name = questions.outside_name(named, claim.delta)
            smallest[name] = min(smallest.get(name, 1.0), reached)
            if axes and arm.private:
                smallest[questions.inside_name(named)] = 1 / (1 + family.DRAWS_LEAST)
    return len(family.admitted(smallest))


def claims(plan: Plan) -> list[tuple[Arm, Claim]]:
    """Every claim of a run with its arm: of each private arm its own, and those that the suite declares."""
    training = plan.suite.training
    arms = {arm.name: arm for arm in plan.suite.grid.arms if not arm.twin}
    own = [
        (arm, Claim(arm.epsilon, training.claimed_delta, training.unit, training.claimed_relation))
        for arm in arms.values()
        if arm.private
    ]
    return [*own, *((arms[declared.arm], declared.claim) for declared in plan.suite.claims)]


def least(plan: Plan, made_by: recipe.Recipe, claim: Claim) -> float:
    """The p-value at a claim had all guesses been right."""
    canaries = plan.suite.candidates.canaries
    if made_by.bound is None or canaries < made_by.minimum_canaries:
        return 1.0
    guesses = made_by.bound.guess.count(canaries)
    return epsilon.p_value_one_run(
        canaries=canaries, guesses=guesses, correct=guesses, epsilon=claim.epsilon, delta=claim.delta
    )


def power_at_most(canaries: int, made_by: recipe.Recipe, claim: Claim, level: float) -> float:
    """The chance to refute a training without noise at `level`, had all guesses on the control been right: no
    control shows more.
    """
    assert made_by.bound is not None  # `recipe.check_candidates` refuses another primary recipe
    guesses = made_by.bound.guess.count(canaries)
    right = Guesses(canaries, guesses, guesses, guesses, False, 1 - level)
    return questions.Outside("", right, questions.Control("", right)).power(claim, level) or 0.0


def ceiling(canaries: int, delta: float, questions: int, primary: str) -> float:
    """The epsilon that the primary recipe would prove were all of its guesses right, at the first Holm step
    of so many questions.
    """
    bound = recipe.load(primary).bound
    assert bound is not None
    return epsilon.epsilon_ceiling_one_run(
        canaries=canaries,
        guesses=bound.guess.count(canaries),
        delta=delta,
        confidence=1 - family.first_level(questions),
    )
