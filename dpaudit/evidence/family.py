"""Which questions of a page or a `verify` call are tested together, and at which level each of them.

A member of the family is one test statistic: the guesses on one adapter at one delta, or the mechanism test
of one training. It may bear on several claims of the same adapter, which are nested: whoever keeps a smaller
epsilon keeps a larger one too. If all claims are true, any of them is refuted with a chance of at most ERROR.
"""

import math
from collections.abc import Mapping, Sequence

ERROR = 0.05  # of a whole page or call
AXES_LEAST = 100  # fewer canaries along axes of the weights find nothing
SHARE_MOST = 5  # at most one such canary for so many units
DRAWS_LEAST = 4000  # of the null of a mechanism test
_DRAWS_A_TEST = 800  # so that some 40 of them lie below the level of the first step


def admitted(least: Mapping[str, float], error: float = ERROR) -> list[str]:
    """The members that can refute something at the first Holm step, in their order.

    `least` has for every member the smallest p-value that it could have, by counts alone: no score is read.
    Of the members by rising `least`, as many as possible stay, k, so that each could be refuted at error / k.
    """
    rising = sorted(least, key=lambda name: least[name])
    fitting = [count for count in range(1, len(rising) + 1) if least[rising[count - 1]] <= error / count]
    kept = set(rising[: max(fitting, default=0)])
    return [name for name in least if name in kept]


def first_level(members: int, error: float = ERROR) -> float:
    """The level of the first Holm step; of an empty family, of one test."""
    return error / max(members, 1)


def levels(p_values: Mapping[str, Sequence[float]], error: float = ERROR) -> dict[str, float]:
    """The level at which each member was tested in the end: what is at or below it is refuted.

    `p_values` has for every member its p-value at each claim that it bears on, at least one. A member leaves
    the family, and frees its share, only once every claim that it bears on is refuted. So some member with a
    true claim is there until one is wrongly refuted, and all such members together err with a chance of at
    most `error`. Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.
    """
    open_members = dict(p_values)
    found: dict[str, float] = {}
    while open_members:
        level = error / len(open_members)
        refuted = [name for name, values in open_members.items() if max(values) <= level]
        if not refuted:
            return found | dict.fromkeys(open_members, level)
        for name in refuted:
            found[name] = level
            del open_members[name]
    return found


def draws(members: int) -> int:
    """How many draws of its null a mechanism test needs in a family of so many members."""
    return max(DRAWS_LEAST, _DRAWS_A_TEST * math.ceil(members))
