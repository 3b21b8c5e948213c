"""Stage audit once more, file by file: what stands in audit/ made again from scores, coins and ledgers, in a
copy of the run that `report verify` works in.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.evidence import family, planned
from dpaudit.privacy.ledger import file_of
from dpaudit.signals import recipe
from dpaudit.stages.attack.scores import score_file
from dpaudit.stages.audit import audit, baselines, extracted, inside, members
from dpaudit.stages.audit.baselines import BLIND, NEAR
from dpaudit.stages.audit.repeats import SUMMARY
from dpaudit.stages.prepare.prepare import check_prepared
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

Made = Callable[[], str | None]  # makes a file again; says in words why that is not possible


def require_raw(run_dir: RunDir) -> None:
    """Raises UsageError where corpus or coins are not those that the run drew."""
    check_prepared(run_dir)


def makers(run_dir: RunDir, plan: Plan, kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Made]:
    """For each of these files of audit/ (place -> what it holds now) how it is made again, in the order in
    which they rest on each other.
    """
    beside = baselines.Beside(run_dir, plan, Progress(quiet=True))
    return {file: _maker(beside, file, kept[file]) for file in sorted(kept, key=_rank)}


def _rank(file: str) -> tuple[int, str]:
    """Baselines first, the summary last."""
    return (0 if file in (BLIND, NEAR) else 2 if file == SUMMARY else 1), file


def _maker(beside: baselines.Beside, file: str, kept: Mapping[str, Any]) -> Made:
    run_dir, plan = beside.run_dir, beside.plan

    def make() -> str | None:
        if file == BLIND:
            baselines.blind(run_dir, plan)
        elif file == NEAR:
            baselines.near(run_dir)
        elif file == SUMMARY:
            _summarise(run_dir, plan, kept)
        elif file.startswith("audit/inside/"):
            _look_inside(run_dir, plan, file, kept)
        else:
            return _guess(beside, file)
        return None

    return make


def _guess(beside: baselines.Beside, file: str) -> str | None:
    """One recipe on one arm."""
    _, arm_name, place = file.split("/")
    name = place.removesuffix(".json")
    arm = beside.plan.suite.grid.named([arm_name])[0]
    try:
        made_by = recipe.load(name)
    except UsageError:
        return f"there is no recipe {name} here"
    if beside.run_dir.read_metadata(score_file(arm_name, name)).get("recipe") != made_by.digest:
        return f"attacks/{name}.yaml is not the recipe that these scores were made with"
    (extracted if made_by.kind == "extract" else members).audit(beside, arm, made_by)
    return None


def _look_inside(run_dir: RunDir, plan: Plan, file: str, kept: Mapping[str, Any]) -> None:
    """What was seen from inside of an arm's training."""
    arm = file.rpartition("/")[2].removesuffix(".json")
    found = inside.audited(run_dir, plan, arm, _members(plan, kept))
    found.write(run_dir, file, kept["inputs"])


def _members(plan: Plan, kept: Mapping[str, Any]) -> int:
    """How many questions the run's claims had as the file was made: a claim that came later raised their
    number and did not make the file again. Any other number is the present one.
    """
    most = planned.members(plan, axes=True)
    told = kept.get("confidence"), kept.get("draws")
    known = (n for n in range(most + 1) if (1 - family.first_level(n), family.draws(n)) == told)
    return next(known, most)


def _summarise(run_dir: RunDir, plan: Plan, kept: Mapping[str, Any]) -> None:
    """One answer a claim, on the arms that were there as the file was made."""
    arms = [arm for arm in plan.suite.grid.named(None, twins=False) if file_of(arm.name) in kept["inputs"]]
    audit.together(run_dir, plan, arms).write(run_dir, SUMMARY, kept["inputs"])
