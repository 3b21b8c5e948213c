"""The auditor audited: how often each broken trainer of the catalogue is caught, and how often the engine
itself is accused.

Every figure is of dry runs (`training.dry`) of the real engine. One run has the axes of several audits, of
`CANARIES` each: axes share no noise, and under Poisson sampling no draw, so that they are audits of their
own.
"""

import math
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from dpaudit.errors import GuardError
from dpaudit.evidence import whitebox
from dpaudit.evidence.guesses import Guesses, guess
from dpaudit.evidence.questions import Asked, Outside, Training, answered
from dpaudit.findings.inside import OneRun
from dpaudit.privacy.accountants import calibrate, epsilon_spent
from dpaudit.privacy.claim import Claim
from dpaudit.privacy.mechanism import Mechanism
from dpaudit.stats import mechanism as mechanism_test
from dpaudit.stats.roc import proportion_interval, proportion_lower
from dpaudit.system import interrupts
from dpaudit.system.progress import Advance, Progress
from dpaudit.training import catalogue, conformance, dpsgd, dry
from dpaudit.training.catalogue import ENGINE, FAULTS, Fault
from dpaudit.training.observation import Observation

CLAIMS = (1.0, 4.0, 8.0)
DELTA, CONFIDENCE = 1e-5, 0.95
STEPS, CLIP = 468, 0.5
CANARIES, AUDITS = 1000, 5  # of one audit, and in one run
FAULT_RUNS, ENGINE_RUNS, RUNS_AT_ONCE = 3, 21, 3
POWER_LEAST = 0.9
SIDES = (CANARIES // 4, CANARIES // 4)  # guesses from outside: the highest sums in, the lowest out
CHECKS = ("mechanism test", "one-run bound", "conformance", "ledger")


@dataclass(frozen=True)
class Cell:
    """Some dry runs of one trainer at one claim. `seed` is of the first; the runs after it count on."""

    fault: Fault
    epsilon: float  # claimed, nats
    noise_multiplier: float  # that the claim asks for
    runs: int
    seed: int


@dataclass(frozen=True)
class Count:
    """How many of a cell's audits or runs caught the trainer."""

    caught: dict[str, int]  # by check; of audits for the first two, of runs for the others
    audits: int
    runs: int
    bounds: tuple[OneRun, ...]  # one an audit
    looks: tuple["Look", ...]  # one an audit
    true_epsilon: float | None = None  # of the mechanism that acts, where it is of the family
    stopped: str = ""  # what a guard of the engine said, which ended the cell


@dataclass(frozen=True)
class Look:
    """What one audit sees of a training: the p-value of the mechanism test, and how often the coins are
    guessed right from the sum of all steps, which an adapter shows.
    """

    p_value: float
    guesses: Guesses


def run(
    progress: Progress, seed: int = 0, workers: int = 1, faults: Sequence[Fault] = FAULTS
) -> dict[str, Any]:
    """The whole self-test, JSON-ready: `passed`, a row per trainer and claim, and the engine's false
    refutations.

    It fails where a check misses what it is meant to see (an infinite epsilon once, others in more than a
    tenth of its tries), or where the correct engine, or a whole page of its claims, is refuted oftener than
    5 % and three standard errors, or a guard stops it. A `seed` gives the same result every time.
    """
    cells = _cells(seed, faults)
    with progress.task("self-test", sum(cell.runs for cell in cells)) as advance:
        count_of = dict(_done(cells, workers, advance))
    counts: dict[tuple[str, float], list[Count]] = {}
    for cell in cells:  # in this order, whichever cell ended first
        counts.setdefault((cell.fault.name, cell.epsilon), []).append(count_of[cell])
    trainers = [(fault, claim) for fault in faults for claim in CLAIMS if _is_run(fault)]
    power = [_power_row(f, claim, _together(counts[f.name, claim])) for f, claim in trainers]
    engine = [_engine_row(claim, _together(counts[ENGINE.name, claim])) for claim in CLAIMS]
    page = _page_row([_together(counts[ENGINE.name, claim]).looks for claim in CLAIMS])
    return {
        "passed": all(row["passed"] for row in [*power, *engine, page]),
        "power": power,
        "correct_engine": engine,
        "correct_page": [page],
        "not_observable": [fault.name for fault in faults if not _is_run(fault)],
        "confidence": CONFIDENCE,
        "delta": DELTA,
        "canaries": CANARIES,
        "notion": mechanism_test.FAMILY,
    }


def audits_of(cell: Cell) -> Count:
    """Trains the cell's runs and judges them."""
    import torch

    torch.set_num_threads(1)
    totals: dict[str, int] = dict.fromkeys(CHECKS, 0)
    bounds: list[OneRun] = []
    looks: list[Look] = []
    setting = dry.Setting(canaries=CANARIES * AUDITS, sequences=cell.fault.sequences)
    stated = catalogue.told_to(cell.fault, _mechanism(cell.noise_multiplier))
    for number in range(cell.runs):
        seeds = [cell.seed + number, round(cell.epsilon * 1000), *(ord(letter) for letter in cell.fault.name)]
        coins, sampling = (np.random.default_rng([*seeds, part]) for part in range(2))
        noise = dpsgd.noise_generator(torch.device("cpu"), int(np.random.default_rng(seeds).integers(2**62)))
        try:
            seen = _trained(cell.fault, setting, stated, coins, sampling, noise)
        except GuardError as error:
            return Count(totals, 0, 0, (), (), stopped=str(error))
        caught, proven, seen_of = _judged(seen, cell)
        bounds += proven
        looks += seen_of
        totals = {check: totals[check] + caught[check] for check in CHECKS}
    audits = cell.runs * AUDITS
    return Count(totals, audits, cell.runs, tuple(bounds), tuple(looks), _true_epsilon(cell))


def _trained(fault: Fault, setting: dry.Setting, stated: Mechanism, *generators: Any) -> Observation:
    if fault.name == ENGINE.name:  # with its guards
        return dry.train(setting, stated, *generators)
    with catalogue.planted(fault, setting):
        return dry.train(setting, stated, *generators)


def _judged(seen: Observation, cell: Cell) -> tuple[dict[str, int], list[OneRun], list[Look]]:
    """What each check caught in one run, and of each audit its one-run bound and what it saw."""
    ledger = catalogue.ledger_of(cell.fault, _mechanism(cell.noise_multiplier))
    claimed = whitebox.family(ledger)
    claim = Claim(cell.epsilon, DELTA, "record", "add_or_remove")
    bounds, looks = [], []
    for part in range(AUDITS):
        mine = slice(part, None, AUDITS)  # of every weight its share
        observed, included = seen.observed[:, mine], seen.included[mine]
        p_value = mechanism_test.p_value(observed, included, claimed)
        looks.append(Look(p_value, guess(observed.sum(0), included, SIDES, CONFIDENCE)))
        bounds.append(whitebox.bounded(observed, included, ledger, claim, CONFIDENCE))
    spec = Claim(cell.epsilon, DELTA, "record", "add_or_remove")
    failed = {check.name for check in conformance.checks(seen, ledger, spec) if check.outcome == "fail"}
    return (
        {
            "mechanism test": sum(look.p_value <= 1 - CONFIDENCE for look in looks),
            "one-run bound": sum(bound.epsilon_lower > claim.epsilon for bound in bounds),
            "conformance": int(bool(failed - set(conformance.LEDGER))),
            "ledger": int(bool(failed & set(conformance.LEDGER))),
        },
        bounds,
        looks,
    )


def _cells(seed: int, faults: Sequence[Fault]) -> list[Cell]:
    made = []
    for epsilon in CLAIMS:
        for start in range(0, ENGINE_RUNS, RUNS_AT_ONCE):
            made.append(Cell(ENGINE, epsilon, _noise(ENGINE, epsilon), RUNS_AT_ONCE, 1000 * seed + start))
        for fault in filter(_is_run, faults):
            made.append(Cell(fault, epsilon, _noise(fault, epsilon), FAULT_RUNS, 1000 * seed))
    return made


def _done(cells: Sequence[Cell], workers: int, advance: Advance) -> Iterator[tuple[Cell, Count]]:
    """Every cell with its count, as they end."""
    if workers <= 1:
        for cell in cells:
            yield cell, audits_of(cell)
            advance(cell.runs)
        return
    fresh = multiprocessing.get_context("spawn")  # a forked process would inherit threads that are not there
    with ProcessPoolExecutor(workers, fresh, interrupts.end_with_parent, (os.getpid(),)) as pool:
        waiting = {pool.submit(_by_name, _named(cell)): cell for cell in cells}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
            advance(waiting[future].runs)


def _named(cell: Cell) -> tuple[str, float, float, int, int]:
    """A cell as it can be sent to another process, which has the catalogue itself."""
    return cell.fault.name, cell.epsilon, cell.noise_multiplier, cell.runs, cell.seed


def _by_name(sent: tuple[str, float, float, int, int]) -> Count:
    name, epsilon, noise_multiplier, runs, seed = sent
    fault = next(fault for fault in (ENGINE, *FAULTS) if fault.name == name)
    return audits_of(Cell(fault, epsilon, noise_multiplier, runs, seed))


def _together(counts: Sequence[Count]) -> Count:
    caught = {check: sum(count.caught[check] for count in counts) for check in CHECKS}
    return Count(
        caught,
        sum(count.audits for count in counts),
        sum(count.runs for count in counts),
        tuple(bound for count in counts for bound in count.bounds),
        tuple(look for count in counts for look in count.looks),
        counts[0].true_epsilon,
        next((count.stopped for count in counts if count.stopped), ""),
    )


def _power_row(fault: Fault, claim: float, count: Count) -> dict[str, Any]:
    shares = {check: _share(count, check) for check in CHECKS}
    meant = shares[fault.seen_by]
    return {
        "trainer": fault.name,
        "claim": claim,
        "true_epsilon": "inf" if count.true_epsilon == math.inf else count.true_epsilon,
        "note": fault.also or None,
        "seen_by": fault.seen_by,
        "power": meant,
        "power_lower": proportion_lower(
            count.caught[fault.seen_by], _tries(count, fault.seen_by), CONFIDENCE
        ),
        **{check.replace(" ", "_").replace("-", "_"): shares[check] for check in CHECKS},
        "passed": not count.stopped and meant >= (1.0 if fault.infinite else POWER_LEAST),
    }


def _engine_row(claim: float, count: Count) -> dict[str, Any]:
    wrong, audits = count.caught["mechanism test"], count.audits
    lower, upper = proportion_interval(wrong, audits, CONFIDENCE)
    nominal = 1 - CONFIDENCE
    most = nominal + 3 * math.sqrt(nominal * (1 - nominal) / max(audits, 1))
    others = sum(count.caught[check] for check in CHECKS[2:])
    return {
        "claim": claim,
        "audits": audits,
        "refuted": wrong,
        "rate": wrong / audits if audits else None,
        "lower": lower,
        "upper": upper,
        "refuted_by_bound": count.caught["one-run bound"],
        "failed_checks": others,
        "ceiling": count.bounds[0].ceiling if count.bounds else None,
        "mean_bound": float(np.mean([b.epsilon_lower for b in count.bounds])) if count.bounds else None,
        "stopped": count.stopped or None,
        "passed": not count.stopped
        and max(wrong, count.caught["one-run bound"]) <= most * audits
        and not others,
    }


def _page_row(looks: Sequence[Sequence[Look]]) -> dict[str, Any]:
    """How often a page of the correct engine is refuted anywhere: one look a claim, both questions, Holm."""
    pages = [_is_refuted(page) for page in zip(*looks, strict=False)]
    wrong, nominal = sum(pages), 1 - CONFIDENCE
    lower, upper = proportion_interval(wrong, len(pages), CONFIDENCE)
    most = nominal + 3 * math.sqrt(nominal * (1 - nominal) / max(len(pages), 1))
    return {
        "claims": ", ".join(f"{claim:g}" for claim in CLAIMS),
        "pages": len(pages),
        "refuted": wrong,
        "rate": wrong / len(pages) if pages else None,
        "lower": lower,
        "upper": upper,
        "passed": bool(pages) and wrong <= most * len(pages),
    }


def _is_refuted(page: Sequence[Look]) -> bool:
    asked = []
    for epsilon, look in zip(CLAIMS, page, strict=True):
        name = f"claim {epsilon:g}"
        training = Training(name, look.p_value, mechanism_test.DRAWS, 1.0, 1.0)
        claim = Claim(epsilon, DELTA, "record", "add_or_remove")
        asked.append(Asked(name, claim, Outside(name, look.guesses), (training,)))
    return any(answer.verdict == "refuted" for answer in answered(asked))


def _share(count: Count, check: str) -> float:
    tries = _tries(count, check)
    return count.caught[check] / tries if tries else 0.0


def _tries(count: Count, check: str) -> int:
    return count.audits if check in CHECKS[:2] else count.runs


def _true_epsilon(cell: Cell) -> float | None:
    if cell.fault.infinite:
        return math.inf
    acting = cell.fault.acting
    return (
        None
        if acting is None
        else _spent(acting(catalogue.told_to(cell.fault, _mechanism(cell.noise_multiplier))))
    )


@cache
def _spent(mechanism: Mechanism) -> float:
    return epsilon_spent(mechanism, DELTA)


def _noise(fault: Fault, epsilon: float) -> float:
    """The noise multiplier that the trainer takes for its claim, by the mechanism in its ledger."""
    ledger = catalogue.ledger_of(fault, _mechanism(1.0))
    return _calibrated(epsilon, ledger.sampling_rate, ledger.steps)


@cache
def _calibrated(epsilon: float, rate: float, steps: int) -> float:
    return calibrate(Claim(epsilon, DELTA, "record", "add_or_remove"), rate, steps)


def _mechanism(noise_multiplier: float) -> Mechanism:
    """The rate and the steps that act, of every trainer."""
    public = dry.Setting()
    return Mechanism(noise_multiplier, public.batch / public.population, STEPS, CLIP)


def _is_run(fault: Fault) -> bool:
    return fault.seen_by in CHECKS
