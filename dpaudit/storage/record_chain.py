"""Which content each record of a run has now: an older copy that was put back, and a record that was deleted,
are told by it.

It lies apart from the records, and is sealed as every output is. Both put back together are not told: no file
of a run can.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dpaudit.schema import build
from dpaudit.storage import custody
from dpaudit.storage.rundir import RunDir

FILE = "custody/records/chain.json"
ABSENT = ""  # the digest of a record that was never written
ALL = "records"

Content = Mapping[str, Any]  # of a record: its settings and entries


@dataclass(frozen=True)
class Loss:
    """A record that was written anew where one with so many entries was lost; None: nobody knows how many,
    nor of which record.
    """

    record: str
    date: str
    entries: int | None = None


@dataclass(frozen=True)
class Chain:
    """Of every record the digests that its content may have, each with its number of entries: two while one
    is being written.
    """

    known: dict[str, dict[str, int]]
    lost: tuple[Loss, ...] = ()


def load(run_dir: RunDir) -> Chain | None:
    """The chain of a run; None where there is none. Raises UsageError for one that is not as the run wrote
    it.
    """
    if not run_dir.file(FILE).is_file():
        return None
    found = run_dir.read_json(FILE)
    found.pop("inputs", None)
    return build(Chain, found, file=str(run_dir.file(FILE)))


def read(run_dir: RunDir, record: str) -> dict[str, Any]:
    """The content of a record. Raises UsageError where it is missing, altered, or not the one that was
    written last.
    """
    chain = load(run_dir)
    while True:
        found = run_dir.read_json(file_of(record))
        now = load(run_dir)
        if now == chain:
            break
        chain = now  # somebody wrote in between
    if chain is None:
        raise run_dir.refused(FILE, "no such file")
    if digest(found) not in chain.known.get(record, {}):
        raise run_dir.refused(
            file_of(record), "another one, such as an older copy", f"the record that {FILE} tells of"
        )
    return found


def file_of(record: str) -> str:
    return f"records/{record}.json"


def digest(content: Content) -> str:
    told = {key: content.get(key) for key in ("settings", "entries")}
    return hashlib.sha256(custody.canonical(told)).hexdigest()


# ---- writing: only under the lock of the records


def write(run_dir: RunDir, record: str, content: Content) -> None:
    """Writes a record. The chain knows it first, beside the one before: whenever a kill comes, what is there
    fits.
    """
    before = _present(run_dir, record) or {ABSENT: 0}
    _put(run_dir, record, {**before, **_state(content)})
    run_dir.write_json(file_of(record), dict(content))
    _put(run_dir, record, _state(content))


def begin(run_dir: RunDir, records: list[str], date: str, has_begun: bool) -> None:
    """Makes a chain where there is none; that one was lost is written down, if anything was asked or trained
    before.
    """
    if run_dir.file(FILE).is_file():
        return
    known = {record: found for record in records if (found := _present(run_dir, record))}
    lost = (Loss(ALL, date),) if known or has_begun else ()
    _save(run_dir, Chain(known, lost))


def settle(run_dir: RunDir, record: str) -> None:
    """Forgets the one of two contents that a kill left known and that is not there."""
    _put(run_dir, record, _present(run_dir, record))


def lose(run_dir: RunDir, record: str, date: str) -> None:
    """Writes down that a record is gone, unless it was never whole."""
    chain = _loaded(run_dir)
    known = chain.known.get(record, {ABSENT: 0})
    if ABSENT not in known:
        loss = Loss(record, date, max(known.values()))
        _save(run_dir, replace(chain, known={**chain.known, record: {ABSENT: 0}}, lost=(*chain.lost, loss)))


def _state(content: Content) -> dict[str, int]:
    return {digest(content): len(content.get("entries", ()))}


def _present(run_dir: RunDir, record: str) -> dict[str, int]:
    """The state of the record's file as it is; nothing where there is none."""
    return _state(run_dir.read_json(file_of(record))) if run_dir.file(file_of(record)).is_file() else {}


def _loaded(run_dir: RunDir) -> Chain:
    return load(run_dir) or Chain({})


def _put(run_dir: RunDir, record: str, state: dict[str, int]) -> None:
    chain = _loaded(run_dir)
    if chain.known.get(record) != state:
        _save(run_dir, replace(chain, known={**chain.known, record: state}))


def _save(run_dir: RunDir, chain: Chain) -> None:
    run_dir.write_json(FILE, asdict(chain))
