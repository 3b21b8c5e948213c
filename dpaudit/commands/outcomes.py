"""What the stages of a run found, read back as rows: verdicts, extraction, quality, judging."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from dpaudit import schema
from dpaudit.commands.states import Row, Rows, is_current
from dpaudit.findings import audits
from dpaudit.findings.answers import Answered, Before, Side
from dpaudit.findings.audits import Audit
from dpaudit.findings.counted import many
from dpaudit.findings.finding import Finding
from dpaudit.findings.human import HumanAgreement
from dpaudit.findings.inside import Inside
from dpaudit.findings.judgement import Adjusted, Judgement, Passport, PassRate, WinRate
from dpaudit.findings.membership import Membership, Records, Word
from dpaudit.findings.quality import Comparison, Comparisons, MeasureChange, Measured
from dpaudit.findings.together import Together
from dpaudit.page import losses, measures
from dpaudit.page.formats import show
from dpaudit.page.numbers import silence
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.plan import Plan

F = TypeVar("F", bound=Finding)

TWICE = "asked twice"
UNREPEATED = "not tested: no comparison was asked a second time (a model on this machine would say the same)"


def verdict_rows(run_dir: RunDir, plan: Plan, kind: str = "mia") -> Rows:
    """Per arm and recipe of a kind: the claim, the lower bound with its ceiling, the AUC of canaries and of
    real units; of the primary recipe the verdict on the arm's own claim.
    """
    words = {(a.arm, a.claim.epsilon, a.claim.delta): a.verdict for a in _answers(run_dir)}
    return [
        _verdict_row(audit, words)
        for audit in audits_of(run_dir, plan)
        if isinstance(audit, Membership) and audit.kind == kind
    ]


def _verdict_row(audit: Membership, words: dict[tuple[str, float, float], Word]) -> Row:
    bound, canaries, blind, claim = audit.bound, audit.canaries, audit.blind, audit.claim
    return {
        "arm": audit.arm,
        "recipe": audit.recipe,
        "primary": audit.primary,
        "claim": claim.epsilon if claim else None,
        "epsilon_lower": bound.epsilon_lower if bound else None,
        "ceiling": bound.ceiling if bound else None,
        "notion": bound.notion if bound else None,
        "confidence": bound.confidence if bound else None,
        **_area("auc", canaries),
        **_of_records(audit.records),
        **_area("blind_auc", blind),
        "blind_alarm": blind is not None and blind.alarm,
        "verdict": words.get((audit.arm, claim.epsilon, claim.delta)) if claim and audit.primary else None,
    }


def _area(name: str, part: object) -> Row:
    """An AUC with its limits and, where it tells nothing, the word for why (`auc_says`)."""
    found = schema.plain(part) if part else {"auc": None}
    limits = {f"{name}_{limit}": found.get(f"auc_{limit}") for limit in ("lower", "upper")}
    return {name: found["auc"], **limits, f"{name}_says": silence(found)}


def answer_rows(run_dir: RunDir) -> Rows:
    """Per claim: what each of its two questions found and at which level, and the verdict with its reason."""
    return [
        {
            "arm": answer.arm,
            "claim": answer.claim.epsilon,
            "delta": answer.claim.delta,
            **_asked(answer, "outside"),
            **_asked(answer, "inside"),
            "verdict": answer.verdict,
            "reason": answer.reason,
        }
        for answer in _answers(run_dir)
    ]


def seeds_rows(run_dir: RunDir) -> Rows:
    """Per kind of training that was done with several seeds: what its trainings prove together."""
    together = _together(run_dir)
    return [schema.plain(kind) for kind in together.over_seeds] if together else []


def before_rows(run_dir: RunDir) -> Rows:
    """Per claim and run that this one repeats: the verdict there, beside the verdict of its own page."""
    return [row for a in _answers(run_dir) for row in before_of(a.arm, a.claim.epsilon, a.before)]


def before_of(arm: str, epsilon: float, before: Sequence[Before]) -> Rows:
    head = {"arm": arm, "claim": epsilon}
    return [
        {**head, "run": b.run, "verdict": b.verdict, "own_page": b.own_page, "reason": b.reason}
        for b in before
    ]


def _asked(answer: Answered, side: Side) -> Row:
    """The question of one side that has the smallest p-value: of a chain of trainings there are several."""
    asked = [question for question in answer.questions if question.side == side]
    found = min(asked, key=lambda q: 1.0 if q.p_value is None else q.p_value, default=None)
    return {
        f"{side}_p": found.p_value if found else None,
        f"{side}_level": found.level if found else None,
        f"{side}_power": found.power if found else None,
    }


def _answers(run_dir: RunDir) -> tuple[Answered, ...]:
    together = _together(run_dir)
    return together.answers if together else ()


def _together(run_dir: RunDir) -> Together | None:
    return _if_there(run_dir, Together, "audit/summary.json")


def _of_records(records: Records | None) -> Row:
    """The AUC of real units with its limits, how many they are, and the AUC without those that have
    near-duplicates.
    """
    near, blind = (records.near_duplicates, records.blind) if records else (None, None)
    return {
        "records_n": records.n if records else None,
        **_area("records_auc", records),
        "records_auc_without_near_duplicates": near.auc_without if near else None,
        **_area("records_blind_auc", blind),
    }


def inside_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm with canaries along axes: what the mechanism test and conformance say of its ledger."""
    from dpaudit.stages.audit import inside

    files = [inside.file_of(arm.name) for arm in plan.suite.grid.arms]
    return [_inside_row(finding) for file in files if (finding := _if_there(run_dir, Inside, file))]


