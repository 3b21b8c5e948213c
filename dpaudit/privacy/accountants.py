"""What a mechanism spends, and the noise that a claim needs.

The accountant is the privacy loss distribution (PLD) of dp-accounting, whose estimate is an upper bound; a
Renyi accountant stands beside it. No Gaussian-DP approximation is used: it lies below the truth.
"""

import logging
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, get_args

import dp_accounting
from dp_accounting import pld, rdp

from dpaudit.privacy.claim import Claim, Relation
from dpaudit.privacy.mechanism import Mechanism, check_sampling
from dpaudit.stats.epsilon import epsilon_gaussian
from dpaudit.system import libraries

# absl makes its logger when it is imported
logging.getLogger("absl").addFilter(libraries.is_news)

DELTA_SMALLEST = 1e-10  # below it the rounding of the FFT in the PLD shows in epsilon

_INTERVAL_WIDEST = 10.0  # nats; exp(interval) must stay small
_INTERVAL_FINEST = 1e-5  # nats; finer ones lose more to rounding than they gain
_INTERVAL_SHRINK = 4.0
_EPSILON_ACCURACY = 1e-4  # relative
_CALIBRATION_SLACK = 2e-4  # relative
_INTERVAL_REFERENCE = 1e-4  # nats; what a claim is commonly checked at, by dp-accounting's default
# relative; where that interval reads more above the converged value, it is too coarse
_REFERENCE_EXCESS = 1e-3
_NOISE_NONE = 1e-100  # the accountants' squares underflow below it
_NOISE_LEAST, _NOISE_MOST = 1e-2, 1e6
_EPSILON_HUGE = 1e6  # nats; above it a closed form says as much
# Orders below 2 do not always converge; they would tighten large epsilons only. Later groups cost the most.
_RDP_ORDERS: tuple[Sequence[float], ...] = (
    (2.25, 2.5, 2.75, 3.5, 4.5, *range(2, 32), *range(32, 64, 4)),
    range(64, 257, 16),
    (512, 1024, 4096),
)

_NEIGHBOURS = {
    "add_or_remove": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace": dp_accounting.NeighboringRelation.REPLACE_ONE,
}


class _Reading(NamedTuple):
    epsilon: float
    interval: float  # nats; the finest that it was read at


class _Point(NamedTuple):
    noise: float
    epsilon: float
    interval: float


def epsilon_spent(mechanism: Mechanism, delta: float, relation: Relation = "add_or_remove") -> float:
    """Return the epsilon that the mechanism and its stages spent at `delta`, in nats.

    An upper bound, about 0.01 % above the exact value; infinite where a step adds no noise, 0.0 before the
    first step. Past 100,000 nats the bound is coarse. `delta` is in [1e-10, 1), else ValueError.

    Source: PLD with pessimistic connect-the-dots discretisation (Doroshenko et al. 2022, arXiv 2207.04380).
    """
    return compose([mechanism], delta, relation)


def compose(mechanisms: Sequence[Mechanism], delta: float, relation: Relation = "add_or_remove") -> float:
    """Return the epsilon at `delta` of releasing all of the mechanisms, trained on the same units, in nats.

    Holds also where one starts from what an earlier one put out, noise and steps being fixed beforehand. No
    mechanism costs 0.0. Bounds and errors are those of `epsilon_spent`.
    """
    return _read(tuple(mechanisms), delta, relation).epsilon


@lru_cache(maxsize=1024)  # an answer takes up to a second; brackets, seeds and pages ask for the same again
def _read(mechanisms: tuple[Mechanism, ...], delta: float, relation: Relation) -> _Reading:
    _check_relation(relation)
    if not DELTA_SMALLEST <= delta < 1:
        raise ValueError(f"expected delta in [{DELTA_SMALLEST:g}, 1), got {delta}")
    event = _composed(mechanisms)
    rough = _epsilon_rdp(mechanisms, delta)
    if rough > _EPSILON_HUGE:
        unsampled = _epsilon_unsampled(mechanisms, delta, relation)
        return _Reading(unsampled if relation == "replace" else min(unsampled, rough), math.inf)

    def at_interval(interval: float) -> float:
        return _epsilon_pld(event, delta, relation, interval)

    return _refined(at_interval, min(max(rough, 1.0) / 1000, _INTERVAL_WIDEST))


