"""The calculator behind `dpaudit account`: the epsilon of a noise multiplier and back, without a run.

The answer is always that of the privacy loss distribution; the other accountants stand beside it and decide
nothing.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from dpaudit.errors import UsageError
from dpaudit.privacy.accountants import DELTA_SMALLEST, calibrate, compose, epsilon_rdp
from dpaudit.privacy.claim import Claim, Relation
from dpaudit.privacy.mechanism import Mechanism

_PRV_ERROR = 1e-3  # of epsilon; Opacus' own 0.01 nats reads 1.010 for 1.000 and 0.110 for 0.100
_PRV_ERROR_LEAST = 1e-4  # nats; finer takes minutes
_PRV_POINTS = 2**24  # points of its grid; more take gigabytes
_STAGE_KEYS = ("sigma", "rate", "steps")


@dataclass(frozen=True)
class Question:
    """What was typed. `sigma` asks for an epsilon, `epsilon` for the least noise multiplier that keeps it.

    Both refer to `steps` steps at `rate`, or at `batch` over `population`, after `stages` on the same
    units (each "sigma=..,rate=..,steps=.."). Stages alone ask for their epsilon together.
    """

    delta: float
    sigma: float | None = None
    epsilon: float | None = None
    rate: float | None = None
    batch: float | None = None
    population: int | None = None
    steps: int | None = None
    relation: str = "add_or_remove"
    stages: Sequence[str] = ()


@dataclass(frozen=True)
class Bounded:
    """An epsilon that an accountant bounds from above, and by how much at most it lies above the exact
    value.
    """

    upper: float  # nats
    error: float  # nats


def answer(question: Question, everything: bool = False) -> dict[str, Any]:
    """What the command prints: epsilon and noise multiplier with what they hold for, JSON-ready ("inf" as
    text).

    `everything` adds an independent numerical accountant (PRV) and the Renyi accountant, each None for the
    relation `replace`, which they do not know, and where they cannot say. Raises UsageError in one line for
    anything out of range, missing or given twice, and for an epsilon that no noise keeps.
    """
    relation = _checked(question)
    if question.epsilon is not None:
        rate, steps = _rate(question), _steps(question)
        earlier = tuple(_stage(text) for text in question.stages)
        spec = _spec(question.epsilon, question.delta, relation)
        noise_multiplier = _calibrated(spec, rate, steps, earlier)
        mechanisms = [*earlier, Mechanism(noise_multiplier, rate, steps, clip=1.0)]
    else:
        mechanisms = _mechanisms(question)
    figures = {
        "epsilon": compose(mechanisms, question.delta, relation),
        **({"epsilon_target": question.epsilon} if question.epsilon is not None else {}),
        **(_others(mechanisms, question.delta, relation) if everything else {}),
        **_described(question, mechanisms),
        "delta": question.delta,
        "relation": relation,
        "accountant": "privacy loss distribution",
    }
    return {key: "inf" if value == math.inf else value for key, value in figures.items()}


def warning(delta: float, population: int | None) -> str | None:
    """What must be said where delta lets one whole record out: delta of 1 / population or above."""
    if population is None or delta * population < 1:
        return None
    return (
        f"warning: delta {delta:g} is not below 1 / population ({1 / population:.3g}):"
        " such a claim is kept by publishing a record drawn at random"
    )


def epsilon_prv(mechanisms: Sequence[Mechanism], delta: float) -> Bounded | None:
    """The epsilon that Opacus' accountant of privacy loss random variables (PRV) gives for add_or_remove.

    None where it cannot say: steps over all units, no noise, or an epsilon above its domain. Its error bound
    is a thousandth of epsilon, or more where that would take too fine a grid.

    Source: Gopi, Lee, Wutschitz 2021 (arXiv 2106.02848), Theorem 5.5 for the grid.
    """
    rough = max(compose(mechanisms, delta), _PRV_ERROR_LEAST)
    history = [(m.noise_multiplier, m.sampling_rate, m.steps) for m in mechanisms]
    if rough > 1000 or any(rate == 1 for _, rate, _ in history):
        return None
    from opacus.accountants import PRVAccountant

    steps = sum(count for *_, count in history)
    mesh_per_error = 1 / math.sqrt(steps * math.log(12_000 / delta) / 2)
    error = max(_PRV_ERROR * rough, _PRV_ERROR_LEAST, 2 * (rough + 4) / mesh_per_error / _PRV_POINTS)
    accountant = PRVAccountant()
    accountant.history = history
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the Renyi orders that bound its grid
        return Bounded(float(accountant.get_epsilon(delta, eps_error=error)), 2 * error)


def _others(mechanisms: Sequence[Mechanism], delta: float, relation: Relation) -> dict[str, Any]:
    known = relation == "add_or_remove"
    prv = epsilon_prv(mechanisms, delta) if known else None
    last = mechanisms[-1]
    chained = Mechanism(last.noise_multiplier, last.sampling_rate, last.steps, 1.0, tuple(mechanisms[:-1]))
    return {
        "epsilon_prv": prv.upper if prv else None,
        "epsilon_prv_error": prv.error if prv else None,
        "epsilon_rdp": epsilon_rdp(chained, delta) if known else None,
    }


def _described(question: Question, mechanisms: Sequence[Mechanism]) -> dict[str, Any]:
    """The schedule that was asked about, and the stages before it as rows of their own."""
    rows = [
        {
            "noise_multiplier": mechanism.noise_multiplier,
            "sampling_rate": mechanism.sampling_rate,
            "steps": mechanism.steps,
        }
        for mechanism in mechanisms
    ]
    last = {} if question.sigma is None and question.epsilon is None else rows.pop()
    return {**last, **({"stages": rows} if rows else {})}


def _checked(question: Question) -> Relation:
    """The relation, once everything that concerns the question as a whole is in range."""
    if not DELTA_SMALLEST <= question.delta < 1:
        raise UsageError("--delta", f"a number from {DELTA_SMALLEST:g} to below 1", f"{question.delta:g}")
    if question.relation not in get_args(Relation):
        raise UsageError("--relation", f"one of {', '.join(get_args(Relation))}", question.relation)
    if question.population is not None and question.population < 1:
        raise UsageError("--population", "at least 1 unit", str(question.population))
    if question.sigma is not None and question.epsilon is not None:
        raise _either("--sigma and --eps")
    if question.sigma is None and question.epsilon is None and not question.stages:
        raise _either("neither option")
    return cast("Relation", question.relation)


def _either(got: str) -> UsageError:
    expected = "--sigma for an epsilon, or --eps for a noise multiplier"
    return UsageError("dpaudit account", expected, got)


def _mechanisms(question: Question) -> list[Mechanism]:
    stages = [_stage(text) for text in question.stages]
    if question.sigma is not None:
        return [*stages, _mechanism("--sigma", question.sigma, _rate(question), _steps(question))]
    for name, value in (("--rate", question.rate), ("--batch", question.batch), ("--steps", question.steps)):
        if value is not None:
            raise UsageError(name, "--sigma beside this option", "--stage alone", "name it in a --stage")
    return stages


def _stage(text: str) -> Mechanism:
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    try:
        sigma, rate, steps = float(parts["sigma"]), float(parts["rate"]), int(parts["steps"])
    except (KeyError, ValueError):
        parts = {}
    if set(parts) != set(_STAGE_KEYS):
        raise UsageError("--stage", "sigma=S,rate=Q,steps=T with numbers", text)
    return _mechanism(f"--stage {text}", sigma, _in_range("--stage", rate), _whole("--stage", steps))


def _mechanism(where: str, sigma: float, rate: float, steps: int) -> Mechanism:
    if not 0 <= sigma < math.inf:
        raise UsageError(where, "a noise multiplier of 0 or above", f"{sigma:g}")
    return Mechanism(sigma, rate, steps, clip=1.0)


def _spec(epsilon: float, delta: float, relation: Relation) -> Claim:
    if not 0 < epsilon < math.inf:
        raise UsageError("--eps", "a finite number above 0", f"{epsilon:g}")
    return Claim(epsilon, delta, "record", relation)  # no accountant asks for the unit


def _calibrated(spec: Claim, rate: float, steps: int, earlier: tuple[Mechanism, ...]) -> float:
    try:
        return calibrate(spec, rate, steps, earlier)
    except ValueError:
        raise UsageError(
            "--eps",
            "an epsilon that noise up to a million can keep",
            f"{spec.epsilon:g}",
            "raise it, or lower rate, steps or what the stages spend",
        ) from None


def _rate(question: Question) -> float:
    """The sampling rate, given as such or as batch over population."""
    batch, population = question.batch, question.population
    if question.rate is not None:
        if batch is not None:
            raise UsageError("--batch", "either --rate or --batch with --population", "both options")
        return _in_range("--rate", question.rate)
    if batch is None or population is None:
        raise UsageError("--rate", "--rate, or --batch with --population", "no rate")
    if not 0 < batch <= population:
        raise UsageError("--batch", f"above 0 and at most the population, {population}", f"{batch:g}")
    return batch / population


def _in_range(where: str, rate: float) -> float:
    if not 0 < rate <= 1:
        raise UsageError(where, "a sampling rate above 0 and at most 1", f"{rate:g}")
    return rate


def _steps(question: Question) -> int:
    if question.steps is None:
        raise UsageError("--steps", "a number of steps", "no number")
    return _whole("--steps", question.steps)


def _whole(where: str, steps: int) -> int:
    if steps < 1:
        raise UsageError(where, "at least 1 step", str(steps))
    return steps
