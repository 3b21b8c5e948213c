"""Stage prepare: the corpus, the canaries, and the coins that decide who is a member."""

import json
import random
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpaudit import canary, suite
from dpaudit.builtin import clinic
from dpaudit.canary import Canary
from dpaudit.corpus import Corpus, Record, group_by_unit, read_records
from dpaudit.errors import UsageError
from dpaudit.progress import Progress
from dpaudit.rundir import RunDir, keyed_file_digest
from dpaudit.suite import Plan

FILES = ("corpus/candidates.jsonl", "corpus/heldout.jsonl", "corpus/choices.jsonl", "secret/coins.json")


@dataclass(frozen=True)
class Candidates:
    """All units whose membership a coin decided, without the coins."""

    canaries: list[Canary]  # purposes mia and extraction
    records: dict[str, list[Record]]  # unit id -> its records


def run(run_dir: RunDir, plan: Plan, progress: Progress) -> None:
    """Writes corpus/ and secret/ once. A later call checks that they, and the data file, are still the same."""
    if run_dir.file("corpus/manifest.json").is_file():
        check_unchanged(run_dir, plan)
        return
    with progress.task("preparing corpus and coins", total=1) as advance:
        corpus = load_corpus(plan)
        rows, coins = draw(plan, corpus)
        write_secrets(run_dir, coins)
        run_dir.write_lines("corpus/candidates.jsonl", rows)
        run_dir.write_lines("corpus/heldout.jsonl", (r.to_json() for r in corpus.heldout))
        choices = clinic.choices() if plan.suite.data.source == "builtin:clinic" else []
        run_dir.write_lines("corpus/choices.jsonl", choices)
        run_dir.write_json(
            "corpus/manifest.json", manifest(run_dir, plan, rows, corpus), inputs=["plan.json"]
        )
        advance(1)


def load_corpus(plan: Plan) -> Corpus:
    """The plan's records, pairs and held-out records. Raises UsageError with file and line."""
    data = plan.suite.data
    if data.source == "builtin:clinic":
        world = clinic.world(plan.seed, data.patients, data.heldout)
        if data.preference == "builtin:clinic":
            return world
        return Corpus(world.records, _pairs(data.preference), world.heldout, world.source)
    records = read_records(Path(data.source), data.limit)
    if records[0].is_pair:
        raise UsageError(data.source, expected="dialogues to fine-tune on", got="preference pairs",
                         remedy="name pairs with data.preference")  # fmt: skip
    groups = group_by_unit(records, plan.suite.training.unit)
    order = list(groups)
    random.Random(f"split/{plan.seed}").shuffle(order)
    held: list[Record] = []
    while order and len(held) < data.heldout:
        held += groups.pop(order.pop())  # whole units: nobody is in both parts
    kept = tuple(record for group in groups.values() for record in group)
    if not kept:
        raise UsageError(data.source, expected=f"more than data.heldout = {data.heldout} records", got=str(len(records)),
                         remedy="lower data.heldout")  # fmt: skip
    return Corpus(kept, _pairs(data.preference), tuple(held[: data.heldout]), data.source)


def _pairs(source: str | None) -> tuple[Record, ...]:
    if source is None:
        return ()
    if source == "builtin:clinic":
        raise UsageError("data.preference", expected="a JSONL file beside a data file", got=source,
                         remedy="--set data.preference=FILE, or no DPO arms: --set data.preference=null --set grid.dpo=[]")  # fmt: skip
    pairs = read_records(Path(source))
    if not pairs[0].is_pair:
        raise UsageError(source, expected="prompt, chosen and rejected on every line", got="dialogues")
    return pairs