def epsilon_rdp(mechanism: Mechanism, delta: float) -> float:
    """Return the epsilon that a Renyi accountant gives for add_or_remove at `delta`, in nats.

    A second opinion by another method: above `epsilon_spent`, commonly by 10-50 %, and by more past 10 nats.
    Infinite where a step adds no noise, 0.0 before the first step. `delta` is in (0, 1), else ValueError.

    Source: Mironov, Talwar, Zhang 2019 (arXiv 1908.10530), as implemented by dp-accounting.
    """
    _check_delta(delta)
    return _epsilon_rdp((mechanism,), delta)


def calibrate(claim: Claim, sampling_rate: float, steps: int, stages: tuple[Mechanism, ...] = ()) -> float:
    """Return the noise multiplier whose `steps` steps spend at most the claim, and at least 99.8 % of it.

    `stages` are what the same units went through before; the claim covers all of it together. Without any,
    the claim is kept too when it is recomputed at the usual discretisation interval of 1e-4, which reads up
    to 0.1 % above the converged value (where it reads more, it is too coarse for the claim).

    0.0 for an infinite epsilon, and where `steps` is 0. Where a multiplier below 0.01 would still keep the
    claim, one just below 0.01. Raises ValueError where none up to a million keeps it.
    """
    check_sampling(sampling_rate, steps)
    if not claim.epsilon > 0:
        raise ValueError(f"expected epsilon > 0, got {claim.epsilon}")
    _check_delta(claim.delta)
    if math.isinf(claim.epsilon) or steps == 0:
        return 0.0

    def mechanism(noise_multiplier: float) -> Mechanism:
        return Mechanism(noise_multiplier, sampling_rate, steps, 1.0, stages)

    def read(noise_multiplier: float) -> _Reading:
        return _read((mechanism(noise_multiplier),), claim.delta, claim.relation)

    def at_reference(noise_multiplier: float) -> float:
        event = _event(mechanism(noise_multiplier))
        return _epsilon_pld(event, claim.delta, claim.relation, _INTERVAL_REFERENCE)

    least = _least_noise(read, claim.epsilon)
    if stages or least.interval >= _INTERVAL_REFERENCE:  # a coarser interval never reads lower
        return least.noise
    return _raised(least.noise, at_reference, claim.epsilon)


def _event(mechanism: Mechanism) -> dp_accounting.DpEvent:
    """Return the mechanism with its stages in the accountants' vocabulary."""
    stages = [_event(stage) for stage in mechanism.stages]
    if mechanism.steps == 0:
        return dp_accounting.ComposedDpEvent(stages)
    step: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
    if math.isinf(mechanism.clip) or mechanism.noise_multiplier < _NOISE_NONE:
        step = dp_accounting.NonPrivateDpEvent()
    elif mechanism.sampling_rate < 1:
        step = dp_accounting.PoissonSampledDpEvent(mechanism.sampling_rate, step)
    return dp_accounting.ComposedDpEvent([*stages, dp_accounting.SelfComposedDpEvent(step, mechanism.steps)])


def _composed(mechanisms: tuple[Mechanism, ...]) -> dp_accounting.DpEvent:
    return dp_accounting.ComposedDpEvent([_event(mechanism) for mechanism in mechanisms])


def _epsilon_pld(event: dp_accounting.DpEvent, delta: float, relation: Relation, interval: float) -> float:
    accountant = pld.PLDAccountant(_NEIGHBOURS[relation], value_discretization_interval=interval)
    return float(accountant.compose(event).get_epsilon(delta))


