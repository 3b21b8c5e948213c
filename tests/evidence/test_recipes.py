"""Attacks corrected for their number: the strongest of many is strong by chance too."""

from dataclasses import replace

import fabricate
import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from dpaudit.evidence import recipes
from dpaudit.evidence.release import decide
from dpaudit.findings.membership import Membership
from dpaudit.findings.recipes import ArmRecipes
from dpaudit.findings.release import NOT_ESTABLISHED
from dpaudit.findings.report import Report
from dpaudit.stages import report
from dpaudit.stats.epsilon import epsilon_lower_one_run
from dpaudit.stats.roc import auc_interval


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    run_dir, plan = fabricate.run(tmp_path_factory.mktemp("runs"))
    return report.assemble(report.Reading(run_dir), plan)


def of_scores(audit: Membership, scores: np.ndarray, members: np.ndarray) -> Membership:
    area = auc_interval(scores, members, 0.95)
    canaries = replace(audit.canaries, n=len(scores), members=int(members.sum()), auc=area.auc)
    return replace(audit, canaries=canaries)


def test_the_p_value_is_that_of_mann_and_whitney(made: Report) -> None:
    draw = np.random.default_rng(5)
    for shift in (0.0, 0.3, -0.2):
        members = draw.random(300) < 0.4
        scores = draw.normal(size=300) + shift * members
        expected = mannwhitneyu(
            scores[members],
            scores[~members],
            alternative="greater",
            method="asymptotic",
            use_continuity=False,
        ).pvalue
        found = recipes.p_value(of_scores(made.audits[0], scores, members).canaries)
        assert found == pytest.approx(expected, rel=1e-9)
    assert recipes.p_value(replace(made.audits[0].canaries, members=0)) == 1.0


def test_of_attacks_that_tell_nothing_one_tells_once_in_twenty(made: Report) -> None:
    """2,000 adapters of which 14 attacks see nothing: any of them tells with a chance of at most 5 %, and
    without the correction one of them does nearly always.
    """
    draw, told, raw = np.random.default_rng(11), 0, 0
    audits = [replace(made.audits[0], recipe=f"r{number}", bound=None) for number in range(14)]
    for _ in range(2000):
        members = draw.random(120) < 0.5
        ranks = draw.random((14, 120)).argsort(axis=1).argsort(axis=1) + 1
        inside, outside = int(members.sum()), int((~members).sum())
        areas = (ranks[:, members].sum(axis=1) - inside * (inside + 1) / 2) / (inside * outside)
        canaries = [
            replace(audit.canaries, n=120, members=inside, auc=float(area))
            for audit, area in zip(audits, areas, strict=True)
        ]
        (found,) = recipes.corrected(
            [replace(audit, canaries=one) for audit, one in zip(audits, canaries, strict=True)]
        )
        told += found.tell > 0
        raw += min(row.p_value for row in found.each) <= 0.05
    assert told / 2000 <= 0.05 + 3 * (0.05 * 0.95 / 2000) ** 0.5
    assert raw / 2000 > 0.4


def test_the_bounds_of_an_arm_hold_together(made: Report) -> None:
    (found, *_) = recipes.corrected(made.audits)
    audits = [audit for audit in made.audits if audit.arm == found.arm]
    assert found.confidence == 1 - 0.05 / len(audits) and found.recipes == len(audits)
    for row, audit in zip(found.each, audits, strict=True):
        bound = audit.bound
        assert bound is not None and row.recipe == audit.recipe
        counts = {"canaries": bound.canaries, "guesses": bound.guesses, "correct": bound.correct}
        alone = epsilon_lower_one_run(**counts, delta=bound.delta, confidence=found.confidence)
        assert row.epsilon_lower == alone <= bound.epsilon_lower
    assert found.epsilon_lower == max(row.epsilon_lower or 0 for row in found.each)
    assert found.strongest == min(found.each, key=lambda row: row.p_value).recipe


def test_broken_coins_prove_nothing_here_either(made: Report) -> None:
    alarmed = tuple(replace(audit, blind=replace(fabricate.BLIND, alarm=True)) for audit in made.audits)
    for found in recipes.corrected(alarmed):
        assert found.epsilon_lower is None and found.above_claim == ()


def above(made: Report, arm: str) -> tuple[Report, ArmRecipes]:
    """The report where all guesses of an attack without a verdict are right."""
    audits = tuple(
        replace(audit, bound=replace(audit.bound, correct=audit.bound.guesses))
        if audit.arm == arm and not audit.primary and audit.bound
        else audit
        for audit in made.audits
    )
    found = recipes.corrected(audits)
    changed = replace(made, audits=audits, recipes=found)
    return changed, next(row for row in found if row.arm == arm)


def test_an_attack_without_a_verdict_that_proves_more_than_the_claim_forbids_may(made: Report) -> None:
    changed, found = above(made, "sft-eps1")
    assert found.above_claim and "calibrated" not in found.above_claim
    card = {row.arm: row for row in decide(changed, made.rule)}["sft-eps1"]
    assert card.word == NOT_ESTABLISHED
    said = f"an attack that carries no verdict ({', '.join(found.above_claim)}) proves more than its claim"
    assert any(said in reason for reason in (card.why, *card.others))
    before = {row.arm: row for row in decide(made, made.rule)}["sft-eps1"]
    assert not any("carries no verdict" in reason for reason in (before.why, *before.others))


def test_an_arm_without_a_claim_is_above_nothing(made: Report) -> None:
    assert above(made, "sft-inf")[1].above_claim == ()
