"""A finding is what its file holds: written, read back, and refused by name where it is another format."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from dpaudit import schema
from dpaudit.errors import UsageError
from dpaudit.findings.baselines import Blind
from dpaudit.findings.finding import Finding, format_of
from dpaudit.findings.membership import Curve
from dpaudit.findings.quality import HeldOut, Item, Measured, Quality, Score
from dpaudit.privacy.claim import Claim
from dpaudit.storage.rundir import RunDir

MEASURED = Measured(
    Quality("sft-eps8", (), None, 0),
    {"t": (Item("a", 1, -0.5, "c", 0.7, (-1.0, -0.5), "p"),)},
    {"t": {"rouge_l": (Score("a", "c", "p", 0.4),)}},
    (HeldOut("r", 8.0, 4),),
    {},
    {},
)

REST = (0.5, "c", 0.7, [], "p", [], 0, 0)  # of an item


@dataclass(frozen=True)
class Bound(Finding):
    FORMAT: ClassVar = "bound/2"
    epsilon: float
    curve: tuple[float, ...] = ()
    reason: str | None = None


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    for finding in (MEASURED, Bound(math.inf, (0.0, 1.0))):
        finding.write(run_dir, "evaluate/x.json")
        assert type(finding).read(run_dir, "evaluate/x.json") == finding
        assert format_of(run_dir, "evaluate/x.json") == finding.FORMAT


def test_infinity_is_a_text_and_none_is_kept() -> None:
    assert Bound(math.inf).to_json() == {"format": "bound/2", "epsilon": "inf", "curve": [], "reason": None}


def test_another_format_is_refused_by_name_with_the_way_out(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    for written, told in (({"format": "quality/9"}, "quality/9"), ({}, "no format")):
        run_dir.write_json("evaluate/sft-eps8.json", MEASURED.to_json() | {"format": None} | written)
        with pytest.raises(UsageError) as error:
            Measured.read(run_dir, "evaluate/sft-eps8.json")
        line = str(error.value)
        assert line.startswith(f"{tmp_path}/evaluate/sft-eps8.json: format: expected quality/6, got {told};")
        assert (
            f"type `dpaudit eval --run {tmp_path.name}` again" in line
            and "\n" not in line
            and error.value.exit_code == 2
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"quality": {}}, "quality.arm: expected a value, got no value"),
        (
            {"texts": ["secret"]},
            "texts: expected one of quality, items, scores, heldout, base, asked, got an unknown",
        ),
        ({"items": {"t": [["a", 1, 0.5]]}}, "items.t[0]: expected a list of id, correct, log_odds, cluster"),
        ({"items": {"t": [["a", "yes", *REST]]}}, "items.t[0].correct: expected a whole number"),
        ({"items": {"t": [["a", -1, *REST]]}}, "items.t[0].correct: expected at least 0, got -1"),
    ],
)
def test_what_does_not_fit_names_file_key_and_command(tmp_path: Path, change: dict, told: str) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.write_json("evaluate/sft-eps8.json", MEASURED.to_json() | change)
    with pytest.raises(UsageError) as error:
        Measured.read(run_dir, "evaluate/sft-eps8.json")
    assert f"evaluate/sft-eps8.json: {told}" in str(error.value)
    assert f"type `dpaudit eval --run {tmp_path.name}` again" in str(error.value)


def test_only_values_that_json_has_are_written() -> None:
    with pytest.raises(TypeError, match="set"):
        schema.plain({"a": {1, 2}})
    assert schema.plain(replace(MEASURED, base={"b": "c"}))["base"] == {"b": "c"}


@pytest.mark.parametrize("auc", [-5.0, 1.5, math.nan])
def test_a_figure_outside_of_its_range_is_refused(auc: float) -> None:
    blind = {"auc": auc, "auc_lower": 0.0, "auc_upper": 1.0, "p_value": 1.0, "alarm": False}
    blind |= {"units": 3, "finding": "silent"}
    with pytest.raises(UsageError, match=r"^x.json: auc: expected at least 0 and at most 1, got "):
        schema.build(Blind, blind, file="x.json")
    assert schema.build(Blind, blind | {"auc": 1.0}, file="x.json").auc == 1.0


def test_what_a_dataclass_refuses_is_one_line_too() -> None:
    """A claim out of range, a curve whose lists differ in length: in a file whose stamp is right."""
    claim = {"epsilon": -1.0, "delta": 1e-5, "unit": "patient", "relation": "add_or_remove"}
    with pytest.raises(UsageError, match=r"^x.json: claim.epsilon: expected a number of 0 or more, got -1.0"):
        schema.build(Claim, claim, file="x.json", key="claim")
    curve = {"fpr": [0.0, 1.0], "tpr": [0.0, 1.0], "tpr_lower": [0.0], "tpr_upper": [0.0, 1.0]}
    with pytest.raises(UsageError, match=r"^x.json: curve.tpr_lower: expected 2 values, .*, got 1 values"):
        schema.build(Curve, curve, file="x.json", key="curve")
