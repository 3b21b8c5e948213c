"""The scorecard as it is typed, from files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from test_scorecard import choices, nouns, private
from typed import Call, one_line

from dpaudit.data.answer_files import Answer
from dpaudit.judging.scored_files import FAULTS


def rows(items: Sequence[Answer]) -> list[dict[str, Any]]:
    names = {"name": "name_key", "is_member": "member"}
    kept = [
        {names.get(key, key): value for key, value in asdict(item).items() if key != "is_cut"}
        for item in items
    ]
    return [
        row | {"finish_reason": "length" if item.is_cut else "stop"}
        for row, item in zip(kept, items, strict=True)
    ]


def write(path: str, *items: Sequence[Answer]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for part in items for row in rows(part)]
    Path(path).write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_figures_faults_and_what_is_missing(call: Call) -> None:
    write("answers.jsonl", nouns(), choices(), private())
    done = call("scorecard", "answers.jsonl", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["composite"] is None and found["composite_not_computable"] == "without win rate"
    names = [figure["name"] for figure in found["scorecard"]]
    assert (
        names[0] == "ROUGE-L nouns" and names[-1] == "composite without win rate" and "win rate" not in names
    )
    assert all(
        figure["lower"] <= figure["value"] <= figure["upper"]
        for figure in found["scorecard"]
        if figure["lower"] is not None
    )
    assert {fault["figure"] for fault in found["faults"]} == {"win rate", "ROUGE-L privacy", "composite"}
    text = call("scorecard", "answers.jsonl").out
    assert (
        "composite not computable: without win rate" in text
        and "win rate left out: no judge was asked" in text
    )
    assert len(found["faults"]) == len(FAULTS) and "赢" in text


def test_a_win_rate_completes_the_composite(call: Call) -> None:
    write("answers.jsonl", nouns(), choices(), private())
    found = json.loads(call("scorecard", "answers.jsonl", "--win", "0.55", "--json").out)
    by_name = {figure["name"]: figure for figure in found["scorecard"]}
    quality = [by_name[name]["value"] for name in ("win rate", "ROUGE-L nouns", "choice accuracy")]
    wanted = (sum(quality) / 3 + 1 - by_name["ROUGE-L privacy"]["value"]) / 2
    assert found["composite"] == pytest.approx(wanted, abs=1e-12) and quality[0] == 0.55
    assert f"composite: {wanted:.3f}" in call("scorecard", "answers.jsonl", "--win", "0.55").out
    assert found["composite_not_computable"] is None and by_name["composite"]["lower"] is None


def test_a_collapsed_model_is_named_and_no_composite_printed(call: Call) -> None:
    same = [Answer(item.name, "no", item.reference) for item in nouns()]
    write("answers.jsonl", same, private())
    text = call("scorecard", "answers.jsonl", "--win", "0.9").out
    why = "one answer, word for word, to 10 of 10 questions"
    assert f"composite not computable: signs of a model that collapsed: {why}" in text
    assert "collapsed: yes" in text
    found = json.loads(call("scorecard", "answers.jsonl", "--win", "0.9", "--json").out)
    assert found["composite"] is None and found["collapsed"]
    assert not [figure for figure in found["scorecard"] if figure["name"].startswith("composite")]


def test_limits_are_told_where_the_file_does_not_know(call: Call) -> None:
    lines = [{"name_key": f"privacy_{i}", "answer": "no", "reference": "Elm Street"} for i in range(3)]
    Path("answers.json").write_text(json.dumps(lines))
    text = call("scorecard", "answers.json").out
    assert "privacy without a contrast" in text and "no row has finish_reason" in text
    lines[0]["finish_reason"] = "length"
    Path("answers.json").write_text(json.dumps(lines))
    text = call("scorecard", "answers.json").out
    assert "no row has finish_reason" not in text and "an answer that was cut off" in text
    assert "an answer of over 1 characters" in call("scorecard", "answers.json", "--longest", "1").out


def test_the_rows_that_the_docs_show_are_read(call: Call) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scorecard.md").read_text(encoding="utf-8")
    rows_shown = page.partition("```json\n")[2].partition("```")[0]
    Path("answers.jsonl").write_text(rows_shown, encoding="utf-8")
    found = json.loads(call("scorecard", "answers.jsonl", "--json").out)
    items = {figure["name"]: figure["items"] for figure in found["scorecard"]}
    kinds = ("ROUGE-L nouns", "choice accuracy", "ROUGE-L privacy", "privacy: non-members")
    assert [items[name] for name in kinds] == [1] * 4 and found["set_aside"] == []


def test_one_line_for_each_mistake(call: Call) -> None:
    write("answers.jsonl", nouns())
    one_line(call("scorecard", "answers.jsonl", "--win", "55"), "--win: expected a rate between 0 and 1")
    one_line(call("scorecard", "answers.jsonl", "--win", "nan"), "--win: expected a rate between 0 and 1")
    one_line(call("scorecard", "none.jsonl"), "none.jsonl: expected a readable data file")
    assert "hub id" not in call("scorecard", "none.jsonl").err
    Path("talk.jsonl").write_text('{"name_key": "qa_1", "answer": "a secret"}\n')
    one_line(call("scorecard", "talk.jsonl"), "got no item that can be measured, of 1")
    one_line(call("scorecard", "answers.jsonl", "--reference", "talk.jsonl"), "got none of them")
