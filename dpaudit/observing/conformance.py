"""Whether an observed training kept to a claimed mechanism, check by check: pass, fail, not observable.

Numbers are typed and rounded by people, so a breach counts from SLACK on. A statistical check fails on a
correct run with probability at most `guards.FALSE_ALARM`.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dpaudit.errors import GuardError
from dpaudit.findings.inside import Check
from dpaudit.observing.record import Record
from dpaudit.privacy.accountants import compose, epsilon_spent
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.training import guards
from dpaudit.training.state import Step

SLACK = 0.01  # relative
LEFT_OUT = 1e-9  # the chance that so many rows are not drawn
UNEVEN = 6  # standard deviations of the spread of draws
NOT_ENDED = "the record was not closed by watch.save: it ends before the training does"
TUNING = "discarded trainings leave no trace in the training that was kept"
UNSEEN = "no step passed a clip, where rows and noise are seen"
ALONE = "the clip did not treat each row by its norm alone: the power that is told counts noise alone"
COUPLED = (
    "whether the loss of one row depends on others (a mean over the tokens of a batch, packing) is decided "
    "before the clip"
)

Look = Callable[[Record, Mechanism], str | None]  # raises GuardError; returns why nothing is observable


def checks(seen: Record, claimed: Mechanism, claim: Claim) -> tuple[Check, ...]:
    """Every check of one record against the mechanism and the claim that were named."""
    return tuple(_checked(seen, claimed, claim))


def steps_missing(seen: Record, claimed: Mechanism) -> str | None:
    """What of the claim nobody watched: steps that were claimed or accounted, less those that were seen."""
    counted = max(claimed.steps, sum(part.steps for part in seen.about.accounted))
    return f"{counted - seen.steps} of {counted} steps" if counted > seen.steps else None


def rate_seen(seen: Record) -> float:
    """The share of all rows that a step drew."""
    return float(seen.drawn.sum()) / (seen.steps * _units(seen))


def draws_missing(seen: Record) -> str | None:
    """Where canaries were drawn less often than other rows: then nothing that is not seen of them counts."""
    drawn, included = int(seen.canaries.sum()), seen.about.included
    units, total = seen.about.rows + included, int(seen.drawn.sum())
    if not included or stats.hypergeom(seen.steps * units, total, seen.steps * included).cdf(drawn) >= 1e-6:
        return None
    return f"{drawn} of {total} drawn rows, where {included} of {units} rows are canaries"


def rows_left_out(seen: Record) -> str | None:
    """Rows that nobody could draw: more of them were never drawn than chance allows, and the others evenly. A
    weighted sampler is another matter, and fails a check.
    """
    units, drawn, never = _units(seen), int(seen.drawn.sum()), int(seen.row_draws[0])
    if stats.binom(units, (1 - rate_seen(seen)) ** seen.steps).sf(never - 1) >= LEFT_OUT:
        return None
    there = float(units - never)
    for _ in range(100):  # of those that could be drawn some were not
        rate = min(1.0, drawn / (seen.steps * there)) if there else 0.0
        there = (units - never) / (1 - (1 - rate) ** seen.steps) if rate else 0.0
    mean, variance = seen.steps * rate, seen.steps * rate * (1 - rate)
    counts = np.concatenate([[there - (units - never)], seen.row_draws[1:]])
    spread = float(counts @ (np.arange(len(counts)) - mean) ** 2)
    is_even = spread <= variance * (there + UNEVEN * np.sqrt(2 * there))
    left = round(units - there)
    return f"about {left} of {units} rows that were never drawn" if drawn and left and is_even else None


def canaries_short(seen: Record, included: NDArray[np.bool_]) -> str | None:
    """Why the mechanism test could find nothing: a drawn canary showed less than the clip along its axis, by
    three standard errors. Axes of canaries that are out tell what other rows and noise do there.
    """
    along, drawn = seen.observed.astype(np.float64).sum(0), int(seen.canaries.sum())
    if not drawn:
        return "no canary was drawn"
    inside, outside = along[included], along[~included]
    shown = inside.size * float(inside.mean() - outside.mean()) / drawn
    error = inside.size * float(np.sqrt(inside.var() / inside.size + outside.var() / outside.size)) / drawn
    if shown + 3 * error >= 1 - SLACK:
        return None
    return f"a canary shows {shown:.2f} of the clip, with an error of {error:.2f}, where 1 is expected"


def _checked(seen: Record, claimed: Mechanism, claim: Claim) -> Iterator[Check]:
    for name, look in LOOKS.items():
        if name in OF_CLIPPED and not seen.planted:
            yield Check(name, "not observable", UNSEEN)
        else:
            yield _outcome(name, lambda look=look: look(seen, claimed))  # type: ignore[misc]
    yield _outcome("epsilon of the mechanism", lambda: _spent(claimed, claim))
    yield _outcome("epsilon that the trainer accounted", lambda: _accounted(seen, claim))
    if seen.about.mixed:
        mixed = f"in {seen.about.mixed} of {seen.steps} steps {ALONE}"
        yield Check("other rows taken out of the test", "not observable", mixed)
    yield Check("rows apart from each other", "not observable", COUPLED)
    yield Check("tuning", "not observable", TUNING)


def _outcome(name: str, look: Callable[[], str | None]) -> Check:
    try:
        why = look()
    except GuardError as error:
        return Check(name, "fail", str(error))
    return Check(name, "pass", "") if why is None else Check(name, "not observable", why)


def _steps(seen: Record, claimed: Mechanism) -> str | None:
    if seen.steps > claimed.steps:
        raise GuardError(f"steps: expected at most {claimed.steps} as claimed, seen {seen.steps}")
    if not seen.about.ended:
        return NOT_ENDED
    counted = sum(part.steps for part in seen.about.accounted)
    if counted > seen.steps:
        return f"{counted - seen.steps} of {counted} steps that the trainer accounted were not watched"
    return None


def _rate(seen: Record, claimed: Mechanism) -> None:
    """More rows than were claimed, or more canaries than other rows; fewer spend less."""
    most = min(1.0, claimed.sampling_rate * (1 + SLACK))
    for units, draws in ((_units(seen), seen.drawn), (seen.about.included, seen.canaries)):
        trials, drawn = seen.steps * units, int(draws.sum())
        if trials and stats.binom(trials, most).sf(drawn - 1) < guards.FALSE_ALARM / 2:
            seen_rate = f"{drawn / trials:.4g} over {seen.steps} steps"
            raise GuardError(f"sampling rate: expected {claimed.sampling_rate:.4g}, seen {seen_rate}")


def _poisson(seen: Record, claimed: Mechanism) -> None:
    """The spread of a step's rows at the rate that was seen."""
    steps = [Step(i, int(n), 0.0, None, 0.0, 0.0) for i, n in enumerate(seen.drawn)]
    guards.check_sampling(steps, _units(seen), rate_seen(seen))


