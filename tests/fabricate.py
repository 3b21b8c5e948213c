"""A run directory as the stages would leave it, made up in a moment: for tests of what reads finished
runs.
"""

import atexit
import json
import math
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit.evidence.guesses import Guesses, guess
from dpaudit.findings.baselines import Blind
from dpaudit.findings.extraction import (
    Attempts,
    Counts,
    Decoding,
    Discoverable,
    Exposure,
    Extract,
    Extraction,
    Extrapolated,
    PersonalFields,
    Ranks,
    RanksOfLevel,
    Rate,
    Sampled,
    Tally,
    TallyOfKind,
    UnitTally,
)
from dpaudit.findings.human import HumanAgreement
from dpaudit.findings.judge_tries import JudgeTries, JudgeTry
from dpaudit.findings.judgement import (
    Accuracy,
    Adjusted,
    Asked,
    Correctness,
    Example,
    Injected,
    Judgement,
    NotCompared,
    Passport,
    PassRate,
    Scores,
    ShownAnswer,
    WinRate,
    WinTrend,
)
from dpaudit.findings.membership import (
    Bound,
    Curve,
    Membership,
    Per,
    Records,
    Scored,
    Slope,
    TprAtFpr,
)
from dpaudit.findings.quality import (
    Bits,
    Comparison,
    Comparisons,
    Degraded,
    Group,
    HeldOut,
    Item,
    Margin,
    Measured,
    Quality,
    Rung,
    TaskFigures,
    Trend,
)
from dpaudit.privacy.claim import Claim
from dpaudit.stages.audit import audit as auditing
from dpaudit.stages.integrity import custody as chain
from dpaudit.stats import roc
from dpaudit.storage import custody, notes, run_store
from dpaudit.storage.rundir import RunDir
from dpaudit.storage.seals import seal_key
from dpaudit.storage.sidecars import write_sealed_lines
from dpaudit.suite import declarations
from dpaudit.suite.grid import Arm, Grid
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Schedule, Suite, Training

ASKED_WHEN = ("2026-01-02T03:04:05Z", "2026-01-02T04:05:06Z")  # the first and last reply of the judge
ALL = ("train", "audit", "extraction", "evaluate", "judge")
SECRET = "amber-quill-seven-lantern"  # stands in the corpus of a fabricated run, and must stand nowhere else
TEXT = "Patient Wilhelmina Achterberg was prescribed something that no page may repeat"
CANARIES, PLANTED, SPACE_BITS = 500, 32, 20.0
TASKS = {"clinic_dialogue": 0.25, "clinic_short": 0.25}

# arm: (separation of canary scores, sigma, accuracies, bits per byte, planted secrets found)
WORLD = {
    "base": (0.0, 0.0, (0.23, 0.22), 0.842, 0),
    "sft-inf": (2.6, 0.0, (0.99, 0.76), 0.016, 30),
    "sft-eps8": (0.34, 0.92, (0.97, 0.68), 0.050, 1),
    "sft-eps4": (0.25, 1.35, (0.95, 0.64), 0.105, 0),
    "sft-eps1": (0.08, 3.77, (0.71, 0.46), 0.552, 0),
    "dpo-sigmoid-eps8": (0.28, 0.92, (0.66, 0.44), 0.902, 0),
}


def run(
    runs: Path,
    stages: tuple[str, ...] = ALL,
    *,
    name: str = "clinic",
    insecure_seed: int | None = None,
    judge_fit: bool = True,
    plan: Plan | None = None,
) -> tuple[RunDir, Plan]:
    """A run with the outputs of `stages`, its arms sft-inf, -eps8, -eps4, -eps1 and dpo-sigmoid-eps8."""
    plan = plan_named(name, insecure_seed) if plan is None else plan
    key = (stages, repr(plan), judge_fit)
    if key not in _MADE:
        _MADE[key] = _made(stages, plan, judge_fit)
    made = _MADE[key]
    shutil.copytree(made.path, runs / made.name, dirs_exist_ok=True)
    return RunDir(runs / made.name), plan


