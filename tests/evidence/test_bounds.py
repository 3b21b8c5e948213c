"""The bound calculator: published values, files of scores, and every file that must be refused."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from dpaudit.cli import app
from dpaudit.errors import UsageError
from dpaudit.evidence import bounds, score_file
from dpaudit.stats import epsilon

ONE_RUN = ["bound", "one-run", "--canaries", "1000", "--guesses", "100", "--correct", "75", "--delta", "1e-4"]


def scored(shift: float, size: int = 1000, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    included = random.random(size) < 0.5
    return random.standard_normal(size) + shift * included, included


def csv_of(path: Path, scores: NDArray[np.float64], included: NDArray[np.bool_]) -> Path:
    lines = ["score,included", *(f"{s!r},{int(c)}" for s, c in zip(scores.tolist(), included, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_published_value_is_printed() -> None:
    done = CliRunner().invoke(app, [*ONE_RUN, "--confidence", "0.95", "--json"])
    found = json.loads(done.stdout)
    assert round(found["epsilon_lower"], 6) == 0.672985
    assert found["notion"] == "(eps,delta)"
    assert found["epsilon_ceiling"] > 3


def test_the_gaussian_family_is_named() -> None:
    found = json.loads(CliRunner().invoke(app, [*ONE_RUN, "--method", "f-dp", "--json"]).stdout)
    assert found["notion"] == "f-DP/Gaussian family"
    assert found["epsilon_lower"] > 0.672985


def test_one_run_of_a_file_guesses_the_highest_scores(tmp_path: Path) -> None:
    scores, included = scored(2.0)
    found = bounds.of_scores(csv_of(tmp_path / "s.csv", scores, included), "one-run", 1e-5, 0.95, guesses=100)
    right = int(included[np.argsort(-scores)[:100]].sum())
    assert found["correct"] == right
    assert found["epsilon_lower"] == epsilon.epsilon_lower_one_run(
        canaries=1000, guesses=100, correct=right, delta=1e-5, confidence=0.95
    )


@pytest.mark.parametrize(("shift", "is_warned"), [(-0.5, True), (0.0, False), (0.5, False)])
def test_scores_of_the_wrong_sign_are_warned_of(tmp_path: Path, shift: float, is_warned: bool) -> None:
    file = csv_of(tmp_path / "s.csv", *scored(shift))
    for method in bounds.METHODS:
        assert ("warning" in bounds.of_scores(file, method, 1e-5, 0.95)) == is_warned


def test_parquet_says_what_csv_says(tmp_path: Path) -> None:
    scores, included = scored(2.0)
    pq.write_table(pa.table({"score": scores, "included": included}), tmp_path / "s.parquet")
    csv_of(tmp_path / "s.csv", scores, included)
    for method in bounds.METHODS:
        both = [bounds.of_scores(tmp_path / name, method, 1e-5, 0.95) for name in ("s.csv", "s.parquet")]
        assert both[0] == both[1]


@pytest.mark.parametrize(
    ("method", "thresholds"),
    [("one-run", ()), ("f-dp", ()), ("clopper-pearson", ()), ("clopper-pearson", (-1.0, 0.0, 1.0, 2.0))],
)
def test_scores_that_know_nothing_are_refuted_in_five_per_cent_at_most(
    method: str, thresholds: tuple[float, ...], tmp_path: Path
) -> None:
    """400 files at epsilon 0: at most 5 % + 3 standard errors have a bound above 0."""
    above, delta = 0, 1e-9 if method == "f-dp" else 0.0
    for seed in range(400):
        file = csv_of(tmp_path / "s.csv", *scored(0.0, 200, seed))
        above += bounds.of_scores(file, method, delta, 0.95, thresholds=thresholds)["epsilon_lower"] > 0
    assert above <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


def test_several_declared_thresholds_share_the_error(tmp_path: Path) -> None:
    file = csv_of(tmp_path / "s.csv", *scored(2.0))
    one = bounds.of_scores(file, "clopper-pearson", 1e-5, 0.95, thresholds=[1.5])
    four = bounds.of_scores(file, "clopper-pearson", 1e-5, 0.95, thresholds=[1.5, 1.5, 1.5, 1.5])
    assert 0 < four["epsilon_lower"] < one["epsilon_lower"]
    expected = {k: one[k] for k in ("true_positives", "positives", "false_positives", "negatives")}
    assert four["epsilon_lower"] == epsilon.epsilon_lower_clopper_pearson(
        **expected, delta=1e-5, confidence=1 - 0.05 / 4
    )


def test_a_credible_interval_is_not_called_a_bound(tmp_path: Path) -> None:
    found = bounds.of_scores(csv_of(tmp_path / "s.csv", *scored(2.0)), "bayes", 1e-5, 0.95)
    assert found["credible_lower"] < found["credible_upper"]
    assert "epsilon_lower" not in found
    assert "refutes nothing" in found["notion"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected columns score and included, got no columns"),
        ("score,member\n1,1\n", "expected columns score and included, got score, member"),
        ("score,score,included\n1,2,1\n", "expected one column score, got two such columns"),
        ("score,included\n" + "1,1\n0,0\n" * 5, "expected at least 20 scores, got 10"),
        ("score,included\nnan,1\n" + "1,1\n0,0\n" * 15, "row 1: score: expected a number"),
        ("score,included\n1,1\n,0\n" + "1,1\n0,0\n" * 15, "row 2: score: expected a number"),
        ("score,included\n1,1\nsecret,0\n", "line 3: score: expected a number, got another text"),
        ("score,included\n1,perhaps\n", "line 2: included: expected 1, 0, true or false, got another value"),
        ("score,included\n" + "1,1\n2,1\n" * 15, "expected both true and false"),
        ("score,included\n" + "1,1\n1,0\n" * 15, "expected scores that differ"),
        ("score,included\n" + "1,1\n2,1\n" * 50 + "1,0\n" * 20, "expected independent fair coins"),
        ("score,included\n" + "inf,1\ninf,0\n" * 15, "expected scores that differ"),
        ('score,included\n1,"' + "x" * 200_000 + '"\n', "expected a CSV or Parquet file"),
        ("Her secret is out,she said\n1,1\n", "got 2 columns without a plain name"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UsageError, match=told) as caught:
        bounds.of_scores(tmp_path / "s.csv", "one-run", 1e-5, 0.95)
    assert "secret" not in str(caught.value)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "s.parquet").write_text("no parquet")
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00score")
    for name in ("s.parquet", "s.csv", "absent.csv", ""):
        with pytest.raises(UsageError, match="expected"):
            bounds.of_scores(tmp_path / name, "one-run", 1e-5, 0.95)


@pytest.mark.parametrize(
    "score",
    [
        pa.array([{"value": 1.0}] * 100),
        pa.array([[1.0]] * 100),
        pa.array(range(100), pa.timestamp("s")),
        pa.array(["high"] * 100),
    ],
    ids=lambda column: str(column.type),
)
def test_columns_of_odd_types_are_refused(score: pa.Array, tmp_path: Path) -> None:
    included = [place % 3 == 0 for place in range(100)]
    pq.write_table(pa.table({"score": score, "included": included}), tmp_path / "s.parquet")
    with pytest.raises(UsageError, match="Parquet with number columns"):
        bounds.of_scores(tmp_path / "s.parquet", "clopper-pearson", 1e-5, 0.95)


def test_more_canaries_than_can_be_worked_out_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^--canaries: expected at most 10,000,000"):
        bounds.one_run(10**12, 10**12, 10**12, 1e-5, 0.95)


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("guess", {}, "--method"),
        ("one-run", {"delta": 1.0}, "--delta"),
        ("f-dp", {"delta": 0.0}, "--delta"),
        ("one-run", {"confidence": 0.0}, "--confidence"),
        ("one-run", {"guesses": 0}, "--guesses"),
        ("one-run", {"guesses": 1001}, "--guesses"),
        ("one-run", {"thresholds": [1.0]}, "--threshold"),
        ("bayes", {"guesses": 10}, "--guesses"),
        ("bayes", {"thresholds": [1.0, 2.0]}, "--threshold"),
        ("clopper-pearson", {"thresholds": [math.nan]}, "--threshold"),
        ("clopper-pearson", {"confidence": 1e-300}, "--confidence"),
        ("clopper-pearson", {"confidence": 1 - 1e-16}, "--confidence"),
        ("one-run", {"confidence": math.nan}, "--confidence"),
        ("clopper-pearson", {"sampling": bounds.Sampled(0.1, 10)}, "--rate"),
    ],
)
def test_options_out_of_place_are_refused(
    method: str, options: dict[str, object], told: str, tmp_path: Path
) -> None:
    file = csv_of(tmp_path / "s.csv", *scored(1.0))
    settings: dict[str, object] = {"delta": 1e-5, "confidence": 0.95} | options
    with pytest.raises(UsageError, match=f"^{told}"):
        bounds.of_scores(file, method, **settings)  # type: ignore[arg-type]


def test_the_threshold_chosen_is_the_one_whose_bound_is_largest() -> None:
    found = score_file.Scored(*scored(1.5, 80, 4))
    chosen = bounds._best_threshold(found, 1e-5, 0.95)

    def bound(threshold: float) -> float:
        return epsilon.epsilon_lower_clopper_pearson(
            **bounds._counts(found, threshold), delta=1e-5, confidence=0.95
        )

    assert bound(chosen) == max(bound(value) for value in found.scores) > 0


def test_how_units_were_sampled_narrows_the_family() -> None:
    words = [
        "bound",
        "one-run",
        "--canaries",
        "2000",
        "--guesses",
        "400",
        "--correct",
        "280",
        "--delta",
        "1e-5",
        "--json",
    ]
    plain = json.loads(CliRunner().invoke(app, [*words, "--method", "f-dp"]).stdout)
    sampled = json.loads(
        CliRunner().invoke(app, [*words, "--method", "f-dp", "--rate", ".1", "--steps", "50"]).stdout
    )
    assert sampled["notion"] == "f-DP/Poisson-sampled Gaussian family"
    assert sampled["epsilon_lower"] > plain["epsilon_lower"] > 0
    for odd in (
        ["--rate", ".1"],
        ["--rate", ".1", "--steps", "50"],
        ["--method", "f-dp", "--rate", "2", "--steps", "1"],
    ):
        assert isinstance(CliRunner().invoke(app, [*words, *odd]).exception, UsageError)


def test_anybodys_scores_say_that_no_blind_baseline_was_possible(tmp_path: Path) -> None:
    from dpaudit.page import tables

    file = csv_of(tmp_path / "s.csv", *scored(2.0))
    for method in ("one-run", "clopper-pearson", "bayes"):
        told = tables.as_text(bounds.of_scores(file, method, 1e-5, 0.95))
        assert "blind baseline: not possible: the scores come without texts" in told
