"""Which content each record of a run has now: this shows an older copy that was put back, and a record that
was deleted.

The chain lies apart from the records, and is sealed as every output is. It cannot show older copies of both.
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
    """A record that was lost with so many entries and written again; None where the number is unknown, and
    which record it was.
    """

    record: str
    date: str
    entries: int | None = None


@dataclass(frozen=True)
class Chain:
    """Every record with the digests that its content may have, each with its number of entries: two while the
    record is being written.
    """

    known: dict[str, dict[str, int]]
    lost: tuple[Loss, ...] = ()


def load(run_dir: RunDir) -> Chain | None:
    """The chain of a run; None where there is none. Raises UsageError where it is not as the run wrote
    it.
    """
    if not run_dir.file(FILE).is_file():
        return None
    content = run_dir.read_json(FILE)
    content.pop("inputs", None)
    with run_dir.fitting(FILE):
        return build(Chain, content, file=str(run_dir.file(FILE)))


def read(run_dir: RunDir, record: str) -> dict[str, Any]:
    """The content of a record. Raises UsageError where it is missing, altered, or older than the last
    one.
    """
    chain = load(run_dir)
    while True:
        content = run_dir.read_json(file_of(record))
        now = load(run_dir)
        if now == chain:
            break
        chain = now  # somebody wrote in between
    if chain is None:
        raise run_dir.refused(FILE, "no such file")
    if digest(content) not in chain.known.get(record, {}):
        raise run_dir.refused(
            file_of(record), "another content, such as an older copy", f"the content that {FILE} names"
        )
    return content


def file_of(record: str) -> str:
    return f"records/{record}.json"


def digest(content: Content) -> str:
    hashed = {key: content.get(key) for key in ("settings", "entries")}
    return hashlib.sha256(custody.canonical(hashed)).hexdigest()


# ---- writing: only under the lock of the records


def write(run_dir: RunDir, record: str, content: Content) -> None:
    """Writes a record. Meanwhile the chain accepts the old and the new content, so that a kill at any time
    leaves a valid record.
    """
    before = _present(run_dir, record) or {ABSENT: 0}
    _put(run_dir, record, {**before, **_state(content)})
    run_dir.write_json(file_of(record), dict(content))
    _put(run_dir, record, _state(content))


def begin(run_dir: RunDir, records: list[str], date: str, has_begun: bool) -> None:
    """Makes a chain where there is none, and notes that one was lost if anything was recorded or trained
    before.
    """
    if run_dir.file(FILE).is_file():
        return
    known = {record: state for record in records if (state := _present(run_dir, record))}
    lost = (Loss(ALL, date),) if known or has_begun else ()
    _save(run_dir, Chain(known, lost))


def settle(run_dir: RunDir, record: str) -> None:
    """Keeps the present content alone where a kill left two in the chain."""
    _put(run_dir, record, _present(run_dir, record))


def lose(run_dir: RunDir, record: str, date: str) -> None:
    """Writes down that a record is gone, unless it was never whole."""
    chain = _loaded(run_dir)
    known = chain.known.get(record, {ABSENT: 0})
    if ABSENT not in known:
        loss = Loss(record, date, max(known.values()))
        _save(run_dir, replace(chain, known={**chain.known, record: {ABSENT: 0}}, lost=(*chain.lost, loss)))


def note_loss(run_dir: RunDir, loss: Loss) -> None:
    """Writes down that a note of the run was lost, which stands beside the records."""
    chain = _loaded(run_dir)
    _save(run_dir, replace(chain, lost=(*chain.lost, loss)))


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
