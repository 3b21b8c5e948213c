"""`dpaudit plan`: what a suite will do, take and be able to prove, and all of its mistakes at once."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typed import MINI, Call, dialogue, one_line

BARE = ("--no-measure", "--json")


def found(call: Call, *words: str) -> dict[str, Any]:
    done = call(*words, *BARE)
    assert done.code == 0, done.err
    told: dict[str, Any] = json.loads(done.out)
    return told


def test_a_plan_tells_what_a_dry_run_tells_and_leaves_nothing(call: Call) -> None:
    told, dry = found(call, "plan", "mini.yaml"), found(call, "run", "mini.yaml", "--dry-run")
    moves = {"disk", "arms_train"}  # coins fall otherwise, and memory is free otherwise
    assert [told[key] for key in told if key not in moves] == [dry[key] for key in dry if key not in moves]
    assert [row["arm"] for row in told["forecast"]] == ["sft-inf", "sft-eps8"]
    (learned,) = told["learned"]
    assert (learned["method"], learned["patients"], learned["cut"]) == ("sft", 150, 0.0)
    assert learned["canaries"] == pytest.approx((100 + 4) / 2 / learned["units"], rel=0.01)
    (claim,) = told["claims_ahead"]
    assert claim["answer"] == "no power, whatever comes" and claim["right_needed"] is None
    assert "at least 500 units" in claim["to_change"] and "a smaller claim" in claim["to_change"]
    sizes = {row["what"]: row["bytes"] for row in told["disk"]}
    assert sizes.pop("in all, about") == sum(sizes.values())
    assert told["judge_ahead"] == [] and not Path("runs").exists()
    assert sum("more than a fifth" in line for line in told["warnings"]) == 1
    assert sum("sft-eps8, epsilon 8: no power" in line for line in told["warnings"]) == 1


def test_a_plan_is_printed_in_tables_with_its_warnings_last(call: Call) -> None:
    done = call(
        "plan", "--suite", "mini.yaml", "--no-measure", "--unit", "record", "--set", "model.max_length=60"
    )
    assert done.code == 0 and "{" not in done.out
    assert "rows cut" in done.out and "on the disk, estimated" in done.out
    warnings = [line for line in done.out.splitlines() if line.startswith("warning: ")]
    assert done.out.splitlines()[-len(warnings) :] == warnings
    for part in (
        "of the rows of sft are cut",
        "the data name 150 patients",
        "are canaries, more than a fifth",
    ):
        assert sum(part in line for line in warnings) == 1, part


@pytest.mark.parametrize(("length", "wanted"), [(60, "above 60, up to 256,"), (256, "no longer ones")])
def test_cut_rows_are_told_a_length_that_the_model_reads(length: int, wanted: str, call: Call) -> None:
    rows = [{"question": f"What is {number}?", "answer": "It hurts. " * 90} for number in range(200)]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = found(call, "plan", "mini.yaml", "--unit", "record", "--data", "own.jsonl", "--set",
        f"model.max_length={length}")  # fmt: skip
    (warning,) = [line for line in told["warnings"] if "rows of sft are cut" in line]
    assert wanted in warning


def test_a_draft_tells_the_share_of_canaries_that_its_plan_tells(call: Call) -> None:
    Path("own.jsonl").write_text("".join(dialogue(number) for number in range(60)))
    drafted = json.loads(call("init", "own.jsonl", "--json").out)["warnings"]
    planned = found(call, "plan", "suite.yaml")["warnings"]
    shares = [
        [re.search(r"\d+ ?%", line)[0] for line in lines if "canaries" in line and "a fifth" in line]  # type: ignore[index]
        for lines in (drafted, planned)
    ]
    assert shares[0] == shares[1] and len(shares[0]) == 1


@pytest.mark.parametrize("command", ["plan", "train"])
def test_only_the_named_arm_is_planned(command: str, call: Call) -> None:
    words = ("plan", "mini.yaml") if command == "plan" else ("train", "--suite", "mini.yaml", "--dry-run")
    told = found(call, *words, "--arm", "sft-inf")
    assert [row["arm"] for row in told["forecast"]] == ["sft-inf"] and told["claims_ahead"] == []
    one_line(call(*words, "--arm", "sft-eps9"), "--arm sft-eps9", "one of sft-inf, sft-eps8")


def test_a_suite_may_be_named_once(call: Call) -> None:
    one_line(call("plan", "mini.yaml", "--suite", "demo"), "--suite: expected one suite")
    one_line(call("plan", "none.yaml"), "none.yaml")
    one_line(
        call("plan", "mini.yaml", "--data", "none.jsonl", "--set", "grid.dpo=[]"),
        "none.jsonl",
        "no such file",
    )


def test_all_mistakes_of_a_suite_are_told_in_one_go(call: Call) -> None:
    """Of an unknown key, a value of another type and two that are out of range."""
    suite = MINI | {"modle": {}, "data": MINI["data"] | {"heldout": "few"}}
    suite |= {"candidates": MINI["candidates"] | {"canaries": -1, "temperature": 0}}
    Path("wrong.yaml").write_text(yaml.safe_dump(suite))
    done = call("plan", "wrong.yaml")
    lines = done.err.splitlines()
    assert (done.code, done.out, len(lines)) == (2, "", 4), lines
    for part in (
        "wrong.yaml: modle: ",
        "data.heldout: ",
        "candidates.canaries: ",
        "candidates.temperature: ",
    ):
        assert sum(part in line for line in lines) == 1, part
    settings = ("data.rows='9:3'", "grid.stages=[]", "training.unit=pair")
    done = call("plan", "mini.yaml", *(word for setting in settings for word in ("--set", setting)))
    assert done.code == 2 and [line.split(": ")[1] for line in done.err.splitlines()] == ["data.rows", "grid"]


def test_mistakes_that_only_the_data_show_are_told_in_one_go(call: Call) -> None:
    """Forty records are too few for what is held out, for the coins and for the batches; once all is mended
    as the lines say, the suite can be planned.
    """
    Path("d.jsonl").write_text("".join(map(dialogue, range(40))))
    words = ("plan", "mini.yaml", "--no-measure", "--data", "d.jsonl", "--unit", "record")
    wrong = (
        "data.heldout=50",
        "candidates.records=30",
        "training.private.batch=90",
        "candidates.canaries=100",
    )
    done = call(*words, *(word for setting in wrong for word in ("--set", setting)))
    lines = [line for line in done.err.splitlines() if line.startswith("dpaudit: ")]
    assert done.code == 2 and len(lines) == 3, done.err
    for part in ("data.heldout = 50 records, got 40", "candidates.records", "training.private.batch"):
        assert sum(part in line for line in lines) == 1, part
    mended = [line.rpartition("--set ")[2] for line in lines]
    again = call(*words, *(word for setting in mended for word in ("--set", setting)))
    assert again.code == 0, again.err
