"""The word for a release: what forbids it, what leaves it open, and that nothing is allowed by silence."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fabricate
import pytest

from dpaudit.evidence import release
from dpaudit.findings.answers import Answered, Question
from dpaudit.findings.declared import ClaimOfRun
from dpaudit.findings.release import MAY, MUST_NOT, NOT_ESTABLISHED, Released, Rule
from dpaudit.findings.report import Adapter, Gone, Lost, Report
from dpaudit.findings.together import Together
from dpaudit.stages import report

RULE = Rule(3.0, True, "declared", "2026-01-01T00:00:00Z")
ARM = "sft-eps1"
INSIDE = Question("inside", ARM, 0.6, 0.025, None, None, "half of the noise", 0.93, None, None)
OUTSIDE = Question("outside", ARM, 0.7, 0.05, 0.1, 4.0, "no noise at all", 0.99, "sft-inf", None)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A whole run; the claim of `sft-eps1` was seen from inside, and nothing came out of that arm."""
    run_dir, plan = fabricate.run(tmp_path_factory.mktemp("runs"))
    made = report.assemble(report.Reading(run_dir), plan)
    extraction = tuple(
        replace(row, planted_found=0, found_rate=0.0) if row.arm == ARM else row for row in made.extraction
    )
    return answering(
        replace(made, extraction=extraction), questions=(OUTSIDE, INSIDE), verdict="not refuted", unseen=()
    )


def answering(of: Report, **changes: Any) -> Report:
    assert of.together is not None
    answers = tuple(
        replace(answer, **changes) if answer.arm == ARM else answer for answer in of.together.answers
    )
    return replace(of, together=replace(of.together, answers=answers))


def with_arm(of: Report, change: Callable[[Adapter], Adapter]) -> Report:
    return replace(of, arms=tuple(change(arm) if arm.arm == ARM else arm for arm in of.arms))


def word(of: Report, arm: str = ARM, rule: Rule = RULE) -> Released:
    return next(row for row in release.decide(of, rule) if row.arm == arm)


def test_an_adapter_of_which_all_is_known_may_be_released(found: Report) -> None:
    row = word(found)
    assert (row.word, row.others) == (MAY, ())
    assert "half of the noise would have been caught with probability 0.93" in row.why
    assert "planted secrets came out" in row.why and "ε" not in row.why
    assert any("private adapters of this run" in caution for caution in row.cautions)


def test_what_all_adapters_spend_together_is_rounded_up_as_on_the_page(found: Report) -> None:
    assert found.together is not None
    faced = replace(found, together=replace(found.together, composed_epsilon=11.3612))
    assert any(caution.endswith("faces epsilon 11.37") for caution in word(faced).cautions)


def test_an_adapter_without_noise_must_not_be_released_whatever_else_is_known(found: Report) -> None:
    for name in (arm.arm for arm in found.arms if not arm.private):
        assert word(found, name).word == MUST_NOT


def declared_refuted(of: Report) -> Report:
    claim = ClaimOfRun(ARM, 0.5, 1e-5, "added later", "2026-01-01T00:00:00Z", verdict="refuted", reason="x")
    return replace(of, claims=(claim,))


def reproducible(arm: Adapter) -> Adapter:
    return replace(arm, privacy=replace(arm.privacy, reproducible_noise=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda of: answering(of, verdict="refuted"), "its claim of epsilon 1 is refuted"),
        (declared_refuted, "its claim of epsilon 0.5 is refuted"),
        (lambda of: with_arm(of, reproducible), "can draw its noise again"),
        (lambda of: replace(of, run=replace(of.run, insecure_seed=3)), "can draw its noise again"),
        (
            lambda of: replace(of, extraction=tuple(replace(row, planted_found=1) for row in of.extraction)),
            "1 of 32 planted secrets came out of it word for word",
        ),
    ],
)
def test_what_forbids_a_release(found: Report, change: Callable[[Report], Report], said: str) -> None:
    row = word(change(found))
    assert row.word == MUST_NOT and said in row.why, row


def without_answers(of: Report) -> Report:
    assert isinstance(of.together, Together)
    return replace(of, together=replace(of.together, answers=()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_answers, "its claim was not tested"),
        (lambda of: replace(of, together=None), "its claim was not tested"),
        (lambda of: answering(of, verdict="no power", questions=()), "could not have seen a false claim"),
        (lambda of: answering(of, questions=(OUTSIDE,)), "tested from outside alone"),
        (
            lambda of: answering(of, questions=(OUTSIDE, replace(INSIDE, power=0.5))),
            "tested from outside alone",
        ),
        (lambda of: answering(of, unseen=("the run before",)), "not every training that it rests on"),
        (
            lambda of: answering(of, questions=(INSIDE, replace(INSIDE, arm="before", power=None))),
            "of the training of before nothing could be told",
        ),
        (lambda of: replace(of, extraction=()), "whether planted secrets come out of it was not tried"),
        (lambda of: replace(of, run=replace(of.run, assumed_public=True)), "does not cover what the adapter"),
        (lambda of: replace(of, run=replace(of.run, corpus_words=True)), "words of the records"),
        (lambda of: replace(of, run=replace(of.run, random_weights=True)), "random weights"),
        (
            lambda of: replace(of, records_lost=(Lost("claims", 2, "2026-01-01T00:00:00Z"),)),
            "a record of this run was lost",
        ),
        (lambda of: replace(of, run=replace(of.run, repeated_by=("again",))), "this run was repeated"),
        (
            lambda of: replace(of, gone=(Gone("audit/x.json", "dpaudit attack mia"),)),
            "results of this run are gone",
        ),
    ],
)
def test_what_was_not_looked_at_is_not_established(
    found: Report, change: Callable[[Report], Report], said: str
) -> None:
    row = word(change(found))
    assert row.word == NOT_ESTABLISHED and said in row.why and row.next_step, row


