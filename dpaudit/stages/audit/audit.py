"""Stage audit: joins scores with the coins; bounds, curves and verdicts. Nothing written here names a text or
a coin.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dpaudit.data.corpus import unit_of
from dpaudit.errors import UsageError
from dpaudit.evidence import control
from dpaudit.evidence.guesses import Guesses, guess
from dpaudit.evidence.verdict import conclude
from dpaudit.privacy import ledger as ledgers
from dpaudit.privacy.claim import Claim
from dpaudit.signals import combination, recipe
from dpaudit.signals.recipe import Bound, Guess, Kind, Recipe
from dpaudit.signals.text import Combination
from dpaudit.stages.attack import preference
from dpaudit.stages.attack.attack import applicable, trained_arms
from dpaudit.stages.attack.scores import (
    Score,
    inputs_of,
    read_counts,
    read_scores,
    score_file,
    scores_are_current,
)
from dpaudit.stages.audit import baselines, extracted, inside
from dpaudit.stages.audit.baselines import BLIND
from dpaudit.stages.integrity import custody
from dpaudit.stages.integrity.trained import score_inputs
from dpaudit.stages.prepare.candidates import load_candidates, load_membership
from dpaudit.stages.prepare.prepare import check_prepared
from dpaudit.stats import roc
from dpaudit.storage.exclusive import alone
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

SUMMARY = "audit/summary.json"
CONFIDENCE = 0.95  # of intervals; a bound's confidence is its recipe's
FPR = 0.01


@dataclass(frozen=True, eq=False)
class Labelled:
    """The scores of one kind of example with the coins: arrays of shape (examples,)."""

    scores: NDArray[np.float64]
    members: NDArray[np.bool_]
    once: NDArray[np.bool_]  # is in one unit, if in any: only these support a bound
    names: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether there are both members and controls."""
        return bool(self.members.any() and not self.members.all())


@alone("audit")
def run(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    kind: Kind,
    arms: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
) -> None:
    """Writes audit/ARM/RECIPE.json for every trained arm, and for kind `mia` the summary with one verdict a
    claim.

    Where training had canaries along axes, what they show goes to audit/inside/ARM.json.

    Raises UsageError where scores are missing or out of date, or the coins name fewer examples than were
    scored.
    """
    chosen = recipe.load_all(kind, recipes)
    _require_frozen(plan, chosen)
    custody.require(run_dir, plan)
    check_prepared(run_dir)
    named = trained_arms(run_dir, plan, progress, arms)
    if kind == "preference":
        named = preference.of_pairs(named, arms)
    quiet = Progress(quiet=True)  # the attack has said what was left out
    pairs = [(arm, r) for arm in named for r in applicable(run_dir, plan, arm, chosen, quiet, recipes)]
    for arm, made_by in pairs:
        _require_scores(run_dir, plan, arm, made_by)
    beside = baselines.Beside(run_dir, plan, progress)
    if kind == "extract":
        for arm, made_by in pairs:
            extracted.audit(beside, arm, made_by)
        beside.tell(named, "extraction")
        return
    if kind == "mia":
        inside.run(run_dir, plan, named, progress)
    with progress.task("audit: bounds and verdicts", total=len(pairs) + 1) as advance:
        beside.tell(
            named, "canaries"
        )  # works them out where that was not done: they are inputs of every audit
        advance(1)
        for arm, made_by in pairs:
            _audit_membership(run_dir, plan, arm, made_by, beside)
            advance(1)
        _summarise(run_dir, plan, trained_arms(run_dir, plan, Progress(quiet=True)))


def audit_file(arm: str, name: str) -> str:
    return f"audit/{arm}/{name}.json"


def audit_inputs(arm: str, name: str) -> list[str]:
    return [*score_inputs(arm), score_file(arm, name)]


def guess_by(scores: NDArray[np.float64], members: NDArray[np.bool_], rule: Bound) -> Guesses:
    """The guesses of a recipe's rule on arrays of shape (canaries,); their number alone sets how many."""
    return guess(scores, members, rule.guess.sides(len(scores)), rule.confidence)


