"""Markdown, CSV and JUnit of a report: what the page says, every figure by its key, nothing taken for good
news that was not looked at, and nothing that a spreadsheet or a build server would run.
"""

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import fabricate
import pytest

from dpaudit.findings.report import Report, Stage
from dpaudit.page import markdown, numbers, records, render
from dpaudit.stages import report

HOSTILE = '=HYPERLINK("x")\u202e\x00\x1b[31m<script>alert(1)</script>|`{{ x }}` \ud800'


def made(runs: Path, *stages: str) -> Report:
    return report.present(*fabricate.run(runs, stages or fabricate.ALL))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return made(tmp_path_factory.mktemp("runs"))


def rows_of(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(records.as_csv(report))))


def cases_of(report: Report) -> dict[str, tuple[str, str]]:
    """Title -> outcome and message."""
    root = ElementTree.fromstring(records.as_junit(report).encode())
    found = {}
    for case in root.iter("testcase"):
        told = [child for child in case if child.tag != "system-out"]
        outcome = (told[0].tag, told[0].get("message") or "") if told else ("passed", "")
        found[case.get("name") or ""] = outcome
    assert len(found) == len(list(root.iter("testcase")))
    for suite in root.iter("testsuite"):
        counted = [suite.get(name) for name in ("failures", "errors", "skipped")]
        tags = ("failure", "error", "skipped")
        assert counted == [str(len(list(suite.iter(tag)))) for tag in tags]
    return found


# ---- CSV


def test_every_row_is_the_value_at_its_key(whole: Report) -> None:
    data, rows = whole.to_json(), rows_of(whole)
    assert len(rows) > 1000 and len({row["key"] for row in rows}) == len(rows)
    for row in rows:
        value = numbers.look_up(data, row["key"])
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        assert row["value"] == shown
        above = row["key"].rpartition("/")[0]
        for limit in ("lower", "upper"):
            if row[limit]:
                assert float(row[limit]) in [
                    inner for inner in numbers.look_up(data, above).values() if isinstance(inner, float)
                ]


def test_a_figure_has_its_limits_its_unit_and_its_number(whole: Report) -> None:
    rows = {row["key"]: row for row in rows_of(whole)}
    area = rows["/audits/0/canaries/auc"]
    assert (area["arm"], area["recipe"], area["n"]) == ("sft-inf", "calibrated", "500")
    assert float(area["lower"]) < float(area["value"]) < float(area["upper"])
    assert "/audits/0/canaries/auc_lower" not in rows  # it stands beside its figure
    bound = rows["/audits/0/bound/epsilon_lower"]
    assert (bound["unit"], bound["lower"]) == ("nats", "")
    rate = rows["/extraction/1/found_rate"]
    assert (rate["n"], rate["arm"]) == ("32", "sft-eps8") and float(rate["upper"]) > float(rate["value"])
    assert rows["/arms/0/epsilon"]["value"] == "inf"
    gap = next(row for row in rows.values() if row["figure"] == "difference" and row["task"])
    assert float(gap["lower"]) < float(gap["value"]) < float(gap["upper"]) and gap["n"]
    words = {row["value"] for row in rows.values() if row["figure"] in ("word", "verdict")}
    assert {"not established", "must not be released", "no power", "not refuted"} <= words


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str, whole: Report) -> None:
    first = replace(whole.arms[0], arm=text)
    shown = replace(whole, arms=(first, *whole.arms[1:]))
    cells = {row["arm"] for row in rows_of(shown) if row["key"].startswith("/arms/0")}
    assert len(cells) == 1 and not cells.pop().startswith(records.RISKY)


# ---- JUnit