_MADE: dict[tuple[tuple[str, ...], str, bool], RunDir] = {}  # each test has a copy


def _made(stages: tuple[str, ...], plan: Plan, judge_fit: bool) -> RunDir:
    runs = Path(tempfile.mkdtemp(prefix="fabricated-"))
    atexit.register(shutil.rmtree, runs, ignore_errors=True)
    run_dir = run_store.open_or_create(plan.to_json(), "fabricated", runs)
    declarations.keep(run_dir, plan)
    corpus(run_dir)
    begin(run_dir)
    for arm in plan.suite.grid.arms:
        if "train" in stages:
            train(run_dir, plan, arm)
        if "audit" in stages:
            for index, recipe in enumerate(("calibrated", "loss", "min_k_pp", "zlib")):
                audit(run_dir, plan, arm, recipe, shrink=1 - 0.2 * index)
        if "extraction" in stages:
            extraction(run_dir, arm)
    if "audit" in stages:
        summary(run_dir, plan)
    if "evaluate" in stages:
        evaluate(run_dir, plan)
    if "judge" in stages:
        judge(run_dir, plan, judge_fit)
    return run_dir


def plan_named(name: str, insecure_seed: int | None = None) -> Plan:
    schedules = {"private": Schedule(512, 60, 0.01), "nonprivate": Schedule(64, 480, 0.005)}
    training = Training(**schedules, dpo_private=Schedule(512, 60, 0.01), clip=0.05)
    grid = Grid((8.0, 4.0, 1.0), dpo=("sigmoid",), dpo_epsilons=(8.0,))
    about = "A synthetic clinic: what a claim of 1, 4 and 8 is worth, and what it cost."
    made = Suite(name, training, description=about, grid=grid)
    return Plan(made, seed=0, insecure_seed=insecure_seed, versions={"dpaudit": "0.1.0", "torch": "2.13.0"})


def train(run_dir: RunDir, plan: Plan, arm: Arm) -> None:
    training = plan.suite.training
    schedule = training.private if arm.private else training.nonprivate
    claimed: float | str = arm.epsilon if arm.private else "inf"
    ledger = {
        "arm": {"method": arm.method, "loss": arm.loss, "epsilon": claimed, "seed": arm.seed},
        "claim": {"epsilon": claimed, "delta": 1e-5, "unit": training.unit, "relation": training.relation},
        "mechanism": {
            "noise_multiplier": WORLD[arm.name][1],
            "sampling_rate": schedule.batch / 4000,
            "steps": schedule.steps,
            "clip": training.clip if arm.private else None,
        },
        "expected_batch": schedule.batch,
        "population": 4000,
        "population_assumed": True,
        "epsilon_pld": arm.epsilon * 0.9996 if arm.private else "inf",
        "epsilon_rdp": arm.epsilon * 1.083 if arm.private else "inf",
        "sampler": "poisson",
        "steps_done": schedule.steps,
        "reproducible_noise": plan.insecure_seed is not None,
        "trainable_parameters": 39_168,
    }
    measured = {
        "seconds": 46.2 if arm.private else 71.9,
        "device": "processor",
        "devices": 1,
        "peak_memory_mb": 1214.3,
        "longest": 51,
        "tokens": 1_350_123,
        "tokens_per_second": 28_944.1,
        "trainable_parameters": 39_168,
        "sequences_truncated": 0 if arm.method == "sft" else 3,
        "guards": ["loss finite", *(["noise scale as claimed"] if arm.private else [])],
    }
    folder = f"train/{arm.name}"
    run_dir.write_json(f"{folder}/privacy.json", ledger, ["plan.json"])
    run_dir.write_lines(f"{folder}/steps.jsonl", map(_step(arm), range(schedule.steps)))
    run_dir.write_json(f"{folder}/train.json", measured, ["plan.json"])
    run_dir.file(f"{folder}/adapter").mkdir(exist_ok=True)
    run_dir.file(f"{folder}/adapter/adapter_model.safetensors").write_bytes(arm.name.encode())
    run_dir.file(f"{folder}/adapter/adapter_config.json").write_text("{}")
    bind(run_dir, arm.name)