@lru_cache(maxsize=1024)  # a ledger tells both readings of its mechanism
def _epsilon_rdp(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    """Return the least epsilon over all orders.

    Over rising orders it falls, then rises: log-moments are convex in the order, and what is added to them to
    give epsilon times order - 1 is convex too. Hence no group follows whose highest order is not the best.
    """
    least, event = math.inf, _composed(mechanisms)
    for orders in _RDP_ORDERS:
        accountant = rdp.RdpAccountant(orders, _NEIGHBOURS["add_or_remove"])
        epsilon, best = accountant.compose(event).get_epsilon_and_optimal_order(delta)
        least = min(least, float(epsilon))
        if best < orders[-1]:
            break
    return least


def _epsilon_unsampled(mechanisms: Sequence[Mechanism], delta: float, relation: Relation) -> float:
    """Return the exact epsilon of the same steps over all units; sampling only lowers it, by convexity."""
    sensitivity = 2.0 if relation == "replace" else 1.0
    information = sum(_information(mechanism) for mechanism in mechanisms)
    return epsilon_gaussian(noise_multiplier=1 / (sensitivity * math.sqrt(information)), delta=delta)


def _information(mechanism: Mechanism) -> float:
    """Return the steps over squared noise, summed over stages: one Gaussian of this precision equals them."""
    earlier = sum(_information(stage) for stage in mechanism.stages)
    if mechanism.steps == 0:
        return earlier
    if mechanism.noise_multiplier < _NOISE_NONE or math.isinf(mechanism.clip):
        return math.inf
    return earlier + mechanism.steps / mechanism.noise_multiplier / mechanism.noise_multiplier


def _refined(epsilon_at: Callable[[float], float], interval: float) -> _Reading:
    """Return epsilon at an interval fine enough for it: at most a thousandth of it, and converged.

    The discretisation error falls with the square of the interval, so after a step to a quarter (or less) it
    is at most a fifteenth of what that step changed. All values are upper bounds, hence the least is kept.
    """
    epsilon = epsilon_at(interval)
    while 0 < epsilon < math.inf and interval > _INTERVAL_FINEST:
        finer = max(min(interval / _INTERVAL_SHRINK, epsilon / 1000), _INTERVAL_FINEST)
        gain = max(epsilon - epsilon_at(finer), 0.0)
        interval, epsilon = finer, epsilon - gain
        if interval <= epsilon / 1000 and gain <= (_INTERVAL_SHRINK**2 - 1) * _EPSILON_ACCURACY * epsilon:
            break
    return _Reading(epsilon, interval)


def _least_noise(read: Callable[[float], _Reading], target: float) -> _Point:
    """Return a noise multiplier whose epsilon is at most `target` and within the slack below it."""
    lower, upper = _bracket(read, target)
    while upper.epsilon < target * (1 - _CALIBRATION_SLACK) and upper.noise > lower.noise * (1 + 1e-9):
        noise = _between(lower, upper, target * (1 - _CALIBRATION_SLACK / 2))
        point = _Point(noise, *read(noise))
        lower, upper = (lower, point) if point.epsilon <= target else (point, upper)
    return upper


def _raised(noise: float, at_reference: Callable[[float], float], target: float) -> float:
    """Return the noise, or a little more, so that the reference interval too reads at most `target`.

    Epsilon falls at least as fast as noise grows, so that one step is usually enough.
    """
    reading = at_reference(noise)
    if reading > target * (1 + _REFERENCE_EXCESS):
        return noise
    while reading > target:
        noise *= reading / target * (1 + 1e-6)
        reading = at_reference(noise)
    return noise


def _bracket(read: Callable[[float], _Reading], target: float) -> tuple[_Point, _Point]:
    """Return two noises, a factor of 2 apart, of which the first breaks the target and the second keeps it.

    Both are the same where the target is so loose that the least noise keeps it.
    """
    here = before = _Point(1.0, *read(1.0))
    if here.epsilon <= target:
        while here.epsilon <= target and here.noise > _NOISE_LEAST:
            before, here = here, _Point(here.noise / 2, *read(here.noise / 2))
        return (here, here) if here.epsilon <= target else (here, before)
    while here.epsilon > target:
        if here.noise > _NOISE_MOST:
            raise ValueError(f"expected an epsilon that noise up to {_NOISE_MOST:g} can keep, got {target}")
        before, here = here, _Point(here.noise * 2, *read(here.noise * 2))
    return before, here


def _between(lower: _Point, upper: _Point, aim: float) -> float:
    """Return the noise at which a line through both points, log epsilon on log noise, meets `aim`.

    Kept off both ends, so that the bracket shrinks however the curve bends.
    """
    share = 0.5
    if upper.epsilon > 0 and lower.epsilon < math.inf:
        share = math.log(lower.epsilon / aim) / math.log(lower.epsilon / upper.epsilon)
    step = min(max(share, 0.02), 0.98) * math.log(upper.noise / lower.noise)
    return lower.noise * math.exp(step)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"expected delta in (0, 1), got {delta}")


def _check_relation(relation: str) -> None:
    if relation not in get_args(Relation):
        raise ValueError(f"expected relation in {get_args(Relation)}, got {relation!r}")
