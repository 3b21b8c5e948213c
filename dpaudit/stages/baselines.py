"""What the texts tell of membership without any model, in stage audit: the blind baseline, and near-duplicates across the coin.

Both stand beside every comparison of members with others. Nothing written names a text, nor a unit that a coin left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from dpaudit import near_duplicates
from dpaudit.canary import Canary
from dpaudit.corpus import Record
from dpaudit.progress import Progress
from dpaudit.rundir import RunDir
from dpaudit.stages.prepare import Candidates, load_candidates, load_membership
from dpaudit.suite import Arm, Plan

BLIND = "audit/blind.json"
INPUTS = ("plan.json", "corpus/manifest.json")
CONFIDENCE = 0.95
PARTS = {"sft": "records", "cpt": "texts", "dpo": "pairs"}  # method -> what of a unit it learns from


def part_of(arm: Arm) -> str:
    """Which part of a real unit an arm learns from: the key of its baseline and of its near-duplicates."""
    return PARTS[arm.method]


def blind(run_dir: RunDir, plan: Plan) -> dict[str, Any]:
    """The blind baseline of every comparison: canaries, their extraction kin, and units by part. None for too few coins."""
    if not run_dir.is_current(BLIND, INPUTS):
        candidates, coins = load_candidates(run_dir), load_membership(run_dir)
        found = {name: _baseline(of, coins, plan.seed) for name, of in _texts(candidates).items()}
        run_dir.write_json(BLIND, found, INPUTS)
    return run_dir.read_json(BLIND)


def _texts(candidates: Candidates) -> dict[str, dict[str, str]]:
    canaries = {
        purpose: {c.id: _text([c.records[0], *([c.pair] if c.pair else [])]) for c in candidates.canaries if c.purpose == purpose}
        for purpose in ("mia", "extraction")
    }  # fmt: skip
    units = {part: getattr(candidates, part) for part in PARTS.values()}
    return {
        "canaries": canaries["mia"],
        "extraction": canaries["extraction"],
        **{part: {unit: _text(of) for unit, of in found.items() if of} for part, found in units.items()},
    }


def _text(records: Sequence[Record]) -> str:
    return "\n".join(part for record in records for part in _parts(record))


def _parts(record: Record) -> Iterator[str]:
    yield from (turn.text for turn in record.turns)
    yield from (part for part in (record.text, record.chosen, record.rejected) if part is not None)


def _baseline(texts: dict[str, str], coins: dict[str, bool], seed: int) -> dict[str, Any] | None:
    from dpaudit import blind

    members = [coins[name] for name in texts]
    if min(sum(members), len(members) - sum(members)) < 2 * blind.FOLDS:
        return None
    return asdict(blind.baseline(list(texts.values()), members, seed=seed, confidence=CONFIDENCE))


@dataclass
class Beside:
    """What stands beside the comparisons of a run; each part is worked out when it is first asked for."""

    run_dir: RunDir
    plan: Plan
    progress: Progress

    @cached_property
    def blind(self) -> dict[str, Any]:
        found = blind(self.run_dir, self.plan)
        tell_blind(self.progress, found)
        return found

    @cached_property
    def near(self) -> dict[str, Any]:
        """Near-duplicates across the coin by part of a unit, and canaries with equal secrets on both sides of it."""
        candidates, coins = load_candidates(self.run_dir), load_membership(self.run_dir)
        found: dict[str, Any] = {"canaries": _equal_secrets(candidates.canaries, coins)}
        for part in PARTS.values():
            mine = {unit: _text(of) for unit, of in getattr(candidates, part).items() if of}
            trained = _trained(self.run_dir, coins, part)
            found[part] = near_duplicates.across(mine, coins, trained) if mine else None
        tell_near(self.progress, found)
        return found


def _trained(run_dir: RunDir, coins: dict[str, bool], part: str) -> Iterator[tuple[str, str]]:
    """Every unit that went into training, with its text, one at a time."""
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if row["kind"] in ("record", "certain") and coins.get(row["id"], row["kind"] == "certain"):
            text = _text([Record.from_json(one) for one in row.get(part, [])])
            if text:
                yield row["id"], text


def _equal_secrets(canaries: Sequence[Canary], coins: dict[str, bool]) -> int:
    """Canaries that were left out although another with the same secret went in."""
    inside = {c.secret for c in canaries if coins[c.id]}
    return sum(c.secret in inside for c in canaries if not coins[c.id] and c.purpose == "mia")


def tell_blind(progress: Progress, seen: dict[str, Any]) -> None:
    """Says on stderr where texts tell the coins: a comparison of which nothing follows."""
    for name, found in seen.items():
        if isinstance(found, dict) and found.get("alarm"):
            progress.say(f"blind baseline: {name} are told apart by their texts alone, AUC {found['auc']:.3f}, p {found['p_value']:.1g}: "
                         "the coins are broken, and nothing follows from guessing them")  # fmt: skip


def tell_near(progress: Progress, nearly: dict[str, Any]) -> None:
    """Says on stderr how many non-members were learnt all the same, from a text that is nearly theirs."""
    for part in PARTS.values():
        counts = nearly.get(part) or {}
        if counts.get("nonmembers_in_training"):
            progress.say(f"near-duplicates: of {counts['nonmembers']} {part} that a coin left out, {counts['nonmembers_in_training']} "
                         "are nearly the same as one that was trained on")  # fmt: skip
