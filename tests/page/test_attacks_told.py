"""What is said of attacks: the strongest recipe, the table behind the curves, identifiers, the crosswalk."""

import re
from dataclasses import replace

import fabricate
import pytest
from markupsafe import Markup

from dpaudit.evidence import recipes as correcting
from dpaudit.findings.report import Report
from dpaudit.page import recipes
from dpaudit.page.crosswalk import crosswalk
from dpaudit.page.identifiers import IDENTIFIERS, NOT_EXAMINED, identifiers
from dpaudit.page.joins import Joins
from dpaudit.page.numbers import Numbers
from dpaudit.page.render import render
from dpaudit.page.rerun import rerun
from dpaudit.page.tradeoff import tradeoff
from dpaudit.stages import report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Report:
    run_dir, plan = fabricate.run(tmp_path_factory.mktemp("runs"))
    return report.assemble(report.Reading(run_dir), plan)


def joined(made: Report) -> Joins:
    return Joins(made, Numbers(made.to_json()))


def plain(text: object) -> str:
    return " ".join(Markup(str(text)).striptags().split())


# ---- the strongest recipe


def test_each_adapter_has_its_strongest_recipe(made: Report) -> None:
    rows = list(recipes.strongest(joined(made)))
    assert [row.arm for row in rows] == [arm.arm for arm in made.arms]
    found = made.recipes[0]
    assert rows[0].recipe == found.strongest
    assert plain(rows[0].cells[-1]) == f"{found.tell} of {found.recipes}"
    assert recipes.beyond(joined(made)) is None


def test_more_than_a_claim_is_a_banner(made: Report) -> None:
    told = tuple(
        replace(row, above_claim=("loss",)) if row.arm == "sft-eps1" else row for row in made.recipes
    )
    banner = recipes.beyond(joined(replace(made, recipes=told)))
    assert banner is not None and "sft-eps1 by loss" in plain(banner)
    assert "More than the claim is proven" in render(replace(made, recipes=told))
    assert "More than the claim is proven" not in render(made)


def test_broken_coins_withhold_the_corrected_bounds(made: Report) -> None:
    audits = tuple(replace(audit, blind=replace(fabricate.BLIND, alarm=True)) for audit in made.audits)
    broken = replace(made, audits=audits, recipes=correcting.corrected(audits))
    assert {plain(row.cells[3]) for row in recipes.strongest(joined(broken))} == {"withheld"}


def test_the_rate_at_few_false_positives_has_an_interval(made: Report) -> None:
    audit = joined(made).audits[0]
    roc = audit.part.canaries.roc
    index = max(at for at, fpr in enumerate(roc.fpr) if fpr <= 0.01)
    whole = replace(audit.part.canaries.tpr_at_fpr, tpr_on_curve=roc.tpr[index])
    first = replace(audit.part, canaries=replace(audit.part.canaries, tpr_at_fpr=whole))
    joins = joined(replace(made, audits=(first, *made.audits[1:])))
    told = recipes.tpr(joins, joins.audits[0])
    assert f"/canaries/roc/tpr_lower/{index}" in told and "†" in told
    other = replace(whole, tpr_on_curve=roc.tpr[index] + 0.001)  # another point than the curve that is kept
    first = replace(audit.part, canaries=replace(audit.part.canaries, tpr_at_fpr=other))
    joins = joined(replace(made, audits=(first, *made.audits[1:])))
    assert "interval" not in recipes.tpr(joins, joins.audits[0])


def test_the_table_behind_the_curves_says_the_false_positives_that_were_made(made: Report) -> None:
    for row, audit in zip(recipes.roc(joined(made)), joined(made).verdicts, strict=True):
        assert row.arm == audit.part.arm and len(row.cells) == len(recipes.FPRS)
        for cell, fpr in zip(row.cells, recipes.FPRS, strict=True):
            keys = re.findall(r'value="([^"]+)" data-key="[^"]+/roc/(\w+)/(\d+)"', cell)
            values = {name: float(value) for value, name, _ in keys}
            assert len({at for _, _, at in keys}) == 1 and values["fpr"] <= fpr
            assert values["tpr_lower"] <= values["tpr"] <= values["tpr_upper"]


# ---- identifiers


