"""The positive control: what the same attack says of the same claims on an adapter without noise."""

import math

import pytest

from dpaudit.evidence import control
from dpaudit.evidence.guesses import Guesses
from dpaudit.findings.membership import Bound, Curve, Membership, Per, Scored, TprAtFpr
from dpaudit.privacy.claim import Claim
from dpaudit.suite.grid import Arm

INF, FOUR, ONE = (Arm("sft", "sft", epsilon) for epsilon in (math.inf, 4.0, 1.0))
DPO, DPO_INF = Arm("dpo", "sigmoid", 4.0), Arm("dpo", "sigmoid", math.inf)


def claim(epsilon: float) -> Claim:
    return Claim(epsilon, 1e-5, "patient", "add_or_remove")


CURVE = Curve((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
LOW = TprAtFpr(False, 0.01, 250, 250, None, None, None, None, None, 0.01)
SCORED = Scored(500, 250, 0.5, 0.45, 0.55, 0.95, LOW, CURVE, Per("patient"))


def audit(arm: Arm, correct: int) -> Membership:
    """Of 200 guesses on 500 canaries: 100 right prove nothing, 195 an epsilon of 2.90, and all of them
    4.18.
    """
    bound = Bound(**Guesses(500, 200, correct, 200, False, 0.95).bound(1e-5), method="one-run", rule="")
    return Membership(
        arm=arm.name,
        recipe="calibrated",
        kind="mia",
        primary=True,
        signal="calibrated",
        unit="patient",
        claim=claim(arm.epsilon) if arm.private else None,
        canaries=SCORED,
        records=None,
        bound=bound,
        blind=None,
        equal_secrets=0,
        fitted=None,
    )


def test_a_claim_stands_beside_what_the_control_proves() -> None:
    audits = {INF: audit(INF, 195), FOUR: audit(FOUR, 120), ONE: audit(ONE, 100)}
    four, one = (control.behind(arm, claim(arm.epsilon), audits, 0.95) for arm in (FOUR, ONE))
    proven = control.bound_of(audits[INF]).epsilon_lower
    assert (four.control, four.control_epsilon_lower, four.control_is_alike) == ("sft-inf", proven, True)
    assert one.guess_right_at_most == pytest.approx((math.e + 1e-5) / (math.e + 1))
    surer = control.behind(FOUR, claim(4), audits, 0.99).control_epsilon_lower
    assert surer is not None and surer < proven


def test_a_dpo_arm_without_a_control_of_its_own_borrows_that_of_sft() -> None:
    audits = {INF: audit(INF, 195), DPO: audit(DPO, 100)}
    borrowed = control.behind(DPO, claim(4), audits, 0.95)
    assert (borrowed.control, borrowed.control_is_alike) == ("sft-inf", False)
    own = control.behind(DPO, claim(4), audits | {DPO_INF: audit(DPO_INF, 120)}, 0.95)
    assert (own.control, own.control_is_alike) == ("dpo-sigmoid-inf", True)


def test_without_a_control_nothing_is_said_of_one() -> None:
    found = control.behind(FOUR, claim(4), {FOUR: audit(FOUR, 120)}, 0.95)
    assert {value for key, value in vars(found).items() if key.startswith("control")} == {None}


@pytest.mark.parametrize(("correct", "weak"), [(115, True), (156, True), (157, False)])
def test_a_control_is_weak_where_it_proves_no_more_than_the_smallest_claim(correct: int, weak: bool) -> None:
    audits = {INF: audit(INF, correct), FOUR: audit(FOUR, 120)}
    (found,) = control.of_claims(audits, [claim(4), claim(1), claim(4)], 0.95)
    assert found.weak is weak
    assert [row.epsilon for row in found.claims] == [1.0, 4.0]
    assert found.claims[0].verdict == ("not refuted" if weak else "refuted")


def test_without_a_claim_there_is_no_control() -> None:
    assert control.of_claims({INF: audit(INF, 195)}, [], 0.95) == ()
