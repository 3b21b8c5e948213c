"""From a report to its public edition, by a positive list: what is not copied here is withheld.

A figure is public where it comes from the claim, from declared settings, or from what epsilon covers: the
weights of a private adapter, asked about planted rows or about items from outside the private data. The same
figure of an adapter without noise is a function of the records, with nothing between.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from dpaudit.findings.answers import Answered, Question
from dpaudit.findings.inside import Inside
from dpaudit.findings.public import (
    PublicAdapter,
    PublicAnswer,
    PublicAttack,
    PublicCheck,
    PublicClaim,
    PublicInside,
    PublicQuestion,
    PublicReport,
    PublicRun,
    PublicSecrets,
    PublicTask,
)
from dpaudit.findings.report import Adapter, Report
from dpaudit.privacy.claim import rounded_up

EDITION = (
    "Public edition. It holds no figure that was computed from private records without noise. What it "
    "withholds is listed below; silence about it is neither good news nor bad."
)
WITHHELD = (
    "every figure of an adapter that epsilon does not cover (trained without noise, with noise that can be "
    "drawn again, under a claim about labels alone, or begun from an adapter without a ledger)",
    "numbers of patients, records, rows and pairs: read, held out, cut, left out or trained on",
    "values that a look at the private data may have set: max_length, population, sampling rate, batch, "
    "steps, axes",
    "attacks on real records and patients, attacks beside the primary one, baselines from texts alone, and "
    "near-duplicates",
    "personal fields of real records",
    "held-out bits per byte, preference figures on private pairs, and figures of a judge",
    "accuracy on benchmarks whose items came in a file of the caller's own, and items that stand in the "
    "training text",
    "comparisons between adapters, curves of training, counts of clipped units, time and memory",
    "what a question from outside would have caught, because that was measured on an adapter without noise",
    "descriptions and paths, because a person wrote them",
)


@dataclass(frozen=True)
class Outside:
    """What is known to rest on nothing private besides the model that is asked."""

    tasks: Collection[str]  # benchmarks whose items are public
    recipes: Collection[str]  # attacks that ask the audited model and its base alone


def of(report: Report, outside: Outside) -> PublicReport:
    """The public edition. Its release words are those of the page."""
    covered = {arm.arm for arm in report.arms if is_covered(report, arm)}
    planted = covered if not report.run.corpus_words else set[str]()
    together = report.together
    return PublicReport(
        edition=EDITION,
        withheld=WITHHELD,
        run=_run(report),
        rule=report.rule,
        release=report.release,
        adapters=tuple(_adapter(report, arm) for arm in report.arms),
        answers=tuple(_answer(report, answer, planted, outside) for answer in together.answers)
        if together
        else (),
        claims=tuple(
            PublicClaim(claim.arm, claim.claim, claim.delta, claim.mark, claim.date, claim.verdict)
            for claim in report.claims
        ),
        composed_epsilon=rounded_up(together.composed_epsilon)
        if together and together.composed_epsilon is not None
        else None,
        attacks=tuple(_attacks(report, planted, outside)),
        secrets=tuple(_secrets(report, planted)),
        inside=tuple(_inside(found) for found in report.inside if found.arm in planted),
        quality=tuple(_quality(report, {"base", *covered}, outside)),
        stages={name: stage.state for name, stage in vars(report.stages).items()},
    )


def is_covered(report: Report, arm: Adapter) -> bool:
    """Whether epsilon covers all that an adapter learned from, so that what is computed from its weights and
    from nothing else private may be told.
    """
    return (
        arm.private
        and arm.privacy.claim.unit != "label"
        and not arm.privacy.reproducible_noise
        and report.run.insecure_seed is None
        and not report.run.assumed_public
    )


def _run(report: Report) -> PublicRun:
    run, base = report.run, report.identity.base
    return PublicRun(
        name=run.name,
        base=run.model if run.model.startswith("builtin:") else PurePath(run.model).name,
        base_licence=base.licence,
        base_weights=base.weights,
        unit=run.unit,
        relation=run.relation,
        delta=run.delta,
        versions=run.versions,
        custody=run.custody,
        commitment=run.commitment,
        declared=report.identity.declared,
    )


def _adapter(report: Report, arm: Adapter) -> PublicAdapter:
    spent, covered = arm.privacy, is_covered(report, arm)
    promises = report.together.claims if report.together else ()
    limits = [row.guess_right_at_most for row in promises if row.arm == arm.arm]
    is_told = covered and not spent.population_assumed
    return PublicAdapter(
        arm=arm.arm,
        method=arm.method,
        loss=arm.loss,
        private=arm.private,
        covered=covered,
        epsilon=spent.claim.epsilon,
        epsilon_spent=rounded_up(spent.epsilon_pld) if arm.private else None,
        guess_right_at_most=limits[0] if limits and covered else None,
        noise_multiplier=spent.mechanism.noise_multiplier if is_told else None,
        clip=spent.mechanism.clip if covered else None,
        adapter_sha256=arm.adapter_sha256 if covered else None,
    )


# ---- claims


def _answer(report: Report, answer: Answered, planted: Collection[str], outside: Outside) -> PublicAnswer:
    claim = answer.claim
    return PublicAnswer(
        arm=answer.arm,
        epsilon=claim.epsilon,
        delta=claim.delta,
        unit=claim.unit,
        relation=claim.relation,
        verdict=answer.verdict,
        reason=in_words(answer),
        questions=tuple(
            _question(question, question.arm in planted and _is_told(report, question, outside))
            for question in answer.questions
        ),
    )


def _is_told(report: Report, question: Question, outside: Outside) -> bool:
    return question.side == "inside" or report.run.primary in outside.recipes


def _question(question: Question, is_told: bool) -> PublicQuestion:
    return PublicQuestion(
        side=question.side,
        arm=question.arm,
        refutes=question.refutes,
        shown_able=question.is_shown_able,
        violation=question.violation,
        p_value=question.p_value if is_told else None,
        epsilon_lower=question.epsilon_lower if is_told else None,
        ceiling=question.ceiling if is_told else None,
        power=question.power if is_told and question.side == "inside" else None,
    )


def in_words(answer: Answered) -> str:
    """Why a claim has its verdict, without a figure."""
    if answer.verdict == "refuted":
        return "; ".join(_refuting(answer)) or "a run that this one repeats is refuted"
    if answer.verdict == "not refuted":
        able = " and ".join(dict.fromkeys(f"from {q.side}" for q in answer.questions if q.is_shown_able))
        told = f"nothing contradicts the claim, and a question {able} was shown able to"
        more = "; not every training that it rests on was looked at from inside" if answer.unseen else ""
        return told + more
    return "no question was shown able to find a false claim"


def _refuting(answer: Answered) -> Iterator[str]:
    if answer.failed:
        yield "a check of its training or of its ledger failed"
    for side in dict.fromkeys(question.side for question in answer.questions if question.refutes):
        yield f"a question from {side} refutes it"


# ---- figures


def _attacks(report: Report, planted: Collection[str], outside: Outside) -> Iterator[PublicAttack]:
    for found in report.audits:
        if found.arm in planted and found.primary and found.recipe in outside.recipes and not found.fitted:
            seen = found.canaries
            yield PublicAttack(
                found.arm,
                found.recipe,
                seen.n,
                seen.members,
                seen.auc,
                seen.auc_lower,
                seen.auc_upper,
                seen.confidence,
            )


def _secrets(report: Report, planted: Collection[str]) -> Iterator[PublicSecrets]:
    for found in report.extraction:
        if found.arm in planted:
            yield PublicSecrets(
                found.arm,
                found.recipe,
                found.planted,
                found.planted_found,
                found.found_upper,
                found.controls,
                found.controls_found,
                found.confidence,
            )


def _inside(found: Inside) -> PublicInside:
    test = found.mechanism_test
    return PublicInside(
        arm=found.arm,
        notion=test.notion,
        epsilon_lower=test.epsilon_lower,
        p_value=test.p_value,
        power_halved=found.power_halved,
        power_third=found.power_third,
        checks=tuple(PublicCheck(check.name, check.outcome) for check in found.conformance),
    )


def _quality(report: Report, models: Collection[str], outside: Outside) -> Iterator[PublicTask]:
    for model in report.quality:
        for task in model.tasks if model.arm in models else ():
            if task.task in outside.tasks:
                yield PublicTask(
                    model.arm,
                    task.task,
                    task.accuracy,
                    task.accuracy_lower,
                    task.accuracy_upper,
                    task.items,
                    task.chance,
                )