def _require_frozen(plan: Plan, recipes: Sequence[Recipe]) -> None:
    """Raises UsageError where the recipe that carries the verdicts is not what it was before training."""
    for made_by in recipes:
        if made_by.name == plan.suite.primary and plan.primary_digest not in (None, made_by.digest):
            raise UsageError(
                f"attacks/{made_by.name}.yaml",
                "the recipe as it was before training, since it carries the verdicts",
                "a changed one",
                "restore it, or train a new run under the changed one",
            )


def _require_scores(run_dir: RunDir, plan: Plan, arm: Arm, made_by: Recipe) -> None:
    command = f"dpaudit attack {made_by.kind}"
    run_dir.require_current(
        score_file(arm.name, made_by.name), inputs_of(run_dir, plan, arm.name, made_by), command
    )
    if not scores_are_current(run_dir, plan, arm.name, made_by):
        raise UsageError(
            str(run_dir.file(score_file(arm.name, made_by.name))),
            f"scores under the present attacks/{made_by.name}.yaml",
            "an earlier recipe's",
            f"type `{command}` again",
        )


# ---- membership inference


def _audit_membership(
    run_dir: RunDir, plan: Plan, arm: Arm, made_by: Recipe, beside: baselines.Beside
) -> None:
    file, inputs = audit_file(arm.name, made_by.name), [*audit_inputs(arm.name, made_by.name), BLIND]
    if run_dir.is_current(file, inputs):
        return
    kinds = _labelled(run_dir, plan.suite.training.unit, read_scores(run_dir, arm.name, made_by.name))
    fitted: dict[str, Any] = {}
    if made_by.signal == "combination":
        kinds, fitted = _combined(plan, made_by, kinds)
    cut = read_counts(run_dir, arm.name, made_by.name)
    canaries, records = kinds.get("canary"), kinds.get("record")
    if canaries is None or not canaries.usable:
        raise UsageError(
            "secret/coins.json",
            "canaries on both sides of the coin",
            "one side only",
            "raise candidates.canaries",
        )
    per = beside.per(arm)
    claim, primary = _claim(run_dir, arm), made_by.name == plan.suite.primary
    bound = _bound(canaries, made_by.bound, plan.suite.training.delta) if made_by.bound else None
    found = {
        "arm": arm.name,
        "recipe": made_by.name,
        "kind": made_by.kind,
        "primary": primary,
        "signal": made_by.signal,
        "claim": asdict(claim) if claim else None,
        "canaries": {**performance(canaries, plan.seed), **cut.get("canary", {}), "per": per["canaries"]},
        "records": None,
        "bound": bound,
        "unit": plan.suite.training.unit,
        "blind": beside.blind["canaries"],
        "equal_secrets": beside.near["canaries"]["nonmembers_in_training"],
        "verdict": _verdict(claim, bound, primary, control.broken({"blind": beside.blind["canaries"]})),
        "fitted": fitted or None,
    }
    part = baselines.part_of(arm)
    if records is not None and records.usable:
        found["records"] = {
            **performance(records, plan.seed),
            **cut.get("record", {}),
            "per": per["records"],
            "blind": beside.blind[part],
            **_near(records, beside.near[part], beside.alike(part)),
        }
    run_dir.write_json(file, found, inputs)