def draw(plan: Plan, corpus: Corpus) -> tuple[list[dict[str, Any]], dict[str, bool]]:
    """The rows of candidates.jsonl and the coin of each unit that has one.

    Membership coins are fair and independent. Of the extraction canaries exactly half, drawn at random, are planted.
    """
    wanted, seed = plan.suite.candidates, str(plan.seed)
    coin = (
        secrets.SystemRandom() if plan.insecure_seed is None else random.Random(f"coins/{plan.insecure_seed}")
    )
    taken: set[str] = set()
    members = canary.draw(
        wanted.family, wanted.canaries, wanted.canary_length, wanted.canary_repetitions, "mia", taken, seed
    )
    copies = wanted.extraction_repetitions
    planted = canary.draw(
        wanted.family, wanted.extraction, wanted.extraction_length, copies, "extraction", taken, seed
    )
    coins = {c.id: coin.random() < 0.5 for c in members}
    chosen = set(coin.sample(range(len(planted)), len(planted) // 2))
    coins |= {c.id: i in chosen for i, c in enumerate(planted)}
    rows = [{"kind": "canary", **c.to_json()} for c in (*members, *planted)]
    unit = plan.suite.training.unit
    records, pairs = group_by_unit(corpus.records, unit), group_by_unit(corpus.pairs, unit)
    units = list(dict.fromkeys((*records, *pairs)))
    if set(units) & coins.keys():
        raise UsageError("data: ids", expected="no unit named as a canary is", got="one that is",
                         remedy="rename units that begin with mia or extraction")  # fmt: skip
    if wanted.records > len(units) // 2:
        raise UsageError(
            "candidates.records", expected=f"at most half of the {len(units)} units", got=str(wanted.records)
        )
    flipped = set(random.Random(f"candidates/{seed}").sample(sorted(records), wanted.records))
    coins |= {name: coin.random() < 0.5 for name in units if name in flipped}
    for name in units:
        row = {
            "kind": "record" if name in flipped else "certain",
            "id": name,
            "records": [r.to_json() for r in records.get(name, [])],
            "pairs": [r.to_json() for r in pairs.get(name, [])],
        }
        rows.append(row)
    return rows, coins


def write_secrets(run_dir: RunDir, coins: dict[str, bool]) -> None:
    folder = run_dir.file("secret")
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    run_dir.secret_file("hash.key").write_bytes(secrets.token_bytes(32))
    run_dir.write_json("secret/coins.json", {"coins": coins})
    for name in ("hash.key", "coins.json"):
        run_dir.secret_file(name).chmod(0o600)


def manifest(run_dir: RunDir, plan: Plan, rows: list[dict[str, Any]], corpus: Corpus) -> dict[str, Any]:
    """Keyed digests and counts, public enough to be an input of every later stage.

    `units` is the expected number of units trained on; it does not depend on how the coins fell.
    """
    kinds = [row["kind"] if row["kind"] != "canary" else row["purpose"] for row in rows]
    counts = {kind: kinds.count(kind) for kind in ("certain", "record", "mia", "extraction")}
    coins = counts["record"] + counts["mia"] + counts["extraction"]
    return {
        "source": corpus.source,
        "files": {name: run_dir.keyed_digest(name) for name in FILES},
        "sources": source_digests(run_dir, plan),
        "counts": {
            **counts,
            "records": len(corpus.records),
            "pairs": len(corpus.pairs),
            "heldout": len(corpus.heldout),
        },
        "units": counts["certain"] + coins // 2,
    }


def source_digests(run_dir: RunDir, plan: Plan) -> dict[str, str]:
    """Keyed digests of the data files that the plan names."""
    named = (plan.suite.data.source, plan.suite.data.preference)
    paths = [path for source in named if source and (path := suite.path_or_builtin(source))]
    key = run_dir.hash_key()
    return {str(path): keyed_file_digest(path, key) for path in paths}


def check_unchanged(run_dir: RunDir, plan: Plan) -> None:
    """Raises UsageError where a data file or a prepared file is not what the run began with."""
    check_prepared(run_dir)
    _compare(run_dir, "sources", source_digests(run_dir, plan))


def check_prepared(run_dir: RunDir) -> None:
    """Raises UsageError where the candidates, the coins or another prepared file was changed."""
    _compare(run_dir, "files", {name: run_dir.keyed_digest(name) for name in FILES})


def _compare(run_dir: RunDir, part: str, now: dict[str, str]) -> None:
    known = run_dir.read_json("corpus/manifest.json")[part]
    for name, digest in now.items():
        if known.get(name) != digest:
            raise UsageError(name, expected="the file that this run began with", got="a changed one",
                             remedy=f"restore it, or delete {run_dir.path} to begin again")  # fmt: skip


def load_candidates(run_dir: RunDir) -> Candidates:
    """Everything that a coin decided, without the coins: what the attack stage may see."""
    canaries, records = [], {}
    for row in run_dir.read_lines("corpus/candidates.jsonl"):
        if row["kind"] == "canary":
            canaries.append(Canary.from_json(row))
        elif row["kind"] == "record":
            records[row["id"]] = [Record.from_json(r) for r in row["records"]]
    return Candidates(canaries, records)


def load_membership(run_dir: RunDir) -> dict[str, bool]:
    """Unit or canary id -> whether it was trained on. For the stages train and audit only."""
    return dict(json.loads(run_dir.secret_file("coins.json").read_text(encoding="utf-8"))["coins"])


def load_training(run_dir: RunDir, method: str) -> list[Record]:
    """The records (`sft`) or preference pairs (`dpo`) of every unit that is in. For the stage train only."""
    coins = load_membership(run_dir)
    kept: list[Record] = []
    for row in run_dir.read_lines("corpus/candidates.jsonl"):
        if coins.get(row["id"], row["kind"] == "certain"):
            kept += _examples(row, method)
    return kept


def _examples(row: dict[str, Any], method: str) -> Iterable[Record]:
    if method == "sft":
        return [Record.from_json(r) for r in row["records"]]
    if row["kind"] == "canary":
        return [Record.from_json(row["pair"])] if row["pair"] else []
    return [Record.from_json(r) for r in row["pairs"]]
