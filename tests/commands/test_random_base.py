"""Trainings on random weights of a known shape: what they took is told; nothing else means anything."""

import json
from pathlib import Path

from typed import Call

from dpaudit.suite.plan import RANDOM_WEIGHTS


def test_memory_and_speed_are_told_and_kept(call: Call) -> None:
    """The suite's data, model, attacks and benchmarks are left out; the run says that weights are random."""
    trained = call("train", "--suite", "mini.yaml", "--model", "random:toy", "--steps", "1")
    assert trained.code == 0, trained.err
    assert RANDOM_WEIGHTS in trained.out and "peak memory of one" in trained.out and "tokens/s" in trained.out
    shown = json.loads(call("show", "--json").out)
    assert {row["steps"] for row in shown["arms"]} == {1} and shown["model"] == "random:toy"
    for row in shown["took"]:
        assert row["peak_memory_mb"] > 50 and row["tokens_per_second"] > 0 and row["longest"] > 10
        assert row["device"] and row["devices"] == 1
    assert [row["arm"] for row in shown["took"]] == ["sft-inf", "sft-eps8"]
    card = Path(shown["path"], "train/sft-eps8/adapter/README.md").read_text(encoding="utf-8")
    assert "weights are random" in card and "from_pretrained" not in card
    page = Path(json.loads(call("report", "html", "--json").out)["page"]).read_text(encoding="utf-8")
    assert "The base's weights are random." in page and "Devices and longest sequences:" in page
    assert "sft-eps8" in page and "may be released" not in page.partition("The rule:")[0].replace("not", "")
    merged = call("merge", "--arm", "sft-eps8", "--out", "merged")
    assert merged.code == 2 and "got random weights" in merged.err and not Path("merged").exists()


def test_too_little_memory_is_told_before_a_run_begins(call: Call) -> None:
    done = call("train", "--suite", "mini.yaml", "--model", "random:llama-3.2-1b", "--micro-batch", "4000000")
    assert done.code == 3, done
    (line,) = [line for line in done.err.splitlines() if not line.endswith("...")]
    assert line.startswith("dpaudit: memory: expected about ") and "4000000 sequences in one pass" in line
    assert not list(Path("runs").glob("*"))


def test_an_unknown_shape_is_one_line(call: Call) -> None:
    done = call("train", "--suite", "mini.yaml", "--model", "random:llama-9b")
    assert done.code == 2 and "--model random:llama-9b: expected one of random:llama-3.1-8b" in done.err
    assert not Path("runs").exists()