def _inside_row(finding: Inside) -> Row:
    test = finding.mechanism_test
    return {
        "arm": finding.arm,
        "claim": finding.claim.epsilon,
        "noise_multiplier": finding.noise_multiplier,
        "noise_upper": schema.plain(test.noise_upper),
        "epsilon_lower": test.epsilon_lower,
        "p_value": test.p_value,
        "notion": test.notion,
        "failed": len(finding.failed),
        "power": finding.power_halved,
    }


def narrowed(rows: Rows, arms: Sequence[str] | None, recipes: Sequence[str] | None) -> Rows:
    """The rows of the named arms and recipes; None names all."""
    asked = (("arm", arms), ("recipe", recipes))
    return [row for row in rows if all(names is None or row[key] in names for key, names in asked)]


def audits_of(run_dir: RunDir, plan: Plan) -> Iterator[Audit]:
    """Every audit that is current: a stale one belongs to an adapter that is gone."""
    for arm in plan.suite.grid.arms:
        for file in sorted(run_dir.file(f"audit/{arm.name}").glob("*.json")):
            relative = f"audit/{arm.name}/{file.name}"
            if is_current(run_dir, relative):
                yield audits.read(run_dir, relative)


def quality_rows(run_dir: RunDir, plan: Plan) -> Rows:
    """Per arm and measure: held-out bits per byte (lower is better), each benchmark's accuracy and its other
    measures, with 95 % limits.
    """
    rows: Rows = []
    for arm in ("base", *(arm.name for arm in plan.suite.grid.arms)):
        measured = _if_there(run_dir, Measured, f"evaluate/{arm}.json")
        if measured is None:
            continue
        bits = measured.quality.bits_per_byte
        if bits:
            limits = {"value": bits.value, "lower": bits.lower, "upper": bits.upper}
            counts = {"items": bits.records, "clusters": bits.clusters}
            left_out = {"left_out": measured.quality.heldout_left_out}
            rows.append({"arm": arm, "measure": "bits per byte", **counts, **left_out, **limits})
        for task in measured.quality.tasks:
            rows.append(task.row(arm))
        rows += [found.row(arm) for found in measured.quality.measures]
    return [schema.plain(row) for row in rows]


def compared_tables(run_dir: RunDir) -> dict[str, Rows]:
    """The adapters of a run against their references on the same items, as the page has them."""
    found = _if_there(run_dir, Comparisons, "evaluate/summary.json")
    return compared(found.pairs, found.measures, found.margin, found.fewest) if found else {}


def compared(
    pairs: Sequence[Comparison], changes: Sequence[MeasureChange], margin: float, fewest: int
) -> dict[str, Rows]:
    """Tables of accuracies and of other measures with the word for each, and one of bits per byte (less is
    better).
    """
    found = {"margin": margin, "fewest": fewest, "pairs": [schema.plain(pair) for pair in pairs]}
    words = losses.in_words(pairs, found)
    tables: dict[str, Rows] = {"compared": [], "compared_measures": [], "compared_text": []}
    for pair, word in zip(pairs, words, strict=True):
        row = {"arm": pair.arm, "against": pair.against, "difference": pair.difference}
        row |= {"lower": pair.lower, "upper": pair.upper, "clusters": pair.clusters}
        if pair.measure == "accuracy":
            tables["compared"].append({**row, "task": pair.task, "items": pair.items, "said": word})
        elif pair.measure == "bits_per_byte":
            tables["compared_text"].append({**row, "records": pair.items})
    for change, (name, word) in zip(changes, measures.in_words(changes), strict=True):
        row = {"arm": change.arm, "against": change.against, "task": change.task, "measure": name}
        limits = {"difference": change.difference, "lower": change.lower, "upper": change.upper}
        counts = {"items": change.items, "clusters": change.clusters}
        tables["compared_measures"].append({**row, **limits, **counts, "said": word})
    return tables


