"""What a card says: the verdict, and whether the attack could have said anything else."""

from dataclasses import replace
from pathlib import Path

import fabricate
import pytest

from dpaudit.findings.membership import Answer
from dpaudit.findings.report import Report
from dpaudit.page.cards import NO_BETTER, UNKNOWN, Card, cards
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


def said(made: Report, arm: str, word: str | None) -> Report:
    """The report with another verdict of an arm's primary recipe."""
    audits = tuple(
        replace(audit, verdict=Answer(word, "")) if audit.arm == arm and audit.primary else audit
        for audit in made.audits
    )
    return replace(made, audits=audits)


def controlled(made: Report, arm: str, **changes: object) -> Report:
    """The report with another finding on the arm without noise, beside one arm's claim."""
    assert made.together is not None
    claims = tuple(replace(claim, **changes) if claim.arm == arm else claim for claim in made.together.claims)
    return replace(made, together=replace(made.together, claims=claims))


def test_private_arms_come_first_and_the_control_claims_nothing(made: Report) -> None:
    shown = cards(joined(made))
    assert [card.arm for card in shown][-1] == "sft-inf" and shown[-1].css == "control"
    assert shown[-1].claimed == "claims nothing" and shown[-1].aside is None


@pytest.mark.parametrize(
    ("word", "begins"),
    [
        ("refuted", "The claim is false"),
        ("not refuted", "Nothing that was measured contradicts the claim."),
        ("no power", "This audit cannot tell."),
    ],
)
def test_each_word_has_its_sentence(made: Report, word: str, begins: str) -> None:
    answer = card(said(made, "sft-eps1", word), "sft-eps1")
    assert answer.word == word and answer.css == word.replace(" ", "-")
    assert answer.sentences[0].startswith(begins)


def test_not_refuted_is_weakened_by_what_the_control_says(made: Report) -> None:
    kept = said(made, "sft-eps1", "not refuted")
    assert card(controlled(kept, "sft-eps1", control_verdict="refuted"), "sft-eps1").aside is None
    blunt = controlled(kept, "sft-eps1", control_verdict="not refuted", control_is_alike=False)
    assert card(blunt, "sft-eps1").aside == NO_BETTER
    assert "would not have refuted the claim without noise either" in card(blunt, "sft-eps1").sentences[1]
    assert "was also trained in another way" in card(blunt, "sft-eps1").sentences[1]
    alone = controlled(kept, "sft-eps1", control=None, control_verdict=None)
    assert card(alone, "sft-eps1").aside == UNKNOWN
    assert "No adapter trained without noise" in card(alone, "sft-eps1").sentences[1]


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
    assert rule[1] == "calibrated" and "highest tenth" in rule[0]