def _even(seen: Record, claimed: Mechanism) -> str | None:
    times = np.repeat(np.arange(len(seen.row_draws)), seen.row_draws).tolist()
    guards.check_even(times, seen.steps, rate_seen(seen))
    few = len(times) < guards.EVEN_UNITS
    return f"fewer than {guards.EVEN_UNITS} rows show no spread" if few else None


def _noise(seen: Record, claimed: Mechanism) -> None:
    """Too little noise on a weight; more than was claimed hides more."""
    sigma, count = claimed.noise_multiplier, len(seen.about.weights)
    for name, squares, values in zip(seen.about.weights, seen.noise_squares, seen.noise_values, strict=True):
        least = sigma * (1 - SLACK)
        if values == 0 or stats.chi2(values).cdf(squares / least**2) < guards.FALSE_ALARM / count:
            found = f"{np.sqrt(squares / values):.4g}" if values else "none"
            raise GuardError(f"noise on {name}: expected {sigma:.4g} times the clip, seen {found}")


def _fresh(seen: Record, claimed: Mechanism) -> str | None:
    pairs = int(seen.compared.sum())
    if not pairs:
        return "one step alone shows no repeated noise"
    if 2 * stats.norm.sf(seen.fresh.max()) < guards.FALSE_ALARM / pairs:
        worst = int(seen.fresh.argmax())
        raise GuardError(f"noise of step {worst}: expected independent steps, seen noise of an earlier step")
    return None