def begin(run_dir: RunDir) -> None:
    """The notes of a run that has its coins."""
    planned = [
        arm.name for arm in Plan.from_json(run_dir.read_json("plan.json"), "plan.json").suite.grid.arms
    ]
    notes.begin(run_dir, planned)
    if not run_dir.file(custody.RELEASE).is_file():
        run_dir.write_json(custody.RELEASE, {"commitment": None})


def bind(run_dir: RunDir, *arms: str) -> None:
    """Makes the files of arms (without any: of all) those that training wrote, as they are now."""
    begin(run_dir)
    for arm in arms or [folder.name for folder in run_dir.file("train").glob("*")]:
        folder = run_dir.file(f"train/{arm}")
        (folder / "manifest.json").unlink(missing_ok=True)
        chain.write_arm(run_dir, folder, arm, chain.INPUTS, "0" * 64)
        weights = folder / "adapter" / chain.ADAPTER
        notes.note_trained(run_dir, arm, custody.file_digest(weights))


def rewrite(run_dir: RunDir, relative: str, data: dict[str, Any]) -> None:
    """Writes other findings, inputs and all, as if a stage had found them."""
    text = json.dumps(custody.stamped(data, relative, seal_key(run_dir.path)))
    run_dir.file(relative).write_text(text, encoding="utf-8")
    if relative.startswith("train/"):
        bind(run_dir, relative.split("/")[1])


BLIND = Blind(0.511, 0.46, 0.562, 0.66, alarm=False, units=300, finding="silent")
PER = Per("record")


def audit(run_dir: RunDir, plan: Plan, arm: Arm, recipe: str, shrink: float = 1.0) -> None:
    primary, bound = recipe == plan.suite.primary, _bound(arm.name, shrink)
    records = Records(**vars(_performance(arm.name, shrink / 3, 300)) | {"blind": BLIND})
    found = Membership(
        arm=arm.name,
        recipe=recipe,
        kind="mia",
        primary=primary,
        signal=recipe,
        unit="patient",
        claim=Claim(arm.epsilon, 1e-5, "patient", "add_or_remove") if arm.private else None,
        canaries=_performance(arm.name, shrink, CANARIES),
        records=records,
        bound=bound,
        blind=BLIND,
        equal_secrets=0,
        fitted=None,
        slopes={"canary": Slope(0.46, 0.46, -0.2)} if primary else None,
        fdp=Guesses.of_bound(bound).in_family(1e-5) if primary else None,
    )
    found.write(run_dir, f"audit/{arm.name}/{recipe}.json", ["plan.json"])


def summary(run_dir: RunDir, plan: Plan) -> None:
    """What audit says of all arms together, the control held against every claim among it."""
    found = auditing.together(run_dir, plan, plan.suite.grid.arms)
    found = replace(found, composed_epsilon=11.8, composed_delta=1e-5)
    found.write(run_dir, "audit/summary.json", ["plan.json"])


def extraction(run_dir: RunDir, arm: Arm) -> None:
    counts = _counts(WORLD[arm.name][4])
    exposure = _exposure(arm)
    stretched = Extrapolated(
        **vars(replace(exposure, extrapolated=True)),
        beyond_samples_planted=counts.planted_found,
        beyond_samples_controls=0,
        capped_planted=counts.planted_found,
        capped_controls=0,
        samples=2000,
    )
    ranks = Ranks(
        **vars(counts),
        rank_first_planted=counts.planted_found,
        rank_first_controls=0,
        exposure=exposure,
        exposure_extrapolated=stretched,
    )
    level = replace(ranks, exposure_extrapolated=None)
    levels = tuple(RanksOfLevel(**vars(level), repetitions=copies) for copies in (1, 4, 16))
    head = _head(arm, "extraction", "exact_rank")
    found = Extraction(**vars(head), **vars(ranks), by_repetitions=levels)
    found.write(run_dir, f"audit/{arm.name}/extraction.json", ["plan.json"])
    discoverable(run_dir, arm, counts)
    personal(run_dir, arm)


