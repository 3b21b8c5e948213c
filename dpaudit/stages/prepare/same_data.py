"""Which other runs of a folder learn from the same data: another training on them is another release."""

from pathlib import Path

from dpaudit.data.reading import is_hub_id, parse_rows
from dpaudit.errors import UsageError
from dpaudit.stages.integrity import custody, siblings
from dpaudit.stages.prepare.corpus import FAULTS
from dpaudit.storage.custody import keyed_file_digest
from dpaudit.storage.rundir import PLAN, RunDir
from dpaudit.suite.plan import Plan


def names(run_dir: RunDir, plan: Plan) -> list[str]:
    """The other runs of the folder, trained or not, with a data source of this one: the same synthetic
    clinic, hub data set, or file or folder with the same bytes, under whatever name.

    Other rows of one file are other data, unless units are patients, who may be in both parts.
    """
    return [other.name for other in siblings.others(run_dir) if _is_same(other, plan)]


def _is_same(other: RunDir, plan: Plan) -> bool:
    try:
        theirs = Plan.from_json(other.read_json(PLAN))
        digests = set(other.read_json(custody.CORPUS)["sources"].values())
        key = other.hash_key() if digests else b""
    except (UsageError, KeyError):  # not begun, of another version, or not whole: whoever opens it is told
        return False
    mine = sources(plan)
    if {name for name in mine if not _is_file(name)} & set(sources(theirs)):
        return _share_rows(plan, theirs)
    files = [Path(name) for name in mine if _is_file(name)]
    return any(keyed_file_digest(file, key) in digests for file in files if digests) and _share_rows(
        plan, theirs
    )


def sources(plan: Plan) -> list[str]:
    """The data sources of a plan; a synthetic clinic with its seed, which makes its people."""
    data = plan.suite.data
    named = [name for name in (data.source, data.preference, data.text) if name and name != FAULTS]
    return [f"{name} seed {plan.seed}" if name.startswith("builtin:") else name for name in named]


def _is_file(name: str) -> bool:
    return not name.startswith("builtin:") and not is_hub_id(name)


def _share_rows(plan: Plan, theirs: Plan) -> bool:
    if "patient" in (plan.suite.training.unit, theirs.suite.training.unit):
        return True
    (first, end), (others_first, others_end) = (parse_rows(p.suite.data.rows) for p in (plan, theirs))
    return _is_below(first, others_end) and _is_below(others_first, end)


def _is_below(row: int, end: int | None) -> bool:
    return end is None or row < end