def _one_row(seen: Record, claimed: Mechanism) -> str | None:
    """What one row of the data adds; a row of several sequences may be clipped as several. More noise than
    was claimed hides more of it.
    """
    if not seen.one_row.size:
        return "no canary was drawn"
    most, allowed = float(seen.one_row.max()), max(1.0, _noise_seen(seen) / claimed.noise_multiplier)
    if most > allowed + 1e-3:
        stacked = seen.about.sequences
        several = f": it is clipped as {stacked} rows" if stacked > 1 else ""
        expected = "one clip" if allowed == 1 else f"{allowed:.3g} clips"
        raise GuardError(f"one row's part of a sum: expected at most {expected}, seen {most:.3g}{several}")
    return None


def _noise_seen(seen: Record) -> float:
    """As it was set, and as it was measured over all weights; 0 where none was."""
    values = int(seen.noise_values.sum())
    measured = float(np.sqrt(seen.noise_squares.sum() / values)) if values else 0.0
    return min(float(seen.noise_multiplier.min()), measured * (1 + SLACK))


def _clipped(seen: Record, claimed: Mechanism) -> None:
    if seen.about.unclipped:
        raise GuardError(
            f"steps that pass the clip: expected all {seen.steps}, seen {seen.steps - seen.about.unclipped}"
        )


def _divisor(seen: Record, claimed: Mechanism) -> None:
    values = np.unique(seen.divisor)
    if len(values) > 1:
        raise GuardError(
            f"expected batch: expected one public number, seen {len(values)} of them, {values[0]:g} to "
            f"{values[-1]:g}"
        )


def _set(seen: Record, claimed: Mechanism) -> None:
    least = float(seen.noise_multiplier.min())
    if least < claimed.noise_multiplier * (1 - SLACK):
        raise GuardError(f"noise multiplier: expected {claimed.noise_multiplier:.4g}, seen {least:.4g}")


def _moved(seen: Record, claimed: Mechanism) -> str | None:
    if not seen.about.ended:
        return NOT_ENDED
    if still := seen.about.still:
        raise GuardError(
            f"weights at the end: expected all moved, seen {len(still)} unchanged, {still[0]} first"
        )
    return None


def _counted(seen: Record, claimed: Mechanism) -> str | None:
    if seen.about.accountant is None:
        return "no accountant was found at the optimizer: name it in watch.attach"
    counted = sum(part.steps for part in seen.about.accounted)
    # Opacus counts a step before the inner optimizer is called
    if counted < seen.steps:
        raise GuardError(f"steps accounted: expected at least {seen.steps}, seen {counted}")
    return None


LOOKS: dict[str, Look] = {
    "steps": _steps,
    "sampling rate": _rate,
    "rows a step": _poisson,
    "draws of a row": _even,
    "noise of every weight": _noise,
    "noise fresh in every step": _fresh,
    "noise multiplier of the optimizer": _set,
    "every step clipped": _clipped,
    "one row's part of a sum": _one_row,
    "one public divisor": _divisor,
    "weights moved": _moved,
    "steps that the trainer accounted": _counted,
}


OF_CLIPPED = {
    "sampling rate",
    "rows a step",
    "draws of a row",
    "noise fresh in every step",
    "one row's part of a sum",
    "one public divisor",
}


def _spent(claimed: Mechanism, claim: Claim) -> None:
    spent = epsilon_spent(claimed, claim.delta, claim.relation)
    if not claim.covers(spent):
        raise GuardError(
            f"epsilon of the mechanism: expected at most {claim.epsilon:g} as claimed, seen {spent:.4g}"
        )


def _accounted(seen: Record, claim: Claim) -> str | None:
    """What the steps spend that their accountant counted, by ours."""
    if seen.about.accountant is None:
        return "no accountant was found at the optimizer: name it in watch.attach"
    counted = [p for p in seen.about.accounted if p.steps]
    if any(not 0 < part.sampling_rate <= 1 for part in counted):
        raise GuardError("sampling rate accounted: expected one in (0, 1], seen another")
    parts = [Mechanism(p.noise_multiplier, p.sampling_rate, p.steps, 1.0) for p in counted]
    spent = compose(parts, claim.delta, claim.relation)
    if not claim.covers(spent):
        raise GuardError(
            f"epsilon accounted: expected at most {claim.epsilon:g} as claimed, seen {spent:.4g}"
        )
    return None


def _units(seen: Record) -> int:
    return seen.about.rows + seen.about.included
