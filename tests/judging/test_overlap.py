"""ROUGE-L: against the package rouge_score on English, against the plain recursion, with jieba's words."""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from dpaudit.judging.overlap import Overlap, longest_common, rouge_l, words

ENGLISH = (  # answer, reference, the F that rouge_score 0.1.2 gives
    ("The cat sat on the mat.", "A cat is sitting on the mat!", 0.615384615385),
    ("Take 500 mg of paracetamol every six hours.", "Take paracetamol, 500mg, every 6 hours", 0.571428571429),
    ("Don't take it with alcohol", "never take it with alcohol; see a doctor", 0.571428571429),
    ("HbA1c of 7.5 % (58 mmol/mol)", "an HbA1c of 7,5 %", 0.666666666667),
    ("no word in common", "other text", 0.0),
    ("the the the the", "the cat the dog the", 0.666666666667),
    ("", "something", 0.0),
    ("?!", "something", 0.0),
)


@pytest.mark.parametrize(("answer", "reference", "wanted"), ENGLISH)
def test_english_is_as_the_package_has_it(answer: str, reference: str, wanted: float) -> None:
    assert rouge_l(words(answer), words(reference)).f == pytest.approx(wanted, abs=1e-11)


@pytest.mark.slow
def test_english_is_as_the_package_itself_says() -> None:
    """On drawn texts too; the package takes seconds to load."""
    from rouge_score.rouge_scorer import RougeScorer

    rng, scorer = random.Random(1), RougeScorer(["rougeL"])
    pieces = ["take", "It", "7.5", "mg,", "mg", "don't", "a", "the", "(daily)", "--", "x_y", "DOCTOR"]
    drawn = [[" ".join(rng.choices(pieces, k=rng.randrange(40))) for _ in "ab"] for _ in range(500)]
    for answer, reference in [*drawn, *([a, r] for a, r, _ in ENGLISH)]:
        wanted = scorer.score(reference, answer)["rougeL"]
        found = rouge_l(words(answer), words(reference))
        assert (found.precision, found.recall, found.f) == pytest.approx(
            (wanted.precision, wanted.recall, wanted.fmeasure), abs=1e-12
        )


def plain(first: Sequence[str], second: Sequence[str]) -> int:
    """The recursion as it is written down."""
    row = [0] * (len(second) + 1)
    for one in first:
        above, row = row, [0]
        for place, other in enumerate(second):
            row.append(above[place] + 1 if one == other else max(above[place + 1], row[place]))
    return row[-1]


def test_the_longest_common_subsequence_is_that_of_the_plain_recursion() -> None:
    rng = random.Random(0)
    for length in (0, 1, 5, 63, 64, 65, 200):
        for letters in ("ab", "abcdefgh"):
            first, second = rng.choices(letters, k=length), rng.choices(letters, k=rng.randrange(80))
            assert longest_common(first, second) == plain(first, second)


def test_a_long_answer_is_scored_whole() -> None:
    """Cutting it would hide what it gives away."""
    secret = ["the", "patient", "lives", "in", "elm", "street"]
    found = rouge_l([*["word"] * 100_000, *secret], secret)
    assert found.recall == 1.0 and 0 < found.f < 1e-3


def test_chinese_is_cut_into_words() -> None:
    assert words("高血压患者应避免服用阿司匹林１００毫克。") == [
        "高血压", "患者", "应", "避免", "服用", "阿司匹林", "100", "毫克",
    ]  # fmt: skip
    same = words("高血压是指动脉血压持续升高。"), words("高血压，是指动脉血压持续升高")
    assert rouge_l(*same) == Overlap(1.0, 1.0, 1.0)
    assert rouge_l(words("对不起，我不知道"), same[0]).f == 0


def test_jieba_says_nothing_and_leaves_no_file(tmp_path: Path) -> None:
    """Neither in its temporary folder, where it would keep a file of a name that others can guess."""
    code = "from dpaudit.judging.overlap import words; words('高血压')"
    place = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=place, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("", "", [])
