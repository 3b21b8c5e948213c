"""What a run found, in rows and in the tables of the terminal; the commands that print them."""

from dataclasses import replace
from pathlib import Path

import fabricate
import pytest
from typed import Call

from dpaudit import content
from dpaudit.commands import attack, extracted, outcomes
from dpaudit.findings.extraction import PersonalFields
from dpaudit.findings.quality import MeasureChange
from dpaudit.page import tables
from dpaudit.page.formats import show


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("attack mia --recipe extraction", ["--recipe extraction", "kind mia: calibrated", "attack extract"]),
        (
            "attack extract --recipe loss",
            ["--recipe loss", "kind extract: discoverable, extraction, pii", "attack mia"],
        ),
        ("attack mia --recipe nope", ["attacks/nope", "calibrated"]),
    ],
)
def test_a_recipe_of_another_kind_is_refused(call: Call, words: str, wanted: list[str]) -> None:
    fabricate.run(Path("runs"))
    done = call(*words.split())
    assert (done.code, done.out) == (2, "") and all(part in done.err for part in wanted), done


def test_a_faulty_recipe_of_ones_own_stops_what_would_use_it_alone(call: Call) -> None:
    fabricate.run(Path("runs"))
    Path("attacks").mkdir()
    Path("attacks/mine.yaml").write_text((content.shipped("attacks") / "min_k.yaml").read_text())
    assert "mine.yaml: name: expected mine, got min_k" in call("attack", "mia").err
    told = call("attack", "mia", "--recipe", "nope").err
    assert "attacks/nope" in told and "mine.yaml" not in told


def test_an_attack_shows_the_arms_and_recipes_that_were_asked_for(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    every = outcomes.verdict_rows(run_dir, plan)
    assert outcomes.narrowed(every, None, None) == every
    one = outcomes.narrowed(every, ["sft-eps4"], ["loss"])
    assert [(row["arm"], row["recipe"]) for row in one] == [("sft-eps4", "loss")]
    (secrets,) = outcomes.narrowed(extracted.extraction_rows(run_dir, plan), ["sft-inf"], ["extraction"])
    assert secrets["arm"] == "sft-inf"


def test_a_kind_of_field_that_nobody_has_gets_no_row_and_the_sum_keeps_its_own(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    every = [row for row in extracted.pii_rows(run_dir, plan) if row["arm"] == "sft-inf"]
    assert [row["field"] for row in every] == ["phone", "email", "all"]
    file = run_dir.file("audit/sft-inf/pii.json")
    found = PersonalFields.read(run_dir, "audit/sft-inf/pii.json")
    nobody = replace(found.by_kind[0].members, fields=0, completed=0, given=0)
    empty = replace(found.by_kind[0], members=nobody, non_members=nobody)
    file.unlink()
    none = replace(found, by_kind=(empty, found.by_kind[1]))
    none.write(run_dir, "audit/sft-inf/pii.json", ["plan.json"])
    few = [row for row in extracted.pii_rows(run_dir, plan) if row["arm"] == "sft-inf"]
    assert few == every[1:]


def test_an_auc_that_tells_nothing_says_so_in_rows_and_tables(tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    rows = outcomes.verdict_rows(run_dir, plan)
    names = ("auc", "records_auc", "blind_auc")
    for row in rows:
        like_chance = row["auc_lower"] <= 0.5 <= row["auc_upper"]
        assert row["auc_says"] in (("like chance", "too few") if like_chance else (None, "too few"))
    silent = rows[0] | dict.fromkeys(f"{name}_says" for name in names)
    assert "like chance" not in tables.as_text({"verdicts": [silent]})
    for name in names:
        assert "too few" in tables.as_text({"verdicts": [silent | {f"{name}_says": "too few"}]})


def test_a_table_of_attacks_has_limits_exposures_and_whose_recipe_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    row = outcomes.verdict_rows(run_dir, plan)[0]
    told = tables.as_text({"verdicts": [row]})
    assert f"[{show(row['auc_lower'], 'three_down')}, {show(row['auc_upper'], 'three_up')}]" in told
    assert "95 %" in told and show(row["blind_auc"], "three") in told and row["records_n"] > 0
    secrets = extracted.extraction_rows(run_dir, plan)[0]
    assert secrets["median_planted"] is not None and secrets["space_bits"] > 0
    assert "median exposure" in tables.as_text({"extraction": [secrets]})
    (tmp_path / "attacks").mkdir()
    mine = (content.shipped("attacks") / "loss.yaml").read_text().replace("name: loss", "name: mine")
    (tmp_path / "attacks/mine.yaml").write_text(mine)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "90")
    rows = attack.recipe_rows()
    assert [found["name"] for found in rows if found["own"]] == ["mine"]
    listed = tables.as_text({"recipes": rows}).splitlines()
    assert max(map(len, listed)) <= 90 and any(line.split()[:2] == ["mine", "yes"] for line in listed)


def test_an_unfit_judge_is_told_with_its_reason_and_no_win_rate(tmp_path: Path) -> None:
    fit, _ = fabricate.run(tmp_path)
    assert outcomes.judge_summary(fit)["pairs"][0]["win_rate"] == 0.81
    unfit, _ = fabricate.run(tmp_path / "unfit", judge_fit=False)
    told = outcomes.judge_summary(unfit)
    assert (
        "pairs" not in told
        and told["reason"]
        == "negated warning: 31 of 60 right on 60 distinct controls, lower limit 0.38 below 0.75"
    )
    assert "reason: negated warning" in tables.as_text(told)


def test_measures_of_answers_are_compared_on_the_terminal_too() -> None:
    lost = MeasureChange(
        "sft-eps8", "base", "harm", "refusal", True, -0.1, -0.2, -0.05, 0.001, 0.002, "worse", None, 60, 58
    )
    cut = replace(lost, measure="log perplexity", higher_is_better=False, word="cannot tell")
    cut = replace(cut, reason="prompts cut")
    rows = outcomes.compared((), (lost, cut, replace(cut, reason="neither is shown")), 0.05, 59)
    told = tables.as_text(rows)
    assert "refusal (more is better)" in told and "log perplexity (less is better)" in told
    assert [row["said"] for row in rows["compared_measures"]] == [
        "worse",
        "cannot tell: more than half of the prompts were cut, so another benchmark was asked",
        "cannot tell: p 0.002 after Holm's correction",
    ]
    assert "\N{MINUS SIGN}0.100" in told and "harm" in told


def test_a_comparison_on_the_terminal_has_the_words_and_figures_of_the_page(tmp_path: Path) -> None:
    run_dir, _ = fabricate.run(tmp_path)
    found = outcomes.compared_tables(run_dir)
    told = tables.as_text(found)
    for row in found["compared"]:
        for key, style in (("difference", ""), ("lower", "_down"), ("upper", "_up")):
            assert show(row[key], f"signed_points{style}") in told
    words = {row["said"] for row in found["compared"]}
    assert {"no worse than 5.0 points below", "worse, by more than 5.0 points"} <= words
    assert any(word.startswith("cannot tell: the data show neither (p no worse 0.040") for word in words)
    assert all(word in told for word in words) and "<" not in told.replace("< 0.001", "")
    assert {row["arm"] for row in found["compared_text"]} == {row["arm"] for row in found["compared"]}
    assert "bits per byte, less is better" in told