def test_claims_words_and_checks_are_cases(whole: Report) -> None:
    found = cases_of(whole)
    title = "sft-eps1: (1, 1e-05) for one patient, add_or_remove"
    assert found[title] == ("passed", "")
    assert found["sft-eps8: (8, 1e-05) for one patient, add_or_remove"][0] == "error"  # no power
    assert found["sft-eps8: release"][0] == "failure" and found["sft-eps1: release"][0] == "error"
    assert found["sft-inf: release"][0] == "skipped"  # it is there to be compared with
    assert found["sft-eps8: noise scale as claimed"] == ("passed", "")
    assert found["stage judge"] == ("passed", "")
    told = ElementTree.fromstring(records.as_junit(whole).encode()).iter("system-out")
    assert any("no noise at all would be caught" in (text.text or "") for text in told)


def test_a_refuted_claim_is_a_failure_with_its_reason(whole: Report) -> None:
    assert whole.together is not None
    refuted = replace(whole.together.answers[0], verdict="refuted", reason="more than it claims")
    together = replace(whole.together, answers=(refuted, *whole.together.answers[1:]))
    found = cases_of(replace(whole, together=together))
    assert ("failure", "refuted: more than it claims") in found.values()


def test_what_was_not_looked_at_is_no_good_news(tmp_path: Path) -> None:
    found = cases_of(made(tmp_path, "train"))
    assert found["sft-eps8: its claim"] == ("error", "no attack looked at it")
    assert found["stage audit"][0] == "error" and "type dpaudit attack mia" in found["stage audit"][1]
    assert not {name for name, (outcome, _) in found.items() if outcome == "passed"} - {
        name for name in found if name.startswith("stage train") or "loss finite" in name or "noise" in name
    }


def test_a_stage_that_nobody_planned_is_skipped(whole: Report) -> None:
    stages = replace(whole.stages, judge=Stage("not planned", "dpaudit judge", (), ()))
    assert cases_of(replace(whole, stages=stages))["stage judge"] == ("skipped", "not planned")


# ---- Markdown


def test_the_decisions_and_the_tables_are_there(whole: Report) -> None:
    text = markdown.of_page(render.render(whole))
    assert "### sft-eps8 ✗ must not be released" in text
    assert "\n## Is each claim true?\n" in text
    assert "1 of 32 planted secrets came out of it word for word" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) > 5
    for table in tables:
        widths = {line.replace("\\|", "").count("|") for line in table.splitlines()}
        assert len(widths) == 1, table
    assert "<" not in text.replace("\\<", "") and "font-family" not in text


def test_as_many_figures_as_on_the_page_but_those_of_charts(whole: Report) -> None:
    html = render.render(whole)
    text = markdown.of_page(html)
    from dpaudit.page.read_back import figures_of

    shown = {figure.text for figure in figures_of(html) if len(figure.text) > 3}
    assert len(shown) > 100
    assert not {number for number in shown if markdown.SPECIAL.sub(r"\\\1", number) not in text}


# ---- all


def _hostile(report: Report) -> dict[str, str]:
    changed = replace(report, run=replace(report.run, name=HOSTILE, description=HOSTILE * 3))
    arms = (replace(report.arms[0], training=replace(report.arms[0].training, guards=(HOSTILE,))),)
    shown = replace(changed, arms=(*arms, *report.arms[1:]))
    return {
        "csv": records.as_csv(shown),
        "junit": records.as_junit(shown),
        "md": markdown.of_page(render.render(shown)),
    }


def test_hostile_text_shows_as_text(whole: Report) -> None:
    for name, text in _hostile(whole).items():
        for character in ("\u202e", "\x00", "\x1b", "\ud800"):
            assert character not in text, name
        assert "<script" not in text.replace("\\<", ""), name
        text.encode("utf-8")
        if name == "junit":
            ElementTree.fromstring(text.encode())
            assert "HYPERLINK" in text


def test_neither_texts_nor_secrets_are_in_any(whole: Report) -> None:
    texts: dict[str, Any] = {**_hostile(whole)}
    for text in texts.values():
        assert fabricate.SECRET not in text and fabricate.TEXT not in text and "item-1" not in text


def test_a_huge_text_is_shortened(whole: Report) -> None:
    shown = replace(whole, run=replace(whole.run, description="x" * 1_000_000))
    assert len(markdown.of_page(render.render(shown))) < 200_000
