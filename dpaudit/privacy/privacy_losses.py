"""The privacy loss distribution of Poisson-sampled Gaussian noise, as dp-accounting has it, sooner.

dp-accounting inverts the privacy loss at one epsilon after another; here all are inverted at once. Bounds,
discretisation and composition are its own.
"""

import math

import numpy as np
from dp_accounting.pld import pld_pmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss
from numpy.typing import NDArray

from dpaudit.privacy.claim import Relation
from dpaudit.privacy.mechanism import Mechanism

Floats = NDArray[np.float64]


def of_steps(
    mechanism: Mechanism, interval: float, relation: Relation = "add_or_remove"
) -> PrivacyLossDistribution:
    """The distribution of a mechanism's own steps, without its stages; steps and noise above 0.

    `interval`, in nats, is that of the discretisation. Every delta of the result is an upper bound:
    pessimistic connect-the-dots (Doroshenko et al. 2022, arXiv 2207.04380).
    """
    noise, rate, steps = mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps
    if rate == 1:  # as one step of less noise
        return _one_step(noise / math.sqrt(steps), rate, relation, interval)
    return _one_step(noise, rate, relation, interval).self_compose(steps)


def _one_step(noise: float, rate: float, relation: Relation, interval: float) -> PrivacyLossDistribution:
    if relation == "replace":
        return PrivacyLossDistribution(_mass(noise, rate, AdjacencyType.REPLACE, interval))
    removed = _mass(noise, rate, AdjacencyType.REMOVE, interval)
    if rate == 1:
        return PrivacyLossDistribution(removed)
    return PrivacyLossDistribution(removed, _mass(noise, rate, AdjacencyType.ADD, interval))


def _mass(noise: float, rate: float, kind: AdjacencyType, interval: float) -> pld_pmf.PLDPmf:
    loss = GaussianPrivacyLoss(noise, sampling_prob=rate, adjacency_type=kind)
    bounds = loss.connect_dots_bounds()
    lowest = math.floor(bounds.epsilon_lower / interval)
    highest = math.ceil(bounds.epsilon_upper / interval)
    deltas = _deltas(loss, np.arange(lowest, highest + 1) * interval)
    return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(interval, lowest, highest, deltas)


def _deltas(loss: GaussianPrivacyLoss, epsilons: Floats) -> Floats:
    """`loss.get_delta_for_epsilon(epsilons)`: the hockey-stick divergence at each epsilon."""
    deltas, reached = np.zeros_like(epsilons), np.full(epsilons.shape, True)
    if loss.sampling_prob < 1:
        edge = math.log1p(-loss.sampling_prob)  # losses of a removed unit lie above it
        if loss.adjacency_type == AdjacencyType.ADD:
            reached = epsilons < -edge
        elif loss.adjacency_type == AdjacencyType.REMOVE:
            reached = epsilons > edge
            deltas[~reached] = -np.expm1(epsilons[~reached])
    at = _outputs(loss, epsilons[reached])
    deltas[reached] = loss.mu_upper_cdf(at) - np.exp(epsilons[reached] + loss.mu_lower_log_cdf(at))
    return np.clip(deltas, 0, 1)


def _outputs(loss: GaussianPrivacyLoss, losses: Floats) -> Floats:
    """The largest outputs whose privacy loss is at least each of `losses`; sensitivity is 1."""
    variance, rate = float(loss.standard_deviation**2), loss.sampling_prob
    if loss.adjacency_type == AdjacencyType.REPLACE:
        return _outputs_replaced(losses, variance, rate)
    sign = 1.0 if loss.adjacency_type == AdjacencyType.REMOVE else -1.0
    return sign * (-0.5 - variance * _unsampled(sign * losses, rate))


def _unsampled(losses: Floats, rate: float) -> Floats:
    """The loss of a removed unit that was in the batch for sure, where `losses` are those of one sampled:
    log(1 + (exp(loss) - 1) / rate); minus infinity at the least loss there is.
    """
    if rate == 1:
        return losses
    edge = math.log1p(-rate)
    is_edge = np.abs(losses - edge) <= 1e-9 * np.maximum(np.abs(losses), -edge)
    far = losses - math.log(rate)
    share = np.where(is_edge, 1.0, np.exp(np.minimum(math.log(1 / rate - 1) - far, 0.0)))
    with np.errstate(divide="ignore"):
        return far + np.log1p(-share)


def _outputs_replaced(losses: Floats, variance: float, rate: float) -> Floats:
    """As dp-accounting derives it: variance * (arcsinh(-sinh(loss / 2) * alpha) - loss / 2), with
    alpha = exp(1 / (2 * variance)) * (1 - rate) / rate.
    """
    if rate == 1:
        return -losses * variance / 2
    log_alpha = 0.5 / variance + math.log1p(-rate) - math.log(rate)
    size = np.abs(losses)
    with np.errstate(divide="ignore"):  # a loss of 0 has the output 0
        log_sinh = size / 2 + np.log1p(-np.exp(-size)) - math.log(2)
    term = log_alpha + log_sinh
    arcsinh = -np.sign(losses) * np.logaddexp(0.5 * np.logaddexp(0, 2 * term), term)
    return np.asarray(variance * (arcsinh - losses / 2))
