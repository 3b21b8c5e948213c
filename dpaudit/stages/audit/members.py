"""Membership in stage audit: the guesses of one recipe on one arm, and what they prove of its claim."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from dpaudit.data.corpus import unit_of
from dpaudit.errors import UsageError
from dpaudit.evidence.guesses import Guesses
from dpaudit.findings.baselines import Near
from dpaudit.findings.membership import (
    Area,
    Bound,
    Fitted,
    Membership,
    NearRecords,
    Per,
    Records,
    Scored,
    Slope,
)
from dpaudit.privacy import ledger as ledgers
from dpaudit.privacy.claim import Claim
from dpaudit.signals import calibration, combination, recipe
from dpaudit.signals.recipe import Recipe
from dpaudit.signals.text import Combination
from dpaudit.stages.attack.scores import Score, read_counts, read_scores, score_file
from dpaudit.stages.audit import baselines
from dpaudit.stages.audit.baselines import BLIND
from dpaudit.stages.audit.performance import CONFIDENCE, FPR, Labelled, guess_by, performance, rule
from dpaudit.stages.integrity.trained import score_inputs
from dpaudit.stages.prepare.candidates import load_candidates, load_membership
from dpaudit.stats import roc
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan


def audit_file(arm: str, name: str) -> str:
    return f"audit/{arm}/{name}.json"


def audit_inputs(arm: str, name: str) -> list[str]:
    return [*score_inputs(arm), score_file(arm, name)]


def audit(beside: baselines.Beside, arm: Arm, made_by: Recipe) -> None:
    """Writes audit/ARM/RECIPE.json. Raises UsageError where the coins do not fit the scores."""
    run_dir, plan = beside.run_dir, beside.plan
    file, inputs = audit_file(arm.name, made_by.name), [*audit_inputs(arm.name, made_by.name), BLIND]
    if Membership.is_current(run_dir, file, inputs):
        return
    kinds = _labelled(run_dir, plan.suite.training.unit, read_scores(run_dir, arm.name, made_by.name))
    fitted: dict[str, Fitted] = {}
    if made_by.signal == "combination":
        kinds, fitted = _combined(plan, made_by, kinds)
    slopes: dict[str, Slope] = {}
    if made_by.calibration == "residual":
        kinds, slopes = _calibrated(str(run_dir.file(score_file(arm.name, made_by.name))), kinds)
    canaries = kinds.get("canary")
    if canaries is None or not canaries.usable:
        raise UsageError(
            "secret/coins.json",
            "canaries on both sides of the coin",
            "canaries on one side only",
            "raise candidates.canaries",
        )
    cut = read_counts(run_dir, arm.name, made_by.name)
    primary, claim = made_by.name == plan.suite.primary, _claim(run_dir, arm)
    bound = _bound(canaries, made_by.bound, plan.suite.training.delta) if made_by.bound else None
    fdp = Guesses.of_bound(bound).in_family(bound.delta) if bound and primary else None
    blind = beside.blind.canaries
    scored = _scored(canaries, plan.seed, beside.per(arm).canaries, cut.get("canary", {}))
    Membership(
        arm=arm.name,
        recipe=made_by.name,
        kind=made_by.kind,
        primary=primary,
        signal=made_by.signal,
        unit=plan.suite.training.unit,
        claim=claim,
        canaries=scored if primary and bound else scored.without_curve(),  # no other curve is drawn
        records=_records(beside, arm, kinds.get("record"), cut.get("record", {})),
        bound=bound,
        blind=blind,
        equal_secrets=beside.near.canaries.nonmembers_in_training if beside.near.canaries else 0,
        fitted=fitted or None,
        slopes=slopes or None,
        fdp=fdp,
    ).write(run_dir, file, inputs)


def _scored(examples: Labelled, seed: int, per: Per, cut: dict[str, int]) -> Scored:
    shown = performance(examples, seed)
    return Scored(**vars(shown), per=per, truncated=cut.get("truncated"), unscored=cut.get("unscored"))


def _records(
    beside: baselines.Beside, arm: Arm, examples: Labelled | None, cut: dict[str, int]
) -> Records | None:
    """The same recipe on real units; None where they are on one side of the coin."""
    if examples is None or not examples.usable:
        return None
    part = baselines.part_of(arm)
    return Records(
        **vars(_scored(examples, beside.plan.seed, beside.per(arm).records, cut).without_curve()),
        blind=beside.blind.of(part),
        near_duplicates=_near(examples, beside.near.of(part), beside.alike(part)),
    )


def _near(records: Labelled, counts: Near | None, alike: set[str]) -> NearRecords | None:
    """How many real units have a near-duplicate across the coin, and the AUC without all that have any."""
    if counts is None:
        return None
    near = NearRecords(**vars(counts))
    kept = np.array([name not in alike for name in records.names], dtype=bool)
    rest = Labelled(records.scores[kept], records.members[kept], records.once[kept])
    if not counts.nonmembers_in_training or not rest.usable:
        return near
    area = roc.auc_interval(rest.scores, rest.members, CONFIDENCE)
    return replace(
        near,
        n_without=len(rest.scores),
        auc_without=area.auc,
        auc_without_lower=area.lower,
        auc_without_upper=area.upper,
    )


def _labelled(run_dir: RunDir, unit: str, rows: Sequence[Score]) -> dict[str, Labelled]:
    """Scores with coins, by kind. Raises UsageError where an example has no coin.

    All dialogues of a canary patient are one unit where the claim is about patients.
    """
    coins = load_membership(run_dir)
    units = {c.id: len({unit_of(r, unit) for r in c.records}) for c in load_candidates(run_dir).canaries}
    without = sum(row.example not in coins for row in rows)
    if without:
        raise UsageError(
            "secret/coins.json",
            "a coin for every scored example",
            f"{without} examples without a coin",
            "restore the run's secret/ folder",
        )
    labelled = {}
    for kind in sorted({row.kind for row in rows}):
        values: dict[str, list[float]] = {}
        for row in rows:
            if row.kind == kind:
                values.setdefault(row.example, []).append(row.value)
        scores = np.array(list(values.values()), dtype=np.float64)  # (examples, signals)
        labelled[kind] = Labelled(
            scores[:, 0] if scores.shape[1] == 1 else scores,
            np.array([coins[name] for name in values], dtype=bool),
            np.array([units.get(name, 1) == 1 for name in values], dtype=bool),
            tuple(values),
        )
    return labelled


def _calibrated(file: str, kinds: dict[str, Labelled]) -> tuple[dict[str, Labelled], dict[str, Slope]]:
    """The audited model's scores less what length and reference say of them, and by kind how much that was.
    No coin is read.

    Raises UsageError for infinite scores, which no line goes through.
    """
    joined, slopes = {}, {}
    for kind, examples in kinds.items():
        infinite = int((~np.isfinite(examples.scores).all(axis=1)).sum())
        if infinite:
            raise UsageError(
                file,
                "a model that gives every text a probability",
                f"a score that is infinite for {infinite} examples",
                "train the arm with a lower learning rate",
            )
        found = calibration.residual(*examples.scores.T)
        joined[kind] = replace(examples, scores=found.scores)
        if examples.scores.shape[1] > 2:  # beside score and tokens, a reference's score
            slopes[kind] = Slope(found.slope, found.fitted, found.per_token)
    return joined, slopes


def _combined(
    plan: Plan, made_by: Recipe, kinds: dict[str, Labelled]
) -> tuple[dict[str, Labelled], dict[str, Fitted]]:
    """The scores of a fitted combination, of the examples that it was not fitted on, and by kind what was
    fitted.

    A kind of which too few examples fall on either side of the coin has no scores.
    """
    signal = cast(Combination, made_by.make_signal())
    combined, fitted = {}, {}
    for kind, examples in kinds.items():
        used = combination.lot(examples.names, signal.share, plan.seed)
        scores, members, rest = examples.scores, examples.members, ~used
        if min(int(members[used].sum()), int((~members[used]).sum())) < combination.LEAST:
            continue
        made = combination.fit(scores[used], members[used], signal.penalty)
        place = combination.best(scores[used], members[used], FPR)
        names = tuple(name for name, kept in zip(examples.names, rest, strict=True) if kept)
        combined[kind] = Labelled(made(scores[rest]), members[rest], examples.once[rest], names)
        picked = replace(combined[kind], scores=scores[rest][:, place])
        fitted[kind] = Fitted(
            examples=int(used.sum()),
            weights=dict(zip(signal.recipes, made.weights.tolist(), strict=True)),
            picked=signal.recipes[place],
            picked_on_rest=_area(picked, plan.seed) if picked.usable else None,
        )
    return combined, fitted


def _area(examples: Labelled, seed: int) -> Area:
    """A performance without its curve."""
    shown = {name: value for name, value in vars(performance(examples, seed)).items() if name != "roc"}
    return Area(**shown)


def _bound(canaries: Labelled, bound: recipe.Bound, delta: float) -> Bound:
    """The one-run lower bound with its ceiling, from canaries that occur in one unit alone."""
    guesses = guess_by(canaries.scores[canaries.once], canaries.members[canaries.once], bound)
    return Bound(**guesses.bound(delta), method=bound.method, rule=rule(bound.guess))


def _claim(run_dir: RunDir, arm: Arm) -> Claim | None:
    """What the arm's ledger claims; None for an arm that claims nothing."""
    ledger = ledgers.of_arm(run_dir, arm.name)
    return ledger.claim if ledger.is_private else None