def from_start(of: Report) -> Report:
    """The arm continues from one whose claim is refuted."""
    made = with_arm(of, lambda arm: replace(arm, starts_from="sft-eps4"))
    assert made.together is not None
    answers = tuple(
        replace(answer, verdict="refuted") if answer.arm == "sft-eps4" else answer
        for answer in made.together.answers
    )
    return replace(made, together=replace(made.together, answers=answers))


def sampled(of: Report) -> Report:
    rows = [row for row in of.discoverable if row.arm == ARM]
    assert rows
    rates = tuple(replace(rate, found_lower=0.5, controls_upper=0.1) for rate in rows[0].rates)
    return replace(of, discoverable=(replace(rows[0], rates=rates),))


@pytest.mark.parametrize(
    ("change", "said"),
    [(from_start, "it continues from sft-eps4, whose claim is refuted"), (sampled, "sampled answers")],
)
def test_what_it_rests_on_and_what_is_sampled_from_it_forbid_a_release(
    found: Report, change: Callable[[Report], Report], said: str
) -> None:
    row = word(change(found))
    assert row.word == MUST_NOT and said in row.why, row


def alarmed(of: Report) -> Report:
    def told(row: Any) -> Any:
        alarm = row.blind and replace(row.blind, alarm=True)
        return replace(row, blind=alarm) if row.arm == ARM else row

    return replace(of, audits=tuple(told(row) for row in of.audits))


def silent_search(of: Report) -> Report:
    return replace(of, extraction=tuple(replace(row, planted_found=0) for row in of.extraction))


def stale(of: Report) -> Report:
    audit = replace(of.stages.audit, stale=(f"audit/{ARM}/extraction_b.json",))
    return replace(of, stages=replace(of.stages, audit=audit))


def wide_delta(arm: Adapter) -> Adapter:
    return replace(arm, privacy=replace(arm.privacy, claim=replace(arm.privacy.claim, delta=0.5)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (alarmed, "no coin can be trusted"),
        (silent_search, "found none in an adapter without noise either"),
        (
            lambda of: replace(of, extraction=tuple(replace(row, planted=1) for row in of.extraction)),
            "fewer than 13 planted secrets",
        ),
        (stale, "results of it are out of date"),
        (lambda of: with_arm(of, wide_delta), "its delta is not below one over the number of units"),
    ],
)
def test_findings_that_say_nothing_establish_nothing(
    found: Report, change: Callable[[Report], Report], said: str
) -> None:
    row = word(change(found))
    assert row.word == NOT_ESTABLISHED and said in (row.why, *row.others)[0] + " ".join(row.others), row


def test_a_claim_above_the_rule_is_not_established_and_the_rule_can_be_declared(found: Report) -> None:
    strict, wide = replace(RULE, most_epsilon=0.5), replace(RULE, most_epsilon=1.0)
    assert word(found, rule=wide).word == MAY
    row = word(found, rule=strict)
    assert row.word == NOT_ESTABLISHED and "asks for at most 0.5" in row.why


def test_the_worst_reason_is_said_first_and_the_others_stay(found: Report) -> None:
    row = word(replace(answering(found, verdict="refuted"), extraction=()))
    assert row.word == MUST_NOT and row.others == ("whether planted secrets come out of it was not tried",)


def test_no_adapter_may_be_released_where_a_finding_is_missing(found: Report) -> None:
    """Of all findings of a run, each in turn taken away."""
    bare = replace(found, together=None, extraction=(), inside=(), audits=())
    assert not [row for row in release.decide(bare, RULE) if row.word == MAY]
    for gone in ("together", "extraction", "audits"):
        left = replace(found, **{gone: None if gone == "together" else ()})
        assert word(left).word != MAY, gone


def test_answers_that_are_of_another_claim_do_not_count(found: Report) -> None:
    assert found.together is not None

    def other(answer: Answered) -> Answered:
        return replace(answer, claim=replace(answer.claim, epsilon=9.0)) if answer.arm == ARM else answer

    answers = tuple(other(answer) for answer in found.together.answers)
    row = word(replace(found, together=replace(found.together, answers=answers)))
    assert row.word == NOT_ESTABLISHED and "not tested" in row.why


@pytest.mark.parametrize(
    ("questions", "step"),
    [
        ((OUTSIDE,), "train with candidates.gradient: auto, which needs 500 patients or more"),
        ((OUTSIDE, replace(INSIDE, power=0.5)), "raise candidates.gradient, and train again"),
    ],
)
@pytest.mark.parametrize("verdict", ["no power", "not refuted"])
def test_the_next_step_is_not_what_was_done_already(
    found: Report, questions: tuple[Question, ...], step: str, verdict: str
) -> None:
    """Too few units leave `auto` without canaries along axes: to set it again would change nothing."""
    row = word(answering(found, questions=questions, verdict=verdict))
    assert row.word == NOT_ESTABLISHED and row.next_step.endswith(step.removeprefix("raise "))


@pytest.mark.parametrize("data", ["builtin:clinic", "consultations.jsonl"])
def test_patients_are_invented_only_where_the_data_are(found: Report, data: str) -> None:
    cautions = word(replace(found, run=replace(found.run, data=data))).cautions
    assert sum("teaching model" in text for text in cautions) == 1
    assert any("invented patients" in text for text in cautions) == data.startswith("builtin:")
