"""How often a test of a stated error rate may err in so many replications before it is broken."""

import math


def allowed_exceedances(replications: int, rate: float) -> float:
    """The expected number and three standard errors: a correct test stays below it but once in 700."""
    return replications * rate + 3 * math.sqrt(replications * rate * (1 - rate))
