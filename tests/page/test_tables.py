"""What a command prints as text."""

from pathlib import Path

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
