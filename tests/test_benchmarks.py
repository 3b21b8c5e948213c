"""Published figures that a benchmark reproduces, with fewer runs than it keeps; what is kept is what the docs
say.
"""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dpaudit.privacy.accountants import epsilon_rdp
from dpaudit.privacy.mechanism import Mechanism

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NOISE = 2.4263  # for epsilon 2 at delta 1e-5, rate 1/10 and 100 steps, by RDP


def kept(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        (BENCHMARKS / "results" / f"{name}.json").read_text(encoding="utf-8")
    )["results"]
    return found


def told(figure: dict[str, Any], places: int = 3) -> str:
    return f"{figure['mean']:.{places}f} ± {figure['standard_error']:.{places}f}"


def test_the_page_on_audits_says_what_was_measured() -> None:
    text = (BENCHMARKS.parent / "docs" / "measurements.md").read_text(encoding="utf-8")
    for row in kept("whitebox"):
        bound = row["bound"]
        assert (
            f"| {row['claim']:g} | {told(bound)} | {told(bound['further'])} | {bound['expected']:.3f} |"
            in text
        )
    for setting in [("rdp", 1e-5), ("rdp", 0.0), ("pld", 1e-5)]:
        cells = [told(row) for row in kept("keinan") if (row["noise"], row["delta"]) == setting]
        assert f"| {' | '.join(cells)} |" in text
    for row in kept("whitebox_axes"):
        cells = [told(row[kind], places=2) for kind in ("plain", "weighted", "adaptive_weighted")]
        (line,) = (
            line
            for line in text.splitlines()
            if line.startswith(f"| {row['axes']} × {row['canaries_on_each']} |")
        )
        assert f"| {' | '.join(cells)} |" in line


