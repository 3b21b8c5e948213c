"""What canaries along axes of the weights show of each private arm: the mechanism test, the one-run bound,
conformance.

The arm's ledger is what is tested: a refuted ledger is a broken trainer, whatever the text canaries say.
"""

from collections.abc import Sequence
from typing import Any

from dpaudit import schema
from dpaudit.errors import UsageError
from dpaudit.findings.inside import Check, Inside
from dpaudit.stages.integrity.trained import TrainedArm
from dpaudit.stages.prepare import axes
from dpaudit.stages.prepare.axes import axis_names
from dpaudit.stages.prepare.candidates import load_membership
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress


def run(run_dir: RunDir, plan: Plan, arms: Sequence[Arm], members: int, progress: Progress) -> None:
    """Writes audit/inside/ARM.json for every one of `arms` whose training had canaries along axes.

    `members` is how many questions the run's claims have: all are tested in one family.
    """
    waiting = [arm for arm in arms if is_tested(run_dir, arm.name) and not is_current(run_dir, arm.name)]
    if not waiting:
        return
    with progress.task("audit: the mechanism from inside", total=len(waiting)) as advance:
        for arm in waiting:
            audited(run_dir, plan, arm.name, members).write(
                run_dir, file_of(arm.name), _inputs(run_dir, arm.name)
            )
            advance(1)


def file_of(arm: str) -> str:
    return f"audit/inside/{arm}.json"


def is_tested(run_dir: RunDir, arm: str) -> bool:
    """Whether training had canaries along axes."""
    return TrainedArm(run_dir, arm).has_axes


def is_current(run_dir: RunDir, arm: str) -> bool:
    return Inside.is_current(run_dir, file_of(arm), _inputs(run_dir, arm))


def require_current(run_dir: RunDir, arm: str) -> None:
    """Raises UsageError where the arm had canaries along axes and what they show is missing or out of
    date.
    """
    if is_tested(run_dir, arm):
        run_dir.require_current(file_of(arm), _inputs(run_dir, arm), "dpaudit attack mia")


def _inputs(run_dir: RunDir, arm: str) -> list[str]:
    trained = TrainedArm(run_dir, arm)
    return [trained.axes_file, trained.ledger_file, trained.figures_file]


def audited(run_dir: RunDir, plan: Plan, arm: str, members: int) -> Inside:
    """The findings on one arm. Raises UsageError where what was released and the coins do not
    fit.
    """
    import numpy as np

    from dpaudit.evidence import family, whitebox

    trained = TrainedArm(run_dir, arm)
    ledger = trained.ledger()
    observed = _released(run_dir, arm)
    coins, names = load_membership(run_dir), axis_names(axes.count_of(run_dir))
    if observed.shape[1] != len(names) or not set(names) <= coins.keys():
        raise UsageError(
            str(run_dir.file(trained.axes_file)),
            f"a column for each of {len(names)} coins",
            f"{observed.shape[1]} columns",
            f"restore the run's secret/ folder, or train {arm} again",
        )
    included = np.array([coins[name] for name in names], dtype=bool)
    claimed, claim = ledger.acting, ledger.claim
    confidence, count = 1 - family.first_level(members), len(names)
    draws = family.draws(members)
    return Inside(
        arm=arm,
        claim=claim,
        noise_multiplier=claimed.noise_multiplier,
        canaries=count,
        confidence=confidence,
        draws=draws,
        mechanism_test=whitebox.tested(observed, included, claimed, claim, confidence, draws),
        power_halved=whitebox.power(claimed, count, confidence, 1 / 2),
        power_third=whitebox.power(claimed, count, confidence, 1 / 3),
        caught=whitebox.caught(claimed, claim.delta, count, confidence),
        one_run=whitebox.bounded(observed, included, claimed, claim, confidence),
        conformance=_conformance(trained),
    )


def _conformance(trained: TrainedArm) -> tuple[Check, ...]:
    """What an observer inside the training saw."""
    written, file = trained.figures()["conformance"], str(trained.run_dir.file(trained.figures_file))
    checks: tuple[Check, ...] = schema.convert(tuple[Check, ...], written, file=file, key="conformance")
    return checks


def _released(run_dir: RunDir, arm: str) -> Any:
    """What was released along every canary over the clip, (steps, canaries). Raises UsageError for another
    file.
    """
    import numpy as np

    file = run_dir.file(TrainedArm(run_dir, arm).axes_file)
    try:
        observed = np.load(file, allow_pickle=False)
    except (OSError, ValueError):
        observed = np.empty(0)
    if observed.ndim != 2 or observed.dtype != np.float32 or not np.isfinite(observed).all():
        raise UsageError(
            str(file),
            "finite numbers, a row a step and a column a canary",
            "another array or a broken file",
            f"delete train/{arm} and train it again",
        )
    return observed