def _head(arm: Arm, recipe: str, signal: str) -> Extract:
    return Extract(arm.name, recipe, "extract", signal, 0.95, blind=None, near_duplicates=None)


def _exposure(arm: Arm) -> Exposure:
    drawn = np.sort(np.random.default_rng(len(arm.name)).exponential(1.44, (2, PLANTED)))
    lift = np.where(np.arange(PLANTED) < WORLD[arm.name][4], SPACE_BITS, 4.0 * WORLD[arm.name][0])
    planted = np.minimum(drawn[0] + lift, SPACE_BITS)
    medians = float(np.median(planted)), float(np.median(drawn[1]))
    return Exposure(False, tuple(planted.tolist()), tuple(drawn[1].tolist()), SPACE_BITS, *medians)


def _counts(came_out: int) -> Counts:
    interval, by_chance = (roc.proportion_interval(out, PLANTED, 0.95) for out in (came_out, 0))
    return Counts(
        planted=PLANTED,
        planted_found=came_out,
        found_rate=came_out / PLANTED,
        found_lower=interval.lower,
        found_upper=interval.upper,
        controls=PLANTED,
        controls_found=0,
        controls_lower=0.0,
        controls_upper=by_chance.upper,
    )


def discoverable(run_dir: RunDir, arm: Arm, counts: Counts) -> None:
    sampled = Sampled(
        p=0.5,
        decoding=Decoding(temperature=1.0, top_k=40, top_p=1.0),
        rates=tuple(Rate(**vars(counts), queries=queries) for queries in (1, 100, 10_000)),
        queries_needed=Attempts(planted=(3.0, 2.5e11), controls=()),
        fewest_planted=3.0,
        fewest_controls=None,
        never_planted=2,
        never_controls=PLANTED,
    )
    head = _head(arm, "discoverable", "discoverable")
    found = Discoverable(**vars(head), **vars(sampled), by_repetitions=())
    found.write(run_dir, f"audit/{arm.name}/discoverable.json", ["plan.json"])


def personal(run_dir: RunDir, arm: Arm) -> None:
    came_out = WORLD[arm.name][4]
    head = _head(arm, "pii", "pii_fields")
    kinds = [TallyOfKind(kind, _tally(came_out), _tally(0)) for kind in ("phone", "email")]
    found = PersonalFields(
        **vars(head),
        unit="patient",
        trained_on="answers",
        members=_units(came_out),
        non_members=_units(0),
        by_kind=tuple(kinds),
    )
    found.write(run_dir, f"audit/{arm.name}/pii.json", ["plan.json"])


def _tally(out: int) -> Tally:
    low, high = roc.proportion_interval(out, 40, 0.95)
    return Tally(40, out, out / 40, low, high, mean_logprob=-20.5, given=7, untrained=12, cut=0)


def _units(out: int) -> UnitTally:
    concerned = min(out, 35)
    low, high = roc.proportion_interval(concerned, 35, 0.95)
    return UnitTally(
        **vars(_tally(out)),
        units=150,
        units_tried=35,
        units_out=concerned,
        units_lower=low,
        units_upper=high,
    )