def _near(records: Labelled, counts: dict[str, Any] | None, alike: set[str]) -> dict[str, Any]:
    """How many real units have a near-duplicate across the coin, and the AUC without all that have any."""
    if not counts or not counts["nonmembers_in_training"]:
        return {"near_duplicates": counts}
    kept = np.array([name not in alike for name in records.names], dtype=bool)
    rest = Labelled(records.scores[kept], records.members[kept], records.once[kept])
    if not rest.usable:
        return {"near_duplicates": counts}
    found = roc.auc_interval(rest.scores, rest.members, CONFIDENCE)
    told = {
        "n_without": len(rest.scores),
        "auc_without": found.auc,
        "auc_without_lower": found.lower,
        "auc_without_upper": found.upper,
    }
    return {"near_duplicates": counts | told}


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
            f"none for {without}",
            "restore the run's secret/ folder",
        )
    found = {}
    for kind in sorted({row.kind for row in rows}):
        values: dict[str, list[float]] = {}
        for row in rows:
            if row.kind == kind:
                values.setdefault(row.example, []).append(row.value)
        scores = np.array(list(values.values()), dtype=np.float64)  # (examples, signals)
        found[kind] = Labelled(
            scores[:, 0] if scores.shape[1] == 1 else scores,
            np.array([coins[name] for name in values], dtype=bool),
            np.array([units.get(name, 1) == 1 for name in values], dtype=bool),
            tuple(values),
        )
    return found


def _combined(
    plan: Plan, made_by: Recipe, kinds: dict[str, Labelled]
) -> tuple[dict[str, Labelled], dict[str, Any]]:
    """The scores of a fitted combination, of the examples that it was not fitted on, and by kind what was
    fitted.

    A kind of which too few examples fall on either side of the coin has no scores.
    """
    signal = cast(Combination, made_by.make_signal())
    found, told = {}, {}
    for kind, examples in kinds.items():
        used = combination.lot(examples.names, signal.share, plan.seed)
        scores, members, rest = examples.scores, examples.members, ~used
        if min(int(members[used].sum()), int((~members[used]).sum())) < combination.LEAST:
            continue
        made = combination.fit(scores[used], members[used], signal.penalty)
        place = combination.best(scores[used], members[used], FPR)
        names = tuple(name for name, kept in zip(examples.names, rest, strict=True) if kept)
        found[kind] = Labelled(made(scores[rest]), members[rest], examples.once[rest], names)
        told[kind] = {
            "examples": int(used.sum()),
            "weights": dict(zip(signal.recipes, made.weights.tolist(), strict=True)),
            "picked": signal.recipes[place],
        }
        if found[kind].usable:
            picked = replace(found[kind], scores=scores[rest][:, place])
            told[kind] |= {"picked_on_rest": _short(performance(picked, plan.seed))}
    return found, told


def _short(found: dict[str, Any]) -> dict[str, Any]:
    """A performance without its curve."""
    return {key: value for key, value in found.items() if key != "roc"}


def performance(examples: Labelled, seed: int) -> dict[str, Any]:
    """AUC, ROC curve with pointwise intervals of its true positive rate, and the rate at 1 % false
    positives.
    """
    area = roc.auc_interval(examples.scores, examples.members, CONFIDENCE)
    curve = roc.roc_curve(examples.scores, examples.members)
    members = int(examples.members.sum())
    tpr = [_rate_interval(round(rate * members), members) for rate in curve.tpr]
    low = roc.tpr_at_fpr(examples.scores, examples.members, FPR, CONFIDENCE, seed)
    return {
        "n": len(examples.scores),
        "members": members,
        "auc": area.auc,
        "auc_lower": area.lower,
        "auc_upper": area.upper,
        "confidence": CONFIDENCE,
        "roc": {
            "fpr": curve.fpr.tolist(),
            "tpr": curve.tpr.tolist(),
            "tpr_lower": [interval.lower for interval in tpr],
            "tpr_upper": [interval.upper for interval in tpr],
        },
        # On the curve itself, for any number of controls; its threshold is chosen on the same controls.
        "tpr_at_fpr": {**asdict(replace(low, threshold=None)), "tpr_on_curve": _tpr_on_curve(curve)},
    }


def _tpr_on_curve(curve: roc.Roc) -> float:
    return float(curve.tpr[curve.fpr <= FPR].max())


@cache
def _rate_interval(successes: int, trials: int) -> roc.Interval:
    return roc.proportion_interval(successes, trials, CONFIDENCE)


