"""The script that compares two reports misses no figure."""

import json
import math
from pathlib import Path

import compare_reports
import fabricate
import pytest

from dpaudit.stages import report
from dpaudit.system.progress import Progress


@pytest.fixture
def made(tmp_path: Path) -> dict:
    run_dir, plan = fabricate.run(tmp_path)
    report.run(run_dir, plan, Progress(quiet=True))
    return json.loads(run_dir.file("report/report.json").read_text(encoding="utf-8"))


def test_a_report_is_as_itself(made: dict) -> None:
    assert list(compare_reports.differences(made, made)) == []


def test_every_figure_that_changes_goes_or_comes_is_told(made: dict) -> None:
    old = json.loads(json.dumps(made))
    old["audits"][0]["bound"]["epsilon_lower"] = 9.5
    old["extraction"][0]["exposure"]["planted"][3] += 1
    old["quality"][0]["gone"] = 3
    del old["arms"][0]["trainings"], old["format"], old["audits"][0]["unit"]
    lines = [line.split(":")[0] for line in compare_reports.differences(old, made)]
    assert lines == [
        "unexpected /arms/0/trainings",
        "changed /audits/0/bound/epsilon_lower",
        "new /audits/0/unit",
        "changed /extraction/0/exposure/planted/3",
        "new /format",
        "gone /quality/0/gone",
    ]


def test_absent_null_and_empty_are_the_same_and_so_are_both_spellings_of_infinity() -> None:
    old = {"together": {}, "judge": {}, "a": 1, "e": math.inf}
    new = {"together": None, "judge": None, "a": 1.0, "b": None, "c": [], "e": "inf"}
    assert list(compare_reports.differences(old, new)) == []


def test_a_moved_figure_is_found_at_its_new_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_reports, "MOVED", ((r"/arms/(\d+)/spent", r"/arms/\1/privacy/epsilon_pld"),))
    old, new = {"arms": [{"spent": 2.0}]}, {"arms": [{"privacy": {"epsilon_pld": 2.0}}]}
    assert list(compare_reports.differences(old, new)) == []


def test_new_figures_alone_are_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data in (("old", {"a": 1}), ("new", {"a": 1, "format": "report/1"}), ("other", {"a": 2})):
        (tmp_path / name).write_text(json.dumps(data))
    assert compare_reports.main(str(tmp_path / "old"), str(tmp_path / "new")) == 0
    assert capsys.readouterr().out == "new /format: 'report/1'\n"
    assert compare_reports.main(str(tmp_path / "old"), str(tmp_path / "other")) == 1