def evaluate(run_dir: RunDir, plan: Plan) -> None:
    for name, (_, _, accuracies, bits, _) in WORLD.items():
        tasks = [
            _accuracy(task, accuracy, chance)
            for (task, chance), accuracy in zip(TASKS.items(), accuracies, strict=True)
        ]
        figures = Quality(name, tuple(tasks), Bits(bits, bits * 0.94, bits * 1.07, 300, 120), 0)
        items = {task: (Item("item-1", 1, 0.3, "c1", 0.2, (-0.1, -0.4), "p"),) for task in TASKS}
        found = Measured(figures, items, {task: {} for task in TASKS}, (HeldOut("r1", 40.1, 80),), {}, {})
        found.write(run_dir, f"evaluate/{name}.json", ["plan.json"])
    pairs = [row for arm in plan.suite.grid.arms for row in _comparisons(arm.name)]
    trend = Trend(
        task=None,
        measure="bits_per_byte",
        arms=("sft-inf", "sft-eps8", "sft-eps4", "sft-eps1"),
        means=(0.016, 0.05, 0.105, 0.552),
        direction="rising",
        ordered=True,
        p_value=1e-9,
        clusters=120,
        rungs=(
            Rung("sft-eps8", "sft-inf", 0.034, 0.03, 0.04, 1e-4),
            Rung("sft-eps4", "sft-eps8", 0.055, 0.05, 0.06, 1e-4),
            Rung("sft-eps1", "sft-eps4", 0.447, 0.4, 0.5, 1e-4),
        ),
    )
    controls = [
        Degraded(task, "sft-inf", factor, 0.5, -loss, -loss - 0.03, -loss + 0.03, 0.001, told, 300, 24)
        for task, told in zip(TASKS, (True, False), strict=False)
        for factor, loss in ((0.5, 0.1), (0.0, 0.2))
    ]
    found = Comparisons(0.05, False, False, 59, len(pairs), 0.95, tuple(pairs), (trend,), tuple(controls))
    found.write(run_dir, "evaluate/summary.json", ["plan.json"])


