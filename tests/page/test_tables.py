"""What a command prints as text."""

from pathlib import Path
from typing import Any

import pytest

from dpaudit.page import tables


def test_current_outputs_are_told_by_folder_and_stale_ones_by_name() -> None:
    files = {
        "audit/sft-inf/loss.json": "current",
        "audit/sft-inf/zlib.json": "current",
        "report/report.json": "stale",
    }
    told = tables.as_text({"outputs": [{"file": file, "state": state} for file, state in files.items()]})
    assert [line.split() for line in told.splitlines()[1:]] == [
        ["audit/sft-inf/", "2", "current"],
        ["report/report.json", "stale"],
    ]


def test_no_finding_is_printed_as_python_writes_it() -> None:
    """Nor where nobody wrote headings for it."""
    rows = [{"of": {"kind": "a", "count": None}, "in": [1, 2], "was_checked": True}]
    told = tables.as_text({"unforeseen": rows, "other": {"inner": {"list": ["x"], "none": None}}})
    assert told.splitlines() == [
        "of               in    was checked",
        "kind a, count –  1, 2  yes",
        "",
        "other: inner list x, none –",
    ]


def test_a_ceiling_is_rounded_as_on_the_page(tmp_path: Path) -> None:
    rows = [{"arm": "a", "ceiling": 4.1899}]
    assert "4.18" in tables.as_text({"verdicts": rows})


def rate(arm: str, absent: str | None) -> dict[str, Any]:
    limits = {"lower": 0.101, "upper": 1.0, "corrected_lower": 0.1, "corrected_upper": 1.0}
    beside = {"corrected_rate": 0.5, "equal_length_rate": None, "equal_length_absent": absent}
    counts = {"prompts": 1200, "unscored": 1100, "right": "1101 and 1102 of 1200"}
    pair = {"arm": arm, "against": f"{arm}-without-noise", "win_rate": 0.9999, "caution": "few facts " * 9}
    return pair | limits | beside | counts


def test_a_win_rate_has_its_limits_and_the_words_for_what_is_missing() -> None:
    told = tables.as_text({"pairs": [rate("a", "almost no wins"), rate("b", None) | {"caution": ""}]})
    first, beside, cautions = told.split("\n\n")
    assert "100.0 % [10.1, 100.0]" in first and "50.0 % [10.0, 100.0]  none: almost no wins" in beside
    assert "few facts few" in cautions and "b-without-noise" not in cautions


@pytest.mark.parametrize("width", [100, 80])
def test_tables_of_a_judge_lose_nothing_at_the_width_of_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rows = [rate("dpo-sigmoid-eps8", "too little difference in lengths: 12 of 345 characters")]
    control = {"control": "asked twice: same verdict", "outcome": "counts neither way", "facts": 1200}
    control |= {"controls": 1200, "right": 2400, "verdicts": 2400, "unscored": 1, "rate": 1.0, "lower": 1.0}
    tried = {
        "rubric": "endpoint",
        "model": "a/model-70b",
        "date": "2026-01-01T00:00:00Z",
        "why_not": "x" * 90,
    }
    ladder = {
        "arms": ["dpo-sigmoid-eps8"] * 5,
        "against": "base",
        "facts": 1200,
        "unscored": 9,
        "p_value": 0.5,
    }
    values = {"pairs": rows, "controls": [control], "judges_tried": [tried], "trends": [ladder]}
    told = tables.as_text(values | {"reasons": [{"reason": "wrong drug: " * 20}]})
    assert max(map(len, told.splitlines())) <= width and "…" not in told
    for whole in ("2,400", "unscored", "lower limit", "2026-01-01T00:00:00Z", "100.0 % [10.1, 100.0]"):
        assert whole in told, whole
    assert told.count("x") >= 90 and told.count("few") == 9
