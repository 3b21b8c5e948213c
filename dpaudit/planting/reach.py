"""What the coins of a key can prove at most, and how many a claim needs: by counts alone."""

from typing import Any

from dpaudit.planting.audit_key import AuditKey

CANARIES_MOST = 20_000
TOLD_CLAIMS, TOLD_DELTA = (1.0, 3.0, 8.0), 1e-5  # for which `plant` says how many guesses must be right


def told_of_rule(made: AuditKey) -> dict[str, Any]:
    """How many coins will be guessed, what that can prove at most, and how many must be right to refute."""
    from dpaudit.stats.epsilon import epsilon_ceiling_one_run

    bound, guesses = made.rule.primary.bound, made.rule.guesses
    assert bound is not None
    ceiling = epsilon_ceiling_one_run(
        canaries=len(made.coins), guesses=guesses, delta=TOLD_DELTA, confidence=bound.confidence
    )
    needed = ", ".join(f"{_needed(made, epsilon)} epsilon {epsilon:g}" for epsilon in TOLD_CLAIMS)
    alone = f"a claim at delta {TOLD_DELTA:g}, tested alone at {1 - bound.confidence:.0%}"
    return {
        "guesses": guesses,
        "right_guesses_needed": f"{needed} ({alone})",
        "epsilon_ceiling": ceiling,
        "ceiling_delta": TOLD_DELTA,
    }


def _needed(made: AuditKey, epsilon: float) -> str:
    """How many guesses must be right to refute a claim of `epsilon`, as words that end before it."""
    from dpaudit.stats.epsilon import least_right

    bound, guesses = made.rule.primary.bound, made.rule.guesses
    assert bound is not None
    least = least_right(
        canaries=len(made.coins),
        guesses=guesses,
        epsilon=epsilon,
        delta=TOLD_DELTA,
        error=1 - bound.confidence,
    )
    if least is not None:
        return f"{least} of {guesses} to refute"
    wanted = coins_needed(made, epsilon, TOLD_DELTA)
    return f"impossible below {wanted:,} coins for" if wanted else "impossible for"


def can_refute(made: AuditKey, epsilon: float, delta: float, coins: int | None = None) -> bool:
    """Whether guesses that are all right would refute a claim, tested alone; `coins` in place of the key's
    own, as large a share of which is guessed.
    """
    from dpaudit.stats.epsilon import p_value_one_run

    bound, own = made.rule.primary.bound, len(made.coins)
    assert bound is not None
    count = own if coins is None else coins
    right = round(made.rule.guesses / own * count)
    p_value = p_value_one_run(canaries=count, guesses=right, correct=right, epsilon=epsilon, delta=delta)
    return p_value <= 1 - bound.confidence


def coins_needed(made: AuditKey, epsilon: float, delta: float) -> int | None:
    """The least number of coins that could refute a claim which the key's own cannot; None where its own can,
    or CANARIES_MOST cannot.
    """
    low, high = len(made.coins), CANARIES_MOST
    if can_refute(made, epsilon, delta) or not can_refute(made, epsilon, delta, high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if can_refute(made, epsilon, delta, middle) else (middle, high)
    return high
