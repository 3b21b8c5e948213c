"""What a card says: the verdict, and whether the attack could have said anything else."""

from dataclasses import replace
from pathlib import Path

import fabricate
import pytest

from dpaudit.findings.answers import Question
from dpaudit.findings.report import Report
from dpaudit.page.cards import Card, cards
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers
from dpaudit.page.verdicts import verdicts
from dpaudit.stages import report
from dpaudit.stages.report import Reading


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report.assemble(*_reading(tmp_path_factory.mktemp("runs")))


def _reading(runs: Path) -> tuple[Reading, object]:
    run_dir, plan = fabricate.run(runs)
    return Reading(run_dir), plan


def joined(made: Report) -> Joins:
    return Joins(made, Numbers(made.to_json()))


def card(made: Report, arm: str) -> Card:
    return next(card for card in cards(joined(made)) if card.arm == arm)


def said(made: Report, arm: str, word: str, *questions: Question, failed: tuple[str, ...] = ()) -> Report:
    """The report with another answer to an arm's claim."""
    assert made.together is not None
    answers = tuple(
        replace(answer, verdict=word, questions=questions or answer.questions, failed=failed)
        if answer.arm == arm
        else answer
        for answer in made.together.answers
    )
    return replace(made, together=replace(made.together, answers=answers))


OUTSIDE = Question("outside", "sft-eps1", 0.4, 0.0125, 0.3, 2.8, "no noise at all", 0.97, "sft-inf", None)
INSIDE = Question("inside", "sft-eps1", 0.3, 0.0125, None, None, "half of the noise", 0.93, None, None)


def test_private_arms_come_first_and_the_control_claims_nothing(made: Report) -> None:
    shown = cards(joined(made))
    assert [card.arm for card in shown][-1] == "sft-inf" and shown[-1].css == "control"
    assert shown[-1].claimed == "claims nothing"


@pytest.mark.parametrize(
    ("word", "begins"),
    [
        ("refuted", "Do not release this adapter"),
        ("not refuted", "Nothing that was measured contradicts the claim."),
        ("no power", "This audit cannot tell."),
    ],
)
def test_each_word_has_its_sentence(made: Report, word: str, begins: str) -> None:
    answer = card(said(made, "sft-eps1", word), "sft-eps1")
    assert answer.word == word and answer.css == word.replace(" ", "-")
    assert any(sentence.startswith(begins) for sentence in answer.sentences)


def test_a_refutation_says_which_question_spoke(made: Report) -> None:
    refuting = [replace(question, p_value=1e-4) for question in (OUTSIDE, INSIDE)]
    outside = card(said(made, "sft-eps1", "refuted", refuting[0], INSIDE), "sft-eps1").sentences
    assert "right guesses" in outside[0] and "relies on nothing that the trainer says" in outside[0]
    inside = card(said(made, "sft-eps1", "refuted", OUTSIDE, refuting[1]), "sft-eps1").sentences
    assert "did not run the mechanism of its ledger" in inside[0] and "second release" in inside[0]
    failed = card(said(made, "sft-eps1", "refuted", failed=("rate failed",)), "sft-eps1").sentences
    assert "rate failed" in failed[0] and len(outside) == len(inside) == len(failed) == 2


def test_not_refuted_says_what_would_have_been_caught(made: Report) -> None:
    both = card(said(made, "sft-eps1", "not refuted", OUTSIDE, INSIDE), "sft-eps1").sentences
    assert "no noise at all, such as <code>sft-inf</code>" in both[1] and "half of the noise" in both[2]
    blunt = replace(OUTSIDE, power=None, note="its power is unknown")
    alone = card(said(made, "sft-eps1", "not refuted", blunt, INSIDE), "sft-eps1").sentences
    assert alone[1].startswith("From outside, it cannot tell:") and "its power is unknown" in alone[1]


def test_a_training_that_was_not_looked_at_is_told_on_the_card(made: Report) -> None:
    assert made.together
    answers = tuple(replace(a, verdict="not refuted", unseen=("x (why)",)) for a in made.together.answers)
    shown = card(replace(made, together=replace(made.together, answers=answers)), "sft-eps1").sentences
    assert shown[-1].startswith("<strong>Not looked at from inside:</strong>") and "x (why)" in shown[-1]
    weak = card(said(made, "sft-eps1", "no power", replace(INSIDE, arm="cpt", power=0.3)), "sft-eps1")
    assert "<code>cpt</code>, it cannot tell" in weak.sentences[1]


def test_an_answer_that_is_not_there_is_no_word(made: Report) -> None:
    answer = card(replace(made, together=None), "sft-eps1")
    assert answer.word == "not concluded" and "dpaudit attack mia" in answer.sentences[0]


def test_broken_coins_withhold_every_figure_of_a_verdict(made: Report) -> None:
    broken = replace(fabricate.BLIND, alarm=True)
    alarmed = replace(made, audits=tuple(replace(audit, blind=broken) for audit in made.audits))
    section = verdicts(joined(alarmed))
    assert section.banner is not None and "No verdict can be given" in section.banner
    assert {(row.proven, row.without_noise) for row in section.claiming} == {("withheld", "withheld")}


def test_a_name_is_escaped(made: Report) -> None:
    odd = replace(made, run=replace(made.run, unit="<b>patient"))
    assert all("<b>" not in sentence for sentence in card(odd, "sft-eps1").beside)
    assert any("&lt;b&gt;patient" in sentence for sentence in card(odd, "sft-eps1").beside)


def test_a_guess_rule_is_told_once(made: Report) -> None:
    (rule,) = verdicts(joined(made)).rules
    assert rule[1] == "calibrated" and "10% of canaries" in rule[0]