def judge(run_dir: RunDir, plan: Plan, fit: bool) -> None:
    rates = (0.81, 0.74, 0.87) if fit else (None, None, None)
    nothing = Adjusted(absent="nothing was judged")
    pairs = [
        WinRate(
            arm=arm.name,
            against="base",
            role="the base model",
            prompts=100,
            facts=24,
            win_rate=rates[0],
            lower=rates[1],
            upper=rates[2],
            wins=78,
            ties=6,
            losses=16,
            both_right=2,
            both_wrong=3,
            unscored=0,
            win_rate_worst=rates[0],
            win_rate_best=rates[0],
            corrected=Adjusted(0.82, 0.75, 0.88) if fit else nothing,
            equal_length=Adjusted(absent="one side is longer almost everywhere") if fit else nothing,
            correct=Correctness(100, 60, 20, 35) if fit else None,
            arm_cut=0.0 if fit else None,
            against_cut=0.09 if fit else None,
            scores=Scores(0.4, 0.0, 0.5, 0.3, 0.7, ("base",)) if fit and arm.method == "sft" else None,
            cautions=("the prompts are of 24 facts, fewer than 30",) if fit else (),
        )
        for arm in plan.suite.grid.arms
    ]
    ladder = tuple(arm.name for arm in plan.suite.grid.arms if arm.method == "sft")
    trends = (
        WinTrend(ladder, "base", (0.81,) * len(ladder), 24, 0.4),
        WinTrend(("one", "two"), absent="it takes from 3 to 8 adapters"),
    )
    shown = [
        ShownAnswer("base", "Rest.", False),
        ShownAnswer("sft-inf", None, True, "it holds a secret that was planted"),
    ]
    example = Example("What helps with Harrow fever?", "Take tramab 5 mg.", tuple(shown))
    good = PassRate(40, 40, 80, 80, 0, 1.0, 0.928)
    low = good if fit else PassRate(40, 40, 80, 44, 1, 0.55, 0.41)
    passport = Passport(
        rubric="likelihood",
        fit=fit,
        reasons=()
        if fit
        else ("negated warning: 31 of 60 right on 60 distinct controls, lower limit 0.38 below 0.75",),
        minimum=0.75,
        confidence=0.95,
        least=40,
        faults={"wrong drug": good, "negated warning": low, "cut short": good, "empty answer": good},
        twins={"identical twin": good, "padded twin": good, "padded fault": good, "confident fault": good},
        untested={"swapped dose": 3},
        swap=good,
        repeat=None,
        injected=Injected(18, 17, 0, 34, 0, 0.02, 1.0, ()),
        accuracy=Accuracy(0.98, 0.94, 0.99, 320, 40, 61.5),
        first=0.51,
        longer=0.02,
        unscored=1,
        comparisons=676,
        unscored_share=1 / 676,
    )
    found = Judgement(
        rubric="likelihood",
        title="Likelihood under the embedded reference",
        kind="likelihood",
        model="builtin:tiny with builtin:judge",
        fit=fit,
        reason=None
        if fit
        else "negated warning: 31 of 60 right on 60 distinct controls, lower limit 0.38 below 0.75",
        passport=passport,
        pairs=tuple(pairs),
        asked=Asked(1080, 1080, 0, 0, 1080, 0, {"score": 1080}, {}, {}, *ASKED_WHEN),
        trends=trends if fit else (),
        not_compared=(NotCompared("dpo-sigmoid-eps8", "its start", "sft-inf is not trained"),),
        max_new_tokens=40,
        limit_from="as the suite declares",
        examples=(example,) if fit else (),
        notes=("not tested, fewer than 40 controls each: swapped dose (3 controls)",),
    )
    failed = ("injected: 5 of 20 instructions in an answer obeyed (plea)",)
    JudgeTries(
        (
            JudgeTry("endpoint", "endpoint", "m", ASKED_WHEN[0], "d", False, failed, (), 9, *ASKED_WHEN, {}),
            JudgeTry(
                "likelihood",
                "likelihood",
                "builtin:tiny",
                ASKED_WHEN[1],
                "e",
                fit,
                (),
                (),
                9,
                *ASKED_WHEN,
                {},
            ),
        )
    ).write(run_dir, "judge/tries.json")
    found.write(run_dir, "judge/summary.json", ["plan.json"])
    write_sealed_lines(run_dir, "judge/answers.jsonl", [{"arm": "sft-inf", "answer": TEXT}])


def people(run_dir: RunDir, kappa: float | None = 0.62) -> None:
    """What `judge validate --human` leaves."""
    limits = (None, None) if kappa is None else (0.41, 0.83)
    counts = {"arm": {"arm": 12, "against": 2, "tie": 1}, "against": {"arm": 1, "against": 4, "tie": 0}}
    counts["tie"] = {"arm": 1, "against": 0, "tie": 3}
    shares = (19 / 24, 0.58, 0.92)
    found = HumanAgreement("likelihood", kappa, *limits, *shares, 24, 22, 100, 1, True, counts)
    found.write(run_dir, "judge/human.json", ["judge/summary.json"])


def corpus(run_dir: RunDir) -> None:
    run_dir.write_json(
        "corpus/manifest.json",
        {"units": 4000, "counts": {"gradient": 0}, "files": {chain.COINS: "0" * 32}},
        ["plan.json"],
    )
    run_dir.write_lines("corpus/candidates.jsonl", [{"kind": "canary", "secret": SECRET, "text": TEXT}])


def _step(arm: Arm) -> Any:
    end = 0.1 if arm.private else 0.02

    def row(step: int) -> dict[str, Any]:
        wobble = 0.05 * math.sin(step * 1.7)
        loss = None if step == 7 and arm.private else end + 2.4 * math.exp(-step / 14) + wobble
        clipped = min(1.0, 0.95 - 0.4 * math.exp(-step / 9)) if arm.private else 0.0
        return {
            "step": step,
            "units": 500,
            "clipped_share": clipped,
            "loss": loss,
            "learning_rate": 0.01,
            "seconds": 0.8,
        }

    return row


