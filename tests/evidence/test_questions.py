"""Two questions, one verdict: which question speaks, what it would have caught, and what leaves power
unknown.
"""

from dataclasses import replace

import pytest

from dpaudit.evidence.guesses import Guesses
from dpaudit.evidence.questions import NO_CONTROL, Asked, Control, Outside, Training, answered
from dpaudit.findings.answers import Answered
from dpaudit.privacy.claim import Claim

CLAIM = Claim(1.0, 1e-5, "patient", "add_or_remove")
TWO, FOUR, FORTY = (replace(CLAIM, epsilon=epsilon) for epsilon in (2.0, 4.0, 40.0))
GUESSES = Guesses(500, 200, 110, 200, False, 0.95)  # not above chance enough for a claim of 1
CONTROL = Control("sft-inf", replace(GUESSES, correct=196))


def inside(arm: str, p_value: float, halved: float = 0.97, third: float = 1.0) -> Training:
    return Training(arm, p_value, 4000, halved, third)


def one(
    outside: Outside | None, *trainings: Training, claim: Claim = CLAIM, failed: tuple[str, ...] = ()
) -> Answered:
    (answer,) = answered([Asked("sft-eps1", claim, outside, trainings, failed)])
    return answer


@pytest.mark.parametrize("p_value", [0.001, 0.4])
def test_from_inside_alone(p_value: float) -> None:
    answer = one(None, inside("sft-eps1", p_value))
    assert answer.verdict == ("refuted" if p_value < 0.05 else "not refuted")
    assert "seen from inside sft-eps1" in answer.reason
    assert "half of the noise" in answer.reason or answer.verdict == "refuted"


def test_from_outside_alone_with_a_control() -> None:
    assert one(Outside("sft-eps1", replace(GUESSES, correct=196), CONTROL)).verdict == "refuted"
    answer = one(Outside("sft-eps1", GUESSES, CONTROL))
    assert answer.verdict == "not refuted" and "no noise at all from outside" in answer.reason


def test_without_a_control_power_is_unknown_and_that_is_no_good_news() -> None:
    answer = one(Outside("sft-eps1", GUESSES))
    assert answer.verdict == "no power" and NO_CONTROL in answer.reason


def test_a_control_that_proves_too_little_gives_no_power() -> None:
    weak = Control("sft-inf", replace(GUESSES, correct=150))
    answer = one(Outside("sft-eps1", GUESSES, weak))
    assert answer.verdict == "no power" and "no noise at all would have been caught" in answer.reason
    assert "on the control sft-inf, trained without noise, the attack proves an epsilon of" in answer.reason
    assert "(150 of 200 guesses right)" in answer.reason
    blind = Control("sft-inf", replace(GUESSES, correct=104))
    assert "the attack proves nothing (104 of 200" in one(Outside("sft-eps1", GUESSES, blind)).reason
    assert "(196 of 200" not in one(Outside("sft-eps1", GUESSES, CONTROL)).reason  # this one shows enough


def test_the_control_s_power_is_of_its_lower_limit_and_at_the_first_step() -> None:
    """Of the same counts the power falls with the size of the family, and never reaches the control's own
    luck.
    """
    at = [Outside("a", GUESSES, CONTROL).power(TWO, level) for level in (0.05, 0.01, 0.001)]
    assert all(power is not None for power in at) and at == sorted(at, reverse=True)
    perfect = Control("c", replace(GUESSES, correct=200))
    assert 0 < (Outside("a", GUESSES, perfect).power(FOUR, 0.05) or 0) < 0.5  # its luck is not granted


def test_a_claim_above_the_ceiling_leaves_the_family_by_counts_alone() -> None:
    perfect = replace(GUESSES, correct=200)
    answers = answered(
        [
            Asked("a", FORTY, Outside("a", perfect, CONTROL)),
            Asked("b", CLAIM, Outside("b", GUESSES, CONTROL)),
        ]
    )
    assert answers[0].questions[0].level is None and answers[1].questions[0].level == 0.05
    assert answers[0].verdict == "no power" and "no more than the claimed 40" in answers[0].reason


def test_claims_on_one_adapter_are_one_member() -> None:
    outside = Outside("a", replace(GUESSES, correct=170), CONTROL)
    low, high = answered([Asked("a", CLAIM, outside), Asked("a", FOUR, outside)])
    assert low.verdict == "refuted" and high.verdict != "refuted"
    assert {question.level for answer in (low, high) for question in answer.questions} == {0.05}


def test_silent_guesses_give_no_power_whatever_the_control_proves() -> None:
    equal = one(Outside("a", replace(GUESSES, equal_scores=True), CONTROL))
    tied = one(Outside("a", replace(GUESSES, correct_at_most=120), CONTROL))
    broken = one(Outside("a", replace(GUESSES, correct=200), CONTROL, broken="broken coins"))
    assert {answer.verdict for answer in (equal, tied, broken)} == {"no power"}
    assert "broken coins" in broken.reason and "equal scores" in tied.reason


def test_a_failed_check_and_an_overspent_ledger_stand_outside_of_the_correction() -> None:
    overspent = one(None, inside("a", 0.9), failed=("its ledger spends an epsilon of 9",))
    assert overspent.verdict == "refuted" and "ledger spends" in overspent.reason


def test_each_stage_of_a_chain_is_asked_and_named() -> None:
    answer = one(None, inside("dpo", 0.5), inside("sft", 1e-4))
    assert (
        answer.verdict == "refuted" and "seen from inside sft" in answer.reason and "dpo" not in answer.reason
    )
    calm = one(None, inside("dpo", 0.5), inside("sft", 0.4))
    assert "inside dpo" in calm.reason and "inside sft" in calm.reason


def test_a_stage_that_was_not_looked_at_is_named_beside_those_that_were() -> None:
    """Power against one stage of a chain never reads as power against all of it."""
    earlier = "a training before this run, of which the ledger alone is known"
    asked = Asked("dpo", CLAIM, None, (inside("dpo", 0.5), inside("sft", 0.4, 0.5, 0.6)), unseen=(earlier,))
    (answer,) = answered([asked])
    assert answer.verdict == "not refuted" and answer.unseen == (earlier,)
    caught, weak, unseen = answer.reason.split("; ")[1:]
    assert "half of the noise seen from inside dpo" in caught and "sft" not in caught
    assert weak.startswith("it cannot tell seen from inside sft") and earlier in unseen
    (silent,) = answered([replace(asked, trainings=())])
    assert silent.verdict == "no power" and earlier in silent.reason
    whole = one(None, inside("dpo", 0.5), inside("sft", 0.4))
    assert "not looked at" not in whole.reason and "cannot tell" not in whole.reason


def test_a_third_of_the_noise_where_half_is_beyond_the_units() -> None:
    answer = one(None, inside("a", 0.5, halved=0.6))
    assert answer.verdict == "not refuted" and "a third of the noise" in answer.reason
    assert one(None, inside("a", 0.5, halved=0.3, third=0.7)).verdict == "no power"


def test_a_page_is_tested_together() -> None:
    """One question at p = .03 would be refuted alone, and not among two."""
    assert one(None, inside("a", 0.03)).verdict == "refuted"
    both = answered([Asked(arm, CLAIM, None, (inside(arm, p),)) for arm, p in (("a", 0.03), ("b", 0.6))])
    assert [answer.verdict for answer in both] == ["not refuted", "not refuted"]


def test_nothing_asked_is_no_good_news() -> None:
    assert one(None).verdict == "no power"
