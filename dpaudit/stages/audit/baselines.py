"""What the texts alone reveal of membership, in stage audit: the blind baseline, and
near-duplicates across the coin.

Both stand beside every comparison of members with others. Nothing written outside secret/ names a text or a
unit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from dpaudit.data.corpus import Record
from dpaudit.data.near_duplicates import THRESHOLD, WIDTH, Found, UnitTexts, across, equal_across
from dpaudit.findings.baselines import Blind, Blinds, Near, NearDuplicates
from dpaudit.findings.membership import Per
from dpaudit.stages.prepare.candidates import CandidateUnits, load_candidates, load_membership
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

BLIND = "audit/blind.json"
NEAR = "audit/near_duplicates.json"
ALIKE = "secret/near_duplicates.json"  # the units by name
INPUTS = ("plan.json", "corpus/manifest.json")
CONFIDENCE = 0.95
PARTS = {"sft": "records", "cpt": "texts", "dpo": "pairs"}  # method -> what of a unit it learns from


def part_of(arm: Arm) -> str:
    """Which part of a real unit an arm learns from: the key of its baseline and of its near-duplicates."""
    return PARTS[arm.method]


def blind(run_dir: RunDir, plan: Plan) -> Blinds:
    """The blind baseline of every comparison: canaries, their extraction kin, and units by part. None where
    there are none.
    """
    if not Blinds.is_current(run_dir, BLIND, INPUTS):
        candidates, coins = load_candidates(run_dir), load_membership(run_dir)
        made = {name: _baseline(texts, coins, plan.seed) for name, texts in _texts(candidates).items()}
        Blinds(**made).write(run_dir, BLIND, INPUTS)
    return Blinds.read(run_dir, BLIND)


def _texts(candidates: CandidateUnits) -> dict[str, dict[str, str]]:
    canaries = {
        purpose: {
            c.id: _text([c.records[0], *([c.pair] if c.pair else [])])
            for c in candidates.canaries
            if c.purpose == purpose
        }
        for purpose in ("mia", "extraction")
    }
    units = {part: getattr(candidates, part) for part in PARTS.values()}
    return {
        "canaries": canaries["mia"],
        "extraction": canaries["extraction"],
        **{
            part: {unit: _text(records) for unit, records in unit_records.items() if records}
            for part, unit_records in units.items()
        },
    }


def _text(records: Sequence[Record]) -> str:
    return "\n".join(part for record in records for part in _parts(record))


def _parts(record: Record) -> Iterator[str]:
    yield from (turn.text for turn in record.turns)
    yield from (part for part in (record.text, record.chosen, record.rejected) if part is not None)


def _baseline(texts: dict[str, str], coins: dict[str, bool], seed: int) -> Blind | None:
    from dpaudit.evidence import blind

    members = [coins[name] for name in texts]
    if not members:
        return None
    if min(sum(members), len(members) - sum(members)) < 2 * blind.FOLDS:
        return Blind(None, None, None, None, alarm=False, units=len(members), finding=blind.NO_BASELINE)
    seen = blind.baseline(list(texts.values()), members, seed=seed, confidence=CONFIDENCE)
    finding = blind.finding(seen.auc_lower, seen.auc_upper, seen.p_value, drawn_by_coin=True)
    return Blind(**asdict(seen), finding=finding)


@dataclass
class Beside:
    """What stands beside the comparisons of a run; each part is worked out when it is first asked for."""

    run_dir: RunDir
    plan: Plan
    progress: Progress

    @cached_property
    def blind(self) -> Blinds:
        return blind(self.run_dir, self.plan)

    @cached_property
    def near(self) -> NearDuplicates:
        """Counts of near-duplicates across the coin, of units by part and of canaries by purpose; None where
        there are none.
        """
        return near(self.run_dir)

    @cached_property
    def candidates(self) -> CandidateUnits:
        return load_candidates(self.run_dir)

    def tell(self, arms: Sequence[Arm], canaries: str) -> None:
        """Says on stderr, each time, what forbids or weakens the comparisons of `arms`; `canaries` are the
        ones compared.
        """
        asked = [canaries, *dict.fromkeys(map(part_of, arms))]
        tell_blind(self.progress, {name: self.blind.of(name) for name in asked})
        tell_near(self.progress, {name: self.near.of(name) for name in asked})

    def per(self, arm: Arm) -> "ScoreOf":
        """What one score is of, for canaries and for real units: the unit, and under unit patient how many
        records it sums.
        """
        unit, units = self.plan.suite.training.unit, getattr(self.candidates, part_of(arm)).values()
        canaries = [
            len(canary.records) if arm.method == "sft" else 1
            for canary in self.candidates.canaries
            if canary.purpose == "mia"
        ]
        return ScoreOf(_per(unit, canaries), _per(unit, [len(records) for records in units if records]))

    def alike(self, part: str) -> set[str]:
        """The units that have a near-duplicate in any other unit, whichever way the coins fell."""
        return set(self.run_dir.read_json(ALIKE)[part]) if self.near.of(part) else set()


@dataclass(frozen=True)
class ScoreOf:
    """What one score is of."""

    canaries: Per
    records: Per


def _per(unit: str, counts: Sequence[int]) -> Per:
    if unit != "patient" or not counts:
        return Per(unit)
    return Per(unit, "the sum over a patient's records", min(counts), max(counts))


def near(run_dir: RunDir) -> NearDuplicates:
    """The counts in audit/near_duplicates.json, worked out once a run; the names of the units stay in
    secret/.
    """
    if not (NearDuplicates.is_current(run_dir, NEAR, INPUTS) and run_dir.file(ALIKE).is_file()):
        comparisons = _near(run_dir)
        run_dir.write_json(
            ALIKE, {part: sorted(duplicates.alike) for part, (_, duplicates) in comparisons.items()}
        )
        run_dir.file(ALIKE).chmod(0o600)
        counts = {
            part: _counts(members, duplicates) if members else None
            for part, (members, duplicates) in comparisons.items()
        }
        NearDuplicates(WIDTH, THRESHOLD, **counts).write(run_dir, NEAR, INPUTS)
    return NearDuplicates.read(run_dir, NEAR)


def _near(run_dir: RunDir) -> dict[str, tuple[dict[str, bool], Found]]:
    """Comparison -> the coins of its units, and their near-duplicates."""
    candidates, coins = load_candidates(run_dir), load_membership(run_dir)
    comparisons = {}
    for name, purpose in (("canaries", "mia"), ("extraction", "extraction")):
        secrets = {c.id: c.secret for c in candidates.canaries if c.purpose == purpose}
        comparisons[name] = (
            {canary_id: coins[canary_id] for canary_id in secrets},
            equal_across(secrets, coins),
        )
    for part in PARTS.values():
        units = getattr(candidates, part).items()
        drawn = [_unit(name, records, coins[name]) for name, records in units if records]
        corpus = _corpus(run_dir, coins, part) if drawn else ()
        comparisons[part] = ({unit.name: coins[unit.name] for unit in drawn}, across(drawn, corpus))
    return comparisons


def _corpus(run_dir: RunDir, coins: dict[str, bool], part: str) -> Iterator[UnitTexts]:
    """Every unit but canaries, one at a time."""
    for row in run_dir.iterate_lines("corpus/candidates.jsonl"):
        if row["kind"] in ("record", "certain") and row.get(part):
            yield _unit(row["id"], [Record.from_json(record) for record in row[part]], coins.get(row["id"]))


def _unit(name: str, records: Sequence[Record], member: bool | None) -> UnitTexts:
    return UnitTexts(name, tuple(_text([record]) for record in records), member)


def _counts(members: dict[str, bool], duplicates: Found) -> Near:
    return Near(
        members=sum(members.values()),
        nonmembers=len(members) - sum(members.values()),
        nonmembers_in_training=len(duplicates.nonmembers),
        members_among_nonmembers=len(duplicates.members),
        pairs_across=duplicates.pairs_across,
        alike=len(duplicates.alike),
    )


def tell_blind(progress: Progress, seen: dict[str, Blind | None]) -> None:
    """Says on stderr where texts reveal the coins: such a comparison proves nothing."""
    for name, baseline in seen.items():
        if baseline is not None and baseline.alarm:
            progress.say(
                f"blind baseline: {name} can be told apart by their texts alone, AUC {baseline.auc:.3f}, p "
                f"{baseline.p_value:.1g}: "
                "the coins are broken, so guesses of them prove nothing"
            )


def tell_near(progress: Progress, nearly: dict[str, Near | None]) -> None:
    """Says on stderr how many non-members were learnt nevertheless, from a near-duplicate of their text."""
    for part, of, alike in (
        *(
            (part, f"units with {part}", "a record nearly the same as one that was")
            for part in PARTS.values()
        ),
        ("canaries", "canaries", "the very secret of one that was"),
        ("extraction", "canaries for extraction", "the very secret of one that was"),
    ):
        counts = nearly.get(part)
        if counts is not None and counts.nonmembers_in_training:
            progress.say(
                f"near-duplicates: {counts.nonmembers_in_training} of {counts.nonmembers} {of} that "
                f"were not trained on "
                f"have {alike}"
            )