def test_the_page_on_audits_says_what_came_of_whole_trainings() -> None:
    text = (BENCHMARKS.parent / "docs" / "measurements.md").read_text(encoding="utf-8")
    strangers, own = (
        json.loads((BENCHMARKS / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("stranger_audit", "own_engine")
    )
    for run in strangers["cases"]["strong"]["runs"]:
        cells = (
            run["seed"],
            run["correct"],
            down(run["epsilon_lower"], 2),
            down(run["auc"], 4),
            f"{run['p_value']:.4f}",
            run["control_correct"],
            down(run["power"], 2),
            run["verdict"],
        )
        assert f"| {' | '.join(map(str, cells))} |" in text
    for case, rows in {
        "weak-constant": "120 of MedQuAD | constant",
        "weak": "120 of MedQuAD | rises and falls",
        "weak-questions": "100 of MeQSum | rises and falls",
    }.items():
        for run in strangers["cases"][case]["runs"]:
            (line,) = [line for line in text.splitlines() if line.startswith(f"| {rows} | {run['seed']} |")]
            found = run["correct"], down(run["epsilon_lower"], 2), down(run["auc"], 4)
            assert f"| {' | '.join(map(str, found))} |" in line and line.endswith(f"| {run['verdict']} |")
    for run in strangers["cases"]["natural"]["runs"]:
        cells = (
            f"natural | {run['seed']}",
            run["correct"],
            down(run["epsilon_lower"], 2),
            down(run["auc"], 4),
            run["control_correct"],
            down(run["visible_auc"], 4),
            run["verdict"],
        )
        assert f"| {' | '.join(map(str, cells))} |" in text
    counts = (
        own["refuted_by_one_run"],
        own["refuted_from_inside_by_one_run"],
        own["refuted_by_mechanism_test"],
    )
    assert len(own["runs"]) == 20
    told = (
        "the one-run bound refutes {} of 20, from inside {} of 20, and the mechanism test, at 5 %, {} of 20"
    )
    assert told.format(*counts) in " ".join(text.split())


def test_the_page_says_how_many_operations_were_counted() -> None:
    text = (BENCHMARKS.parent / "docs" / "measurements.md").read_text(encoding="utf-8")
    rows = [row for row in kept("operations") if row["model"] == "60M"]
    for name in ("dp", "same", "peft", "opacus"):
        order = sorted(rows, key=lambda row: (row["checkpointing"], row["unit"] != "record"))
        cells = [f"{row[name]['kernels']:,}" if name in row else "–" for row in order]
        assert f" | {' | '.join(cells)} |" in text
    for row in kept("operations"):
        for kind in ("operations", "kernels"):
            assert row["dp"][kind] <= row["peft"][kind]
            assert row["dp"][kind] <= 1.25 * row["same"][kind]


def test_the_page_has_the_table_of_the_field() -> None:
    text = (BENCHMARKS.parent / "docs" / "measurements.md").read_text(encoding="utf-8")
    found = json.loads((BENCHMARKS / "results" / "field.json").read_text(encoding="utf-8"))
    rows = [line for line in text.partition("## The field")[2].splitlines() if line.startswith("| ")]
    for name, entry in found.items():
        (row,) = [line for line in rows if line.startswith(f"| {name} |")]
        for word in (entry["inside"], entry["outside"]):
            assert word is None or f"| {word['verdict']}" in row
        for check in entry["inside"]["failed"]:
            assert f"*{check}*" in row


def down(value: float, places: int) -> str:
    """The value rounded down, as pages write what was shown at least."""
    return f"{math.floor(value * 10**places) / 10**places:.{places}f}"


def script_of(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its own module
    spec.loader.exec_module(module)
    return module


def test_the_page_on_scores_has_the_tables_of_its_benchmark() -> None:
    text = (BENCHMARKS.parent / "docs" / "scores.md").read_text(encoding="utf-8")
    first, second = script_of("score_choice").table(kept("score_choice")).split("\n\n")
    assert first in text and second in text


def test_the_chosen_score_is_within_a_hundredth_of_the_best_of_all() -> None:
    """In every rendering, by every score, of at least six trainings of chat and two of plain text."""
    found = kept("score_choice")
    assert [row["form"] for row in found].count("chat") >= 6
    assert [row["form"] for row in found].count("plain") >= 2
    for row in found:
        of = row["renderings"]
        best = max(value for one in of.values() for value in one["auc"].values())
        assert of[row["chosen_by"]["trace"]]["auc"]["residual"] >= best - 0.01


@pytest.mark.slow
def test_the_agreement_with_lm_eval_is_over_the_items_that_a_limit_draws(
    toy_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain lm-eval is asked the same ones; a side that was asked others is told."""
    script = script_of("lm_eval_agreement")
    rows = [
        {"id": f"q{n}", "question": f"Fever {n}?", "choices": ["yes", "no"], "answer": n % 2}
        for n in range(12)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(script, "FILES", {"medqa_us_file": "items.jsonl"})
    monkeypatch.setattr(script, "ITEMS", 4)
    seen: list[dict[str, Any]] = []
    compared = script.compared
    monkeypatch.setattr(script, "compared", lambda *both: seen.extend(both) or compared(*both))
    words = ["--model", str(toy_model_dir), "--data", str(tmp_path), "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["lm_eval_agreement", *words])
    script.main()
    (found,) = json.loads((tmp_path / "out.json").read_text())["tasks"].values()
    assert found["items"] == found["same_answer"] == 4 and found["largest_difference"] < 1e-4
    ours, theirs = seen
    assert list(ours) != [row["id"] for row in rows[:4]]  # lm-eval's own limit takes the first
    with pytest.raises(ValueError, match="the same items"):
        compared(ours, {f"{name}0": values for name, values in theirs.items()})


@pytest.fixture(scope="module")
def keinan() -> ModuleType:
    return script_of("keinan")


@pytest.mark.parametrize("each", [1, 8])
def test_canaries_on_one_coordinate_prove_what_was_published(keinan: ModuleType, each: int) -> None:
    """Keinan et al. 2025 (arXiv 2503.07199), section 6.2: 0.49 and 0.62, within three Monte Carlo standard
    errors.
    """
    assert epsilon_rdp(Mechanism(NOISE, 0.1, 100, 1.0), 1e-5) == pytest.approx(2.0, abs=1e-3)
    counts = keinan.right_guesses(NOISE, each, 1000, np.random.default_rng([each, 1]))
    assert abs(keinan.compared(counts, each, 1e-5)["standard_errors_apart"]) <= 3


def test_another_noise_would_show(keinan: ModuleType) -> None:
    counts = keinan.right_guesses(2.2, 1, 1000, np.random.default_rng(2))
    assert keinan.compared(counts, 1, 1e-5)["standard_errors_apart"] > 3


def test_the_kept_figures_are_within_three_standard_errors() -> None:
    described = [
        row for row in kept("keinan") if (row["noise"], row["delta"]) == ("rdp", 1e-5) and "published" in row
    ]
    assert [row["canaries_on_each"] for row in described] == [1, 8]
    assert all(abs(row["standard_errors_apart"]) <= 3 for row in described)


@pytest.mark.parametrize(
    "script", sorted([*BENCHMARKS.glob("*.py"), *BENCHMARKS.glob("field/*.py")]), ids=lambda path: path.stem
)
def test_every_benchmark_finds_what_it_imports(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else runs them, so a renamed function would break them unseen."""
    monkeypatch.syspath_prepend(str(script.parent))  # as for a script that is run
    assert callable(script_of(str(script.relative_to(BENCHMARKS).with_suffix(""))).main)
