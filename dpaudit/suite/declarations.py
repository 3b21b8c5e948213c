"""The settings of a run beside its training: evaluation, judging, claims, attacks, placement. Each is a
record with dates; entries are added and never edited.

None of them changes what an arm learns, so that one more benchmark, rubric or claim needs no other run and no
second training on the same people. Each entry says whether it was *declared* before training began, or *added
later*.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from dpaudit.schema import build, convert
from dpaudit.storage import notes, record_chain
from dpaudit.storage.custody import RELEASE
from dpaudit.storage.exclusive import alone
from dpaudit.storage.record_chain import Loss, file_of
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import RECORDS, Plan
from dpaudit.suite.suite import Declared

Mark = Literal["declared", "added later"]
Settings = dict[str, Any]  # the suite's keys -> their values
CLAIMS = "claims"
CORPUS = "corpus/manifest.json"


@dataclass(frozen=True)
class Entry:
    """The settings asked for at one time. An entry of claims holds only the new ones."""

    date: str  # UTC, to the second
    mark: Mark
    source: Literal["suite", "command"]
    settings: Settings


def input_of(record: str) -> str:
    """The name under which an output lists the settings in force that it was made with."""
    return f"{file_of(record)}#settings"


def entries(run_dir: RunDir, record: str) -> tuple[Entry, ...]:
    """The entries of a record, oldest first. Raises UsageError where the record is missing, altered or an
    older copy.
    """
    rows = record_chain.read(run_dir, record).get("entries", [])
    file = str(run_dir.file(file_of(record)))
    with run_dir.fitting(file_of(record)):
        kept: tuple[Entry, ...] = convert(tuple[Entry, ...], rows, file=file, key="entries")
        return kept


def in_force(run_dir: RunDir, record: str) -> Settings:
    """The settings in force: those of the last entry; of claims, all that were ever made."""
    return _in_force(record, entries(run_dir, record))


def _in_force(record: str, history: tuple[Entry, ...]) -> Settings:
    if record != CLAIMS:
        return history[-1].settings if history else {}
    return {CLAIMS: [claim for entry in history for claim in entry.settings[CLAIMS]]}


def claims(run_dir: RunDir) -> list[tuple[Declared, Entry]]:
    """Every claim of the run with the entry that made it, oldest first."""
    file = str(run_dir.file(file_of(CLAIMS)))
    declared = [(claim, entry) for entry in entries(run_dir, CLAIMS) for claim in entry.settings[CLAIMS]]
    with run_dir.fitting(file_of(CLAIMS)):
        return [(build(Declared, claim, file=file, key=CLAIMS), entry) for claim, entry in declared]


def plan_of(run_dir: RunDir) -> Plan:
    """The run's plan, with what its records have in force. Raises UsageError for a plan of another version of
    dpaudit.
    """
    written, file = run_dir.read_json("plan.json"), str(run_dir.file("plan.json"))
    plan = Plan.from_json(written, file)
    beside = [in_force(run_dir, record) for record in RECORDS]
    return plan.with_settings(
        {key: value for part in beside for key, value in part.items()}, str(run_dir.file("records"))
    )


@alone("records")
def keep(run_dir: RunDir, plan: Plan) -> list[str]:
    """Writes what the plan's suite asks into the run's records; returns the names of those that got an entry
    *added later*.

    An unchanged suite keeps what a command has added since. A claim stays once it is made. A lost record is
    written again, and its loss stays recorded.
    """
    record_chain.begin(run_dir, list(RECORDS), _now(), _has_begun(run_dir))
    return [record for record in RECORDS if _kept(run_dir, record, plan.settings(record))]


def _kept(run_dir: RunDir, record: str, asked: Settings) -> bool:
    if not run_dir.file(file_of(record)).is_file():
        record_chain.lose(run_dir, record, _now())
        return _write(run_dir, record, (), asked, "suite") == "added later"
    history = _settled(run_dir, record)
    from_suite = [entry.settings for entry in history if entry.source == "suite"][-1:]
    if record != CLAIMS and asked in (*from_suite, *(entry.settings for entry in history[-1:])):
        return False
    return _add(run_dir, record, asked, "suite") == "added later"


def would_change(run_dir: RunDir, plan: Plan) -> bool:
    """Whether the plan's suite asks anything that the run's records do not have in force yet."""
    if not run_dir.file(record_chain.FILE).is_file():
        return True
    for record in RECORDS:
        if not run_dir.file(file_of(record)).is_file():
            return True
        asked, known = plan.settings(record), in_force(run_dir, record)
        if record == CLAIMS and any(claim not in known[CLAIMS] for claim in asked[CLAIMS]):
            return True
        if record != CLAIMS and asked != known:
            return True
    return False


@alone("records")
def add(run_dir: RunDir, record: str, asked: Settings, source: Literal["suite", "command"]) -> Mark | None:
    """Adds an entry to a record of the run; for claims, with the new ones only. Returns its mark, None where
    nothing is new.
    """
    return _add(run_dir, record, asked, source)


def _add(run_dir: RunDir, record: str, asked: Settings, source: Literal["suite", "command"]) -> Mark | None:
    history = _settled(run_dir, record)
    known = _in_force(record, history)
    if record == CLAIMS:
        asked = {CLAIMS: [claim for claim in asked[CLAIMS] if claim not in known[CLAIMS]]}
        known = {CLAIMS: []}
    return None if asked == known else _write(run_dir, record, history, asked, source)


def lost(run_dir: RunDir) -> tuple[Loss, ...]:
    """The records of the run that were lost at some time: their settings are not known any more."""
    chain = record_chain.load(run_dir)
    return () if chain is None else chain.lost


def mend_notes(run_dir: RunDir, plan: Plan) -> list[str]:
    """Writes lost notes of what the run had again, and returns them; their loss stays recorded."""
    if not run_dir.file(CORPUS).is_file():
        return []
    commitment = run_dir.read_json(CORPUS).get("commitment")
    return notes.mend(run_dir, [arm.name for arm in plan.suite.grid.arms], commitment, _now())


def _settled(run_dir: RunDir, record: str) -> tuple[Entry, ...]:
    history = entries(run_dir, record)
    record_chain.settle(run_dir, record)
    return history


def _write(
    run_dir: RunDir,
    record: str,
    history: tuple[Entry, ...],
    asked: Settings,
    source: Literal["suite", "command"],
) -> Mark:
    mark: Mark = "added later" if _has_begun(run_dir) else "declared"
    now = (*history, Entry(_now(), mark, source, asked))
    content = {"settings": _in_force(record, now), "entries": [asdict(entry) for entry in now]}
    record_chain.write(run_dir, record, content)
    return mark


def _has_begun(run_dir: RunDir) -> bool:
    """Whether training has begun, with the corpus and its coins: an entry written before them is declared."""
    return any(run_dir.file(name).exists() for name in ("corpus", "train", RELEASE))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