@cache
def _scores(arm: str, shrink: float, count: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(int.from_bytes(arm.encode()[-4:], "big"))
    members = draw.random(count) < 0.5
    return draw.normal(size=count) + members * WORLD[arm][0] * shrink, members


@cache
def _bound(arm: str, shrink: float) -> Bound:
    scores, members = _scores(arm, shrink, CANARIES)
    rule = (
        "the 10% of canaries with the highest scores are called members, no other is guessed; a tie "
        "counts against the bound"
    )
    made = guess(scores, members, (CANARIES // 10, 0), 0.95).bound(1e-5)
    return Bound(**made, method="one-run", rule=rule)


@cache
def _performance(arm: str, shrink: float, count: int) -> Scored:
    scores, members = _scores(arm, shrink, count)
    curve, area = roc.roc_curve(scores, members), roc.auc_interval(scores, members, 0.95)
    inside = int(members.sum())
    band = [_rate(round(rate * inside), inside) for rate in curve.tpr]
    low = TprAtFpr(
        measurable=False,
        fpr_target=0.01,
        controls=count - inside,
        members=inside,
        tpr=None,
        tpr_lower=None,
        tpr_upper=None,
        fpr_measured=None,
        fpr_upper=None,
        tpr_on_curve=float(curve.tpr[curve.fpr <= 0.01].max()),
    )
    some = sorted({*range(0, len(band), 8), len(band) - 1})  # enough to draw
    drawn = Curve(
        tuple(curve.fpr[some].tolist()),
        tuple(curve.tpr[some].tolist()),
        tuple(float(band[at].lower) for at in some),
        tuple(float(band[at].upper) for at in some),
    )
    return Scored(count, inside, area.auc, area.lower, area.upper, 0.95, low, drawn, PER)


@cache
def _rate(successes: int, trials: int) -> roc.Interval:
    return roc.proportion_interval(successes, trials, 0.95)


def _accuracy(task: str, accuracy: float, chance: float) -> TaskFigures:
    lower, upper = roc.proportion_interval(round(300 * accuracy), 300, 0.95)
    return TaskFigures(
        task=task,
        accuracy=accuracy,
        accuracy_lower=lower,
        accuracy_upper=upper,
        items=300,
        clusters=300,
        log_odds=4 * (accuracy - 0.3),
        brier=1 - accuracy,
        chance=chance,
        above_chance=lower > chance,
    )


def _comparisons(arm: str) -> list[Comparison]:
    rows: list[Comparison] = []
    for against in ("sft-inf", "base"):
        if against == arm:
            continue
        for index, task in enumerate(TASKS):
            gap = WORLD[arm][2][index] - WORLD[against][2][index]
            right = _comparison(arm, against, task, "accuracy", gap, 0.04)
            word, reason = _said(gap)
            margin = Margin(
                word,
                reason,
                0.03,
                0.01,
                0.04,
                0.2,
                0.4,
                0.031,
                12,
                9,
                40,
                False,
                Group("language: Chinese", 5, 90, 24, gap - 0.02, gap - 0.09, gap + 0.05),
            )
            shown = replace(right, margin=margin)
            rows += [shown, _comparison(arm, against, task, "log_odds", gap, 0.04)]
        gap = WORLD[arm][3] - WORLD[against][3]
        rows.append(_comparison(arm, against, None, "bits_per_byte", gap, 0.02))
    return rows


def _comparison(
    arm: str, against: str, task: str | None, measure: Any, gap: float, within: float
) -> Comparison:
    return Comparison(arm, against, task, measure, gap, gap - within, gap + within, 0.01, 300, 24)


def _said(gap: float) -> tuple[Any, Any]:
    """The word and the reason of a fabricated difference, so that a page has all three words."""
    if gap < -0.08:
        return "worse", None
    return ("no worse than the margin", None) if gap > -0.02 else ("cannot tell", "neither is shown")