def _bound(canaries: Labelled, bound: Bound, delta: float) -> dict[str, Any]:
    """The one-run lower bound with its ceiling, from canaries that occur in one unit alone."""
    guesses = guess_by(canaries.scores[canaries.once], canaries.members[canaries.once], bound)
    return {**guesses.bound(delta), "method": bound.method, "rule": rule(bound.guess)}


def rule(guess: Guess) -> str:
    """The guess rule in words."""
    if guess.side == "both":
        return (
            f"the {guess.fraction / 2:.0%} of canaries with the highest scores are called members and the "
            f"{guess.fraction / 2:.0%} with the lowest are not, no other is guessed; a tie counts against "
            f"the bound"
        )
    return (
        f"the {guess.fraction:.0%} of canaries with the highest scores are called members, no other "
        "is guessed; a tie counts against the bound"
    )


def _claim(run_dir: RunDir, arm: Arm) -> Claim | None:
    """What the arm's ledger claims; None for an arm that claims nothing."""
    ledger = ledgers.of_arm(run_dir, arm.name)
    return ledger.claim if ledger.is_private else None


def _verdict(
    claim: Claim | None, bound: dict[str, Any] | None, primary: bool, broken: str | None
) -> dict[str, Any]:
    if not primary or bound is None:
        return {"verdict": None, "reason": "another recipe was named before training to carry the verdict"}
    if claim is None:
        return {"verdict": None, "reason": "the arm claims nothing: see the positive control"}
    return asdict(conclude(claim, Guesses.of_bound(bound), broken))


# ---- one verdict a claim


def _summarise(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> None:
    """Writes the summary: a row an arm, and apart from them what the audit says of the arm without noise.

    `arms` are all that are trained: whoever gets the private ones gets those that were not audited, too.
    """
    files = {arm.name: audit_file(arm.name, plan.suite.primary) for arm in arms}
    present = [arm for arm in arms if run_dir.file(files[arm.name]).is_file()]
    inputs = [files[arm.name] for arm in present] + [ledgers.file_of(arm.name) for arm in arms]
    if not present or run_dir.is_current(SUMMARY, inputs):
        return
    audits = {arm: run_dir.read_json(files[arm.name]) for arm in present}
    claimed = {arm: Claim(**audit["claim"]) for arm, audit in audits.items() if audit["claim"]}
    summary = {
        "primary": plan.suite.primary,
        "family": f"each claim is tested once, by the recipe {plan.suite.primary} that was named before "
        f"training",
        "family_error": min(1.0, round(sum(1 - audits[arm]["bound"]["confidence"] for arm in claimed), 12)),
        "rows": [control.row(audit) for audit in audits.values()],
        "claims": [control.behind(arm, claim, audits) for arm, claim in claimed.items()],
        "positive_control": control.of_claims(audits, list(claimed.values())),
        **_released_together(run_dir, plan, [arm for arm in arms if arm.private]),
        "caveat": plan.caveat,
    }
    run_dir.write_json(SUMMARY, summary, inputs)


def _released_together(run_dir: RunDir, plan: Plan, arms: Sequence[Arm]) -> dict[str, Any]:
    """The epsilon of releasing all private arms, which learnt from the same units, at the run's delta.

    Each arm's own steps count once, and so does what the run's start had spent, which the ledgers of the arms
    that start from no other arm name.
    """
    if not arms:
        return {"composed_epsilon": None, "composed_delta": None}
    from dpaudit.privacy import accountants

    training = plan.suite.training
    kept = {arm: ledgers.of_arm(run_dir, arm.name) for arm in arms}
    first = [ledger for arm, ledger in kept.items() if plan.suite.grid.start_of(arm) is None]
    outside = first[0].mechanisms[:-1] if first else ()
    own = [ledger.acting for ledger in kept.values() if ledger.mechanism]
    spent = accountants.compose([*outside, *own], training.delta, training.relation)
    return {"composed_epsilon": spent, "composed_delta": training.delta}
