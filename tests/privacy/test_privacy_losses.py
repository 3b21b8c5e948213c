"""Privacy losses inverted at once, beside dp-accounting, which inverts one after another."""

import itertools

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld

from dpaudit.privacy import privacy_losses
from dpaudit.privacy.claim import Relation
from dpaudit.privacy.mechanism import Mechanism

NEIGHBOURS = {
    "add_or_remove": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace": dp_accounting.NeighboringRelation.REPLACE_ONE,
}
EPSILONS = np.linspace(-1, 12, 40)
INTERVAL = 3e-2


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("relation", NEIGHBOURS)
def test_losses_are_those_of_dp_accounting(relation: Relation, steps: int) -> None:
    for noise, rate in itertools.product((0.2, 1.0, 30.0), (1e-6, 0.01, 0.5, 0.97, 1.0)):
        step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
        event = dp_accounting.GaussianDpEvent(noise) if rate == 1 else step
        plain = pld.PLDAccountant(NEIGHBOURS[relation], INTERVAL).compose(event, steps)
        found = privacy_losses.of_steps(Mechanism(noise, rate, steps, 1.0), INTERVAL, relation)
        wanted = [plain.get_delta(epsilon) for epsilon in EPSILONS]
        assert found.get_delta_for_epsilon(EPSILONS) == pytest.approx(wanted, abs=1e-11), (noise, rate)
