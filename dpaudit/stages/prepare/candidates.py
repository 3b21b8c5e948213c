"""What prepare wrote, read back: candidates without their coins, the coins, what a method learns from."""

from collections.abc import Iterator
from dataclasses import dataclass

from dpaudit.data import canary
from dpaudit.data.canary import Canary
from dpaudit.data.corpus import Record
from dpaudit.data.corpus_store import PARTS
from dpaudit.stages.integrity import custody
from dpaudit.stages.prepare.lessons import examples_of
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Method


@dataclass(frozen=True)
class CandidateUnits:
    """All units whose membership a coin decided, without the coins."""

    canaries: list[Canary]  # purposes mia and extraction
    records: dict[str, list[Record]]  # unit id -> its dialogues
    pairs: dict[str, list[Record]]
    texts: dict[str, list[Record]]


def load_candidates(run_dir: RunDir) -> CandidateUnits:
    """Everything that a coin decided, without the coins: what the attack stage may see."""
    candidates = CandidateUnits([], {}, {}, {})
    drawn = []
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if row["kind"] in ("alphabet", "canary"):
            drawn.append(row)
        elif row["kind"] == "record":
            for part in PARTS:
                getattr(candidates, part)[row["id"]] = [Record.from_json(r) for r in row.get(part, [])]
    candidates.canaries.extend(canary.from_rows(drawn))
    return candidates


def load_membership(run_dir: RunDir) -> dict[str, bool]:
    """Unit or canary id -> whether it was trained on. For the stages train and audit only."""
    return dict(run_dir.read_json(custody.COINS)["coins"])


def load_training(run_dir: RunDir, method: Method, twin: bool = False) -> Iterator[Record]:
    """The dialogues (`sft`), preference pairs (`dpo`) or texts (`cpt`) of every unit that is in, a unit's own
    in a row.

    A `twin` learns from all of them but the canaries. For the stage train only.
    """
    coins = load_membership(run_dir)
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if twin and row["kind"] == "canary":
            continue
        if coins.get(row["id"], row["kind"] == "certain"):
            yield from examples_of(row, method)