def judge_summary(run_dir: RunDir) -> Row:
    """The judge's fitness and its win rates, or why it is unfit and none, and what a server's replies cost;
    empty where nothing was judged.
    """
    judgement = _if_there(run_dir, Judgement, "judge/summary.json")
    return {} if judgement is None else judged(judgement)


def judged(judgement: Judgement) -> Row:
    """As `judge_summary`, of a judgement."""
    named = {"rubric": judgement.rubric, "fit": judgement.fit}
    if judgement.kind == "endpoint" and judgement.asked is not None:
        named["asked"] = schema.plain(judgement.asked)
    if not judgement.fit:
        return named | {"reason": judgement.reason}
    told = {"trends": schema.plain(judgement.trends), "not_compared": schema.plain(judgement.not_compared)}
    limit = {"max_new_tokens": judgement.max_new_tokens, "limit_from": judgement.limit_from or None}
    common = judgement.common_cautions()
    pairs = [_pair(pair, common) for pair in judgement.pairs]
    scores = {"mean_scores": [_scores(pair) for pair in judgement.pairs if pair.scores]}
    above = {"of_every_rate": "; ".join(common)} if common else {}
    return named | limit | above | {"pairs": pairs} | scores | told


def _scores(pair: WinRate) -> Row:
    """Mean scores by weighted criteria, in words."""
    found = pair.scores
    assert found is not None
    limits = [show(found.lower, "signed_three_down"), show(found.upper, "signed_three_up")]
    around = "" if found.lower is None else f" [{', '.join(limits)}]"
    told = f"{show(found.arm, 'three')} and {show(found.against, 'three')}, difference "
    told += show(found.difference, "signed_three") + around
    return {"arm": pair.arm, "against": pair.against, "told": told}


def _pair(pair: WinRate, common: Sequence[str]) -> Row:
    """A win rate as it is found, and what stands beside it in one value each; `common` stands above all."""
    right, row = pair.correct, dict(schema.plain(pair))
    return row | {
        **_adjusted("corrected", pair.corrected),
        **_adjusted("equal_length", pair.equal_length),
        "right": f"{right.arm_right} and {right.against_right} of {right.known}" if right else "not known",
        "caution": "; ".join(line for line in pair.cautions if line not in common),
    }


def _adjusted(name: str, found: Adjusted) -> Row:
    return {f"{name}_{key}": value for key, value in schema.plain(found).items()}


def passport_rows(found: Passport) -> Row:
    """Why a judge is not fit, and per kind of control how many verdicts were right."""
    kinds = found.faults | found.twins | ({"order swap": found.swap} if found.swap else {})
    kinds |= {TWICE: found.repeat} if found.repeat else {}
    rows = [
        {"control": kind, "tested": True, **schema.plain(rate), "outcome": _outcome(kind, rate, found)}
        for kind, rate in kinds.items()
    ]
    rows += [
        {"control": kind, "tested": False, "controls": count, "outcome": "not tested"}
        for kind, count in found.untested.items()
    ]
    told = ("reasons", "injected", "accuracy", "first", "longer", "unscored_share")
    steady = {} if found.repeat else {"asked_twice": UNREPEATED}
    return {"fit": found.fit, "controls": rows, **steady} | {
        name: schema.plain(getattr(found, name)) for name in told
    }


def _outcome(kind: str, rate: PassRate, found: Passport) -> str:
    if kind == TWICE:
        return "counts neither way"
    return "passed" if rate.lower >= found.minimum else "failed"


def people(found: HumanAgreement | None) -> Row:
    """How far the judge agrees with people; empty where nobody was asked."""
    if found is None:
        return {}
    told = schema.plain(found)
    del told["rubric"], told["is_few"]
    words = {}
    if found.kappa is None:
        words["kappa_note"] = "no kappa: one and the same verdict was given to everything"
    if found.is_few:
        words["note"] = f"too few: {many(found.prompts, 'prompt')}; below 30 kappa tells little"
    return {"people": [{key: value for key, value in told.items() if key != "counts"}], **words} | {
        "people_counts": [{"people": said, **of} for said, of in told["counts"].items()]
    }


def _if_there(run_dir: RunDir, cls: type[F], relative: str) -> F | None:
    return cls.read(run_dir, relative) if run_dir.file(relative).is_file() else None
