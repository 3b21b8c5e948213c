import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm, skewnorm

from dpaudit.stats import skewed
from dpaudit.stats.skewed import SkewNormal


def test_a_fit_gives_back_what_was_drawn() -> None:
    drawn = skewnorm.rvs(3.0, 20.0, 4.0, size=5000, random_state=0)
    found = skewed.fit(drawn)
    assert found.shape == pytest.approx(3.0, rel=0.15)
    assert (found.location, found.scale) == pytest.approx((20.0, 4.0), rel=0.05)


@pytest.mark.parametrize("z", [-2.0, -5.0, -8.0, -30.0])
def test_the_tail_of_a_plain_normal_is_its_own(z: float) -> None:
    plain = SkewNormal(0.0, 10.0, 2.0)
    assert plain.log2_mass_at_most(10 + 2 * z) == pytest.approx(norm.logcdf(z) / math.log(2), abs=2e-4)


def test_the_tail_where_it_begins_to_be_integrated_joins_the_rest() -> None:
    found = SkewNormal(2.0, 0.0, 1.0)
    edge = skewnorm.ppf(skewed.THIN, 2.0)
    above, below = (found.log2_mass_at_most(edge + d) for d in (1e-4, -1e-4))
    assert above == pytest.approx(below, abs=0.01) and below < above


def test_the_mass_rises_with_x_and_ends_at_one() -> None:
    found = SkewNormal(4.0, 20.0, 4.0)
    masses = [found.log2_mass_at_most(x) for x in np.linspace(5.0, 60.0, 200)]
    assert all(a <= b for a, b in itertools.pairwise(masses)) and masses[-1] == pytest.approx(0.0)


@pytest.mark.parametrize("values", [[1.0] * 50, [1.0, 2.0], [math.nan, *range(20)], [math.inf, *range(20)]])
def test_what_cannot_be_fitted_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="ten or more"):
        skewed.fit(values)