def test_all_eighteen_identifiers_stand_there_and_each_says_how(made: Report) -> None:
    assert [row[0] for row in IDENTIFIERS] == list("ABCDEFGHIJKLMNOPQR")
    found = identifiers(joined(made))
    hows = {row.name: plain(row.how) for row in found.rows}
    assert hows["D. telephone numbers"] == "found by their form"
    assert hows["A. names"] == "not examined" and found.unexamined == 16  # phone and e-mail were tried
    worst = next(row for row in found.rows if row.name == "D. telephone numbers")
    assert plain(worst.private) == "1 of 40, at most 13.2 %" and plain(worst.open).startswith("30 of 40")


def test_a_kind_that_the_data_lack_is_not_good_news(made: Report) -> None:
    def without(row: object) -> object:
        return replace(row, members=replace(row.members, fields=0, completed=0))  # type: ignore[attr-defined,type-var]

    pii = tuple(replace(one, by_kind=tuple(without(row) for row in one.by_kind)) for one in made.pii)
    rows = identifiers(joined(replace(made, pii=pii))).rows
    assert plain(rows[3].how) == "looked for; none in what was trained on" and plain(rows[3].private) == "–"
    none = identifiers(joined(replace(made, pii=())))
    assert none.examined == () and {row.how for row in none.rows} == {NOT_EXAMINED}


# ---- the crosswalk


def test_every_question_has_evidence_or_says_that_there_is_none(made: Report) -> None:
    documents = crosswalk(joined(made))
    assert [len(document.rows) >= 8 for document in documents] == [True] * 3
    told = {question: plain(answer) for document in documents for question, answer in document.rows}
    assert all(told.values())
    assert "1 of 32, at most 16.3 %" in told["Can personal data be taken out of the model directly?"]
    assert "ε 11.80 at δ 1e−5" in told["What do several releases spend together?"]
    assert told["Does the program do what the proof says?"] == "not examined."
    bare = replace(made, audits=(), recipes=(), together=None, extraction=(), pii=(), comparisons=None)
    less = {
        question: plain(answer)
        for document in crosswalk(joined(replace(bare, discoverable=())))
        for question, answer in document.rows
    }
    assert less["Can personal data be taken out of the model directly?"] == "not examined. not examined."
    assert less["Is it still useful?"] == "not examined."
    assert "is not known here" in less["What do several releases spend together?"]
    assert less["Can they come out in its answers, on purpose or not?"].startswith("Repeated sampling: not")


# ---- privacy against quality


def test_every_adapter_stands_in_the_figure_and_in_the_table(made: Report) -> None:
    section = tradeoff(joined(made))
    assert section.absent == () and len(section.charts) == len(section.tasks) == 2
    assert [row.arm for row in section.rows] == [arm.arm for arm in made.arms]
    chart = section.charts[0]
    assert "margin-band" in chart and "within the margin of 5.0 points" in chart
    for arm in made.arms:
        assert f"<title>{arm.arm}, AUC" in chart
    private = next(row for row in section.rows if row.arm == "sft-eps4")
    assert "points" in chart and "[" in plain(private.cells[3]) and plain(private.cells[4]) != "–"
    assert plain(section.rows[0].cells[3]) == "–"  # the reference itself


def test_what_the_figure_lacks_is_said(made: Report) -> None:
    unmeasured = tradeoff(joined(replace(made, comparisons=None)))
    assert "what privacy cost is not known" in unmeasured.absent[0] and len(unmeasured.charts) == 1
    assert "margin-band" not in unmeasured.charts[0]
    unattacked = tradeoff(joined(replace(made, audits=(), recipes=())))
    assert "No attack was judged" in unattacked.absent[0] and len(unattacked.charts) == 2
    nothing = tradeoff(joined(replace(made, audits=(), recipes=(), comparisons=None)))
    assert nothing.charts == () and len(nothing.absent) == 2


# ---- doing it again


def test_settings_that_differ_stand_beside_each_other(made: Report) -> None:
    found = rerun(joined(made))
    differing = {name: [plain(value) for value in values] for name, values in found.differing}
    assert set(differing) == {"units in a step, expected", "steps", "learning rate"}
    assert differing["steps"] == ["480" if arm.arm == "sft-inf" else "60" for arm in made.arms]
    assert "optimizer adamw" in plain(found.shared)
    assert found.commands[-1] == f"dpaudit report html --run {made.run.name}"
    assert found.loading and "PeftModel" in found.loading
    unknown = tuple(replace(arm, schedule=None) for arm in made.arms)
    assert rerun(joined(replace(made, arms=unknown))).differing == ()
    alone = tuple(arm for arm in made.arms if not arm.private)
    assert rerun(joined(replace(made, arms=alone))).loading is None
