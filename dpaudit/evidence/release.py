"""From what was found of an adapter to the word for its release. Outside evidence alone never says "may"."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpaudit.evidence.family import AXES_LEAST, SHARE_MOST
from dpaudit.evidence.verdict import share
from dpaudit.findings.answers import Answered, Question
from dpaudit.findings.extraction import Extraction
from dpaudit.findings.release import MAY, MUST_NOT, NOT_ESTABLISHED, Released, ReleaseWord, Rule
from dpaudit.findings.report import Adapter, Report
from dpaudit.privacy.claim import rounded_up

SECRETS = 13  # none of so many out: at most a quarter of such secrets would come out (95 %, two-sided)
AGAIN = "train again with a mechanism that runs as claimed, and audit that adapter"


@dataclass(frozen=True)
class Reason:
    """Why an adapter may not be released, and what would change that."""

    word: ReleaseWord
    why: str
    next_step: str


def decide(report: Report, rule: Rule) -> tuple[Released, ...]:
    """The word for each adapter of a run, in the order of its arms.

    *Must not*: no noise, noise that can be drawn again, a refuted claim, a planted secret that came out.
    *May*: nothing of these; the adapter's claim is not refuted, and was shown able to be from inside, for
    every training that it rests on; its epsilon is at most the rule's; planted secrets were looked for and
    none came out; epsilon covers all that it was trained on. All else is *not established*: what was not
    looked at is no good news. Quality is no part of the rule: held-out private records would make it a tuning
    step.
    """
    return tuple(_released(report, rule, arm) for arm in report.arms)


def _released(report: Report, rule: Rule, arm: Adapter) -> Released:
    reasons = [*_forbidding(report, arm), *(_open(report, rule, arm) if arm.private else ())]
    if not reasons:
        return Released(arm.arm, MAY, _may(report, arm), _after(report), (), tuple(_cautions(report, arm)))
    first, *others = reasons
    return Released(
        arm.arm,
        first.word,
        first.why,
        first.next_step,
        tuple(reason.why for reason in others),
        tuple(_cautions(report, arm)),
    )


# ---- what forbids it


def _forbidding(report: Report, arm: Adapter) -> Iterator[Reason]:
    if not arm.private:
        yield Reason(
            MUST_NOT,
            "it was trained without noise, so nothing protects the people in its data",
            "release a private adapter in its place",
        )
        return
    if arm.privacy.reproducible_noise or report.run.insecure_seed is not None:
        yield Reason(
            MUST_NOT,
            "whoever knows the seed of this run can draw its noise again and subtract it",
            "train again without --insecure-seed",
        )
    refuted = [claim for claim in _answers(report, arm) if claim.verdict == "refuted"]
    told = {claim.claim.epsilon for claim in refuted}
    told |= {claim.claim for claim in report.claims if claim.arm == arm.arm and claim.verdict == "refuted"}
    if told:
        claims = " and ".join(f"{epsilon:g}" for epsilon in sorted(told))
        yield Reason(MUST_NOT, f"its claim of epsilon {claims} is refuted", AGAIN)
    yield from _refuted_before(report, arm)
    out = [found for found in _extraction(report, arm) if found.planted_found]
    if out:
        worst = max(out, key=lambda found: found.planted_found)
        yield Reason(
            MUST_NOT,
            f"{worst.planted_found} of {worst.planted} planted secrets came out of it word for word",
            "train with a smaller epsilon, or on data in which no secret stands several times",
        )

    elif sampled := _sampled(report, arm):
        yield Reason(
            MUST_NOT,
            f"planted secrets come out of it within {sampled:,} sampled answers, more often than others",
            "train with a smaller epsilon, or on data in which no secret stands several times",
        )


def _refuted_before(report: Report, arm: Adapter) -> Iterator[Reason]:
    """An adapter that continues from another rests on that training too."""
    by_name = {other.arm: other for other in report.arms}
    start, seen = by_name.get(arm.starts_from), {arm.arm}
    while start is not None and start.arm not in seen:
        seen.add(start.arm)
        if start.private and any(claim.verdict == "refuted" for claim in _answers(report, start)):
            yield Reason(MUST_NOT, f"it continues from {start.arm}, whose claim is refuted", AGAIN)
        start = by_name.get(start.starts_from)


def _sampled(report: Report, arm: Adapter) -> int | None:
    """The fewest sampled answers within which planted secrets come out more often than those that were kept
    out, both intervals apart; None where they do not.
    """
    apart = [
        rate.queries
        for found in report.discoverable
        if found.arm == arm.arm
        for rate in found.rates
        if rate.found_lower > rate.controls_upper
    ]
    return min(apart, default=None)


# ---- what is not established


def _open(report: Report, rule: Rule, arm: Adapter) -> Iterator[Reason]:
    yield from _unread(report, arm)
    yield from _untested(report, arm)
    if arm.privacy.claim.epsilon > rule.most_epsilon:
        yield Reason(
            NOT_ESTABLISHED,
            f"a claim of epsilon {arm.privacy.claim.epsilon:g} promises little by itself: the rule asks for "
            f"at most {rule.most_epsilon:g}",
            f"train for epsilon {rule.most_epsilon:g} or less",
        )
    yield from _beyond(report, arm)
    yield from _unsought(report, arm)
    yield from _uncovered(report, arm)


def _beyond(report: Report, arm: Adapter) -> Iterator[Reason]:
    """A recipe that carries no verdict and still proves more than the claim, corrected over all recipes."""
    for found in report.recipes:
        if found.arm == arm.arm and found.above_claim:
            yield Reason(
                NOT_ESTABLISHED,
                f"an attack that carries no verdict ({', '.join(found.above_claim)}) proves more than its "
                f"claim, with all attacks that were tried allowed for",
                "name that attack as the primary one (primary: NAME) in a new run, and audit that adapter",
            )


def _unsought(report: Report, arm: Adapter) -> Iterator[Reason]:
    """Why nothing that came out says nothing."""
    found, extract = _extraction(report, arm), report.stages.extraction
    without_noise = {other.arm for other in report.arms if not other.private}
    shown = any(row.planted_found for row in report.extraction if row.arm in without_noise)
    if not found:
        is_done = extract.state == "done"
        more = "plant some (candidates.extraction) in another run"
        why = "whether planted secrets come out of it was not tried"
        yield Reason(NOT_ESTABLISHED, why, more if is_done else f"type {extract.command}")
    elif min(row.planted for row in found) < SECRETS:
        yield Reason(
            NOT_ESTABLISHED,
            f"fewer than {SECRETS} planted secrets were looked for",
            "raise candidates.extraction in another run",
        )
    elif not shown:
        yield Reason(
            NOT_ESTABLISHED,
            "the search for planted secrets found none in an adapter without noise either",
            "keep the arm without noise, and plant secrets more often (candidates.extraction_repetitions)",
        )


def _unread(report: Report, arm: Adapter) -> Iterator[Reason]:
    """What this run has lost or does not show as it is now, and what another page says of it."""
    mine = (f"audit/{arm.arm}/", f"audit/inside/{arm.arm}.", "audit/summary.", "audit/blind.")
    if any(file.startswith(mine) for file in report.stages.audit.stale):
        yield Reason(NOT_ESTABLISHED, "results of it are out of date", f"type {report.stages.audit.command}")
    blind = [found.blind for found in report.audits if found.arm == arm.arm]
    blind += [found.blind for found in report.extraction if found.arm == arm.arm]
    if any(told is not None and told.alarm for told in blind):
        yield Reason(
            NOT_ESTABLISHED,
            "the texts alone tell which canaries went in, so that no coin can be trusted",
            "train again from a corpus that nobody has seen",
        )
    if report.gone:
        yield Reason(NOT_ESTABLISHED, "results of this run are gone", f"type {report.gone[0].command}")
    if report.records_lost:
        yield Reason(
            NOT_ESTABLISHED,
            "a record of this run was lost, and a claim or a rule in it with it",
            "restore records and custody from a copy, or train again",
        )
    if report.run.repeated_by:
        yield Reason(
            NOT_ESTABLISHED,
            "this run was repeated, and both are tested in one family on the page of the repeat",
            f"read the page of {report.run.repeated_by[-1]}",
        )


def _untested(report: Report, arm: Adapter) -> Iterator[Reason]:
    audit = report.stages.audit
    answer = _own(report, arm)
    if answer is None:
        if audit.state == "not applicable":
            yield Reason(
                NOT_ESTABLISHED,
                "a claim about labels alone is not tested here",
                "claim a unit, and train for it",
            )
        else:
            yield Reason(NOT_ESTABLISHED, "its claim was not tested", f"type {audit.command}")
    elif answer.verdict == "no power":
        yield Reason(
            NOT_ESTABLISHED,
            "the audit could not have seen a false claim",
            "raise candidates.canaries and candidates.gradient, and train again"
            if _inside(answer)
            else _to_see_inside(report),
        )
    elif answer.verdict == "not refuted":
        yield from _seen_inside(report, answer)


def _uncovered(report: Report, arm: Adapter) -> Iterator[Reason]:
    """What the claim does not count."""
    if arm.privacy.claim.delta * max(arm.privacy.population, 1) >= 1:
        yield Reason(
            NOT_ESTABLISHED,
            "its delta is not below one over the number of units, which may give one of them away",
            "train with a smaller training.delta",
        )
    together = report.together
    for kind in together.over_seeds if together else ():
        if arm.arm in kind.arms and (kind.epsilon_lower or 0) > arm.privacy.claim.epsilon:
            yield Reason(
                NOT_ESTABLISHED,
                "the trainings of its kind prove together that one of them spends more than is claimed",
                AGAIN,
            )
    if report.run.random_weights:
        yield Reason(
            NOT_ESTABLISHED,
            "its base has random weights, with which memory and time are measured and nothing else",
            "name a base with --model",
        )
    if report.run.assumed_public:
        yield Reason(
            NOT_ESTABLISHED,
            "epsilon does not cover what the adapter that it began with was trained on",
            "begin with an adapter that has a ledger, or with the base",
        )
    if report.run.corpus_words:
        yield Reason(
            NOT_ESTABLISHED,
            "the canaries' secrets are words of the records, which epsilon does not cover",
            "choose another family of canaries",
        )


def _to_see_inside(report: Report) -> str:
    least, unit = AXES_LEAST * SHARE_MOST, report.run.unit
    return f"train with candidates.gradient: auto, which needs {least} {unit}s or more"


def _seen_inside(report: Report, answer: Answered) -> Iterator[Reason]:
    if not any(question.side == "inside" and question.is_shown_able for question in answer.questions):
        yield Reason(
            NOT_ESTABLISHED,
            "its claim was tested from outside alone, which sees no noise at all and nothing less",
            "raise candidates.gradient, and train again" if _inside(answer) else _to_see_inside(report),
        )
    elif answer.unseen:
        yield Reason(
            NOT_ESTABLISHED,
            "not every training that it rests on was looked at from inside",
            "set candidates.gradient to auto in every run that it rests on, and train again",
        )
    elif weak := [q for q in answer.questions if q.side == "inside" and not q.is_shown_able]:
        yield Reason(
            NOT_ESTABLISHED,
            f"of the training of {weak[0].arm} nothing could be told from inside",
            "raise candidates.gradient, and train again",
        )


# ---- words


def _may(report: Report, arm: Adapter) -> str:
    answer = _own(report, arm)
    assert answer is not None  # else a reason stands against it
    weakest = min(_inside(answer), key=lambda question: question.power or 0)
    found = min(_extraction(report, arm), key=lambda found: found.planted)
    return (
        f"its claim of epsilon {answer.claim.epsilon:g} is not refuted, {weakest.violation} would have "
        f"been caught with probability {share(weakest.power)}, and none of {found.planted} planted secrets "
        f"came out"
    )


def _after(report: Report) -> str:
    private = [arm for arm in report.arms if arm.private]
    alone = "this adapter alone, " if len(private) > 1 or report.run.same_data else ""
    return f"release {alone}with its model card, which states the claim and its unit"


def _cautions(report: Report, arm: Adapter) -> Iterator[str]:
    together = report.together
    private = [other.arm for other in report.arms if other.private]
    if arm.private and len(private) > 1:
        composed = together.composed_epsilon if together else None
        faced = f"epsilon {rounded_up(composed):.2f}" if composed else "more"
        yield f"whoever receives all {len(private)} private adapters of this run faces {faced}"
    if arm.private and report.run.same_data:
        yield "other runs learned from the same data, and each adapter of theirs is a further release"
    if arm.trainings > 1:
        yield (
            f"it was trained {arm.trainings} times on the same records, and its epsilon counts the last "
            f"training alone"
        )
    if arm.private and arm.privacy.population_assumed:
        yield "its number of training units was counted from the data and used as if it were public"
    if not report.run.custody.startswith("hashes and seals agree"):
        yield "the seals of this run were not checked, because their key is gone"
    if report.run.model.startswith("builtin:"):
        invented = " on invented patients" if report.run.data.startswith("builtin:") else ""
        yield f"it is a teaching model{invented}: the word shows the method"


def _answers(report: Report, arm: Adapter) -> Sequence[Answered]:
    together = report.together
    return [answer for answer in together.answers if answer.arm == arm.arm] if together else []


def _own(report: Report, arm: Adapter) -> Answered | None:
    """The answer to the claim that the adapter was trained for."""
    own = {a.claim for a in report.audits if a.arm == arm.arm and a.primary and a.claim}
    return next((a for a in _answers(report, arm) if a.claim in own), None)


def _inside(answer: Answered) -> list[Question]:
    return [question for question in answer.questions if question.side == "inside"]


def _extraction(report: Report, arm: Adapter) -> list[Extraction]:
    return [found for found in report.extraction if found.arm == arm.arm and found.planted]
