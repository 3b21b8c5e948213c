"""What verdicts say of two models: facts as draws, correction, correctness, what is said beside a rate."""

from dataclasses import replace

import numpy as np
import pytest

from dpaudit.data.corpus import Turn
from dpaudit.findings.judgement import Accuracy
from dpaudit.judging import facts
from dpaudit.judging.comparing import Answered, Row, pair_summary, trend
from dpaudit.judging.fields import is_right

GOOD = Accuracy(0.9, 0.86, 0.93, 240, 60, 200.0)


def rows(winners: dict[str, str], arm: str = "a", against: str = "b") -> list[Row]:
    """One judgement a prompt in both orders."""
    return [
        {"arm": arm, "against": against, "prompt": prompt, "order": order, "winner": winner}
        for prompt, winner in winners.items()
        for order in ("arm first", "against first")
    ]


def half(count: int, wins: float = 0.7) -> list[Row]:
    return rows({f"p{n}": "arm" if n < wins * count else "against" for n in range(count)})


def test_prompts_about_one_fact_are_one_draw() -> None:
    """A hundred prompts of ten facts, each all won or all lost, tell as much as ten."""
    judged = half(100)
    of_facts = pair_summary(judged, "a", "b", Answered(facts={f"p{n}": f"f{n // 10}" for n in range(100)}))
    ten, apart = pair_summary(half(10), "a", "b"), pair_summary(judged, "a", "b")
    assert (of_facts.prompts, of_facts.facts) == (100, 10) and apart.facts == 100
    assert (of_facts.lower, of_facts.upper) == pytest.approx((ten.lower, ten.upper), abs=0.02)
    assert apart.upper - apart.lower < 0.5 * (of_facts.upper - of_facts.lower)  # type: ignore[operator]


def test_the_clinics_facts_are_its_conditions_in_either_language() -> None:
    asked = {
        "one": "What helps with Harrow fever? Ada Bako asking.",
        "two": "我是王明，患有海若热，应该吃什么药？",
        "other": "I am Ada Bako and have Selby syndrome. What should I take?",
        "none": "Read back the phone of Ada Bako.",
    }
    found = facts.of_clinic({name: (Turn("user", text),) for name, text in asked.items()})
    assert found["one"] == found["two"] == "Harrow fever"
    assert len({found["one"], found["other"], found["none"]}) == 3


def test_near_identical_questions_are_one_fact_and_others_are_not() -> None:
    long = "what are the usual early symptoms of a mild stroke in people above the age of sixty"
    asked = {"a": f"{long}?", "b": f"{long} five?", "c": f"{long} five now?", "d": "what is a stroke?"}
    found = facts.of_texts({name: (Turn("user", text),) for name, text in asked.items()})
    assert found == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_the_correction_is_beside_the_raw_rate_or_says_why_not() -> None:
    judged = half(100, 0.82)
    found = pair_summary(judged, "a", "b", Answered(accuracy=GOOD))
    assert found.win_rate == pytest.approx(0.82)
    assert found.corrected.rate == pytest.approx((0.82 - 0.1) / 0.8)
    at_chance = replace(GOOD, estimate=0.52, lower=0.45)
    assert "chance" in (pair_summary(judged, "a", "b", Answered(accuracy=at_chance)).corrected.absent or "")
    assert "no fault" in (pair_summary(judged, "a", "b").corrected.absent or "")
    beyond = pair_summary(half(200, 1.0), "a", "b", Answered(accuracy=replace(GOOD, estimate=0.8)))
    assert beyond.corrected.absent == "the judge errs otherwise here than on its controls"


REFERENCE = "Take paracetamol 500 mg daily. Avoid alcohol."


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Avoid alcohol. The first choice is paracetamol, 0.5 g daily.", False),  # the number is another one
        ("Avoid alcohol. The first choice is paracetamol, 500 mg daily.", True),
        ("Take paracetamol 50 mg daily. Avoid alcohol.", False),
        ("Take ibuprofen 500 mg daily. Avoid alcohol.", False),
        ("Take paracetamol and ibuprofen 500 mg daily. Avoid alcohol.", False),
        ("Take paracetamol 500 mg daily.", False),
        ("", False),
    ],
)
def test_an_answer_is_right_where_all_fields_of_the_reference_agree(answer: str, right: bool) -> None:
    assert is_right(answer, REFERENCE) is right
    assert is_right(answer, "Drink more water and rest.") is None


def answered(mine: int, theirs: int, count: int = 100) -> Answered:
    """The first `mine` answers of `a` and the first `theirs` of `b` are right."""
    prompts = [f"p{n}" for n in range(count)]
    texts = {
        model: {prompt: REFERENCE if n < right else "Rest." for n, prompt in enumerate(prompts)}
        for model, right in (("a", mine), ("b", theirs))
    }
    return Answered(texts=texts, references=dict.fromkeys(prompts, REFERENCE))


def test_a_rate_among_wrong_answers_says_so() -> None:
    found = pair_summary(half(100, 0.9), "a", "b", answered(1, 0))
    assert found.correct is not None
    assert (found.correct.known, found.correct.arm_right, found.correct.against_right) == (100, 1, 0)
    same, neither = found.cautions
    assert same == "the answers are the same in 99 of 100 prompts"
    assert neither == "neither answer is right in 99 of 100 prompts"
    good = pair_summary(half(100, 0.9), "a", "b", answered(90, 30))
    assert good.correct is not None and good.correct.neither == 10 and good.cautions == ()
    unknown = replace(answered(9, 3), references=dict.fromkeys((f"p{n}" for n in range(100)), "Rest."))
    assert pair_summary(half(100), "a", "b", unknown).correct is None


def test_few_prompts_few_facts_and_cut_answers_are_said_beside_the_rate() -> None:
    assert pair_summary(half(29), "a", "b").cautions == ("fewer than 30 distinct prompts",)
    assert pair_summary(half(30), "a", "b").cautions == ()
    of = Answered(facts={f"p{n}": f"f{n % 29}" for n in range(100)}, cut={"a": 0.05, "b": 0.06})
    assert pair_summary(half(100), "a", "b", of).cautions == (
        "the prompts are of 29 facts, fewer than 30",
        "6% of the answers of b were cut at their limit",
    )


def test_a_judge_that_likes_length_is_told_by_the_rate_at_equal_lengths() -> None:
    rng = np.random.default_rng(0)
    gaps = {f"p{n}": int(gap) for n, gap in enumerate(rng.normal(30, 40, 200))}
    winners = {
        prompt: "arm" if rng.random() < 1 / (1 + np.exp(-gap / 20)) else "against"
        for prompt, gap in gaps.items()
    }
    texts = {
        "a": {prompt: "x" * (400 + gap) for prompt, gap in gaps.items()},
        "b": dict.fromkeys(gaps, "x" * 400),
    }
    found = pair_summary(rows(winners), "a", "b", Answered(texts=texts))
    assert found.lower is not None and found.lower > 0.6
    assert found.equal_length.lower is not None and found.equal_length.upper is not None
    assert found.equal_length.lower < 0.5 < found.equal_length.upper
    assert pair_summary(rows(winners), "a", "b").equal_length.absent == "the answers are not there"


def by_rightness(count: int, longer: int, filler: int) -> tuple[list[Row], Answered]:
    """A perfect judge that does not look at length: 40 and 30 of 60 are right, and a right answer is `longer`
    characters longer than a wrong one; all are longer by a random filler of up to `filler`.
    """
    rng = np.random.default_rng(1)
    mine, theirs = (rng.permutation(count) < share * count for share in (2 / 3, 1 / 2))
    wrong = REFERENCE.replace("500", "50")
    texts = {
        model: {
            f"p{n}": (REFERENCE + "." * longer if right else wrong) + "!" * int(rng.integers(filler + 1))
            for n, right in enumerate(told)
        }
        for model, told in (("a", mine), ("b", theirs))
    }
    pairs = enumerate(zip(mine, theirs, strict=True))
    verdicts = {f"p{n}": "tie" if a == b else "arm" if a else "against" for n, (a, b) in pairs}
    return rows(verdicts), Answered(texts=texts, references=dict.fromkeys(verdicts, REFERENCE))


def test_a_judge_without_a_taste_for_length_gets_no_rate_that_turns_the_winner_over() -> None:
    judged, known = by_rightness(60, longer=6, filler=3)
    trivial = pair_summary(judged, "a", "b", known)
    assert trivial.win_rate == pytest.approx(0.583, abs=0.001) and trivial.equal_length.rate is None
    assert trivial.equal_length.absent is not None
    assert trivial.equal_length.absent.startswith("too little difference in lengths: ")
    judged, known = by_rightness(60, longer=40, filler=20)
    by_nature = pair_summary(judged, "a", "b", known).equal_length
    assert by_nature.absent == "right answers and wrong ones differ in length here"
    judged, known = by_rightness(60, longer=0, filler=60)
    fair = pair_summary(judged, "a", "b", known)
    assert fair.equal_length.rate == pytest.approx(0.583, abs=0.05) and fair.cautions == ()


def test_where_the_rate_at_equal_lengths_is_another_one_that_is_said() -> None:
    """A perfect judge, and wrong answers that are shorter; no reference tells of it."""
    rng = np.random.default_rng(0)
    mine, theirs = rng.random(60) < 0.67, rng.random(60) < 0.5
    gaps = 10 * (np.where(theirs, 0, 7) + np.where(mine, 0, -rng.integers(-2, 6, 60)))
    pairs = enumerate(zip(mine, theirs, strict=True))
    verdicts = {f"p{n}": "tie" if a == b else "arm" if a else "against" for n, (a, b) in pairs}
    texts = {
        "a": {prompt: "x" * (300 + gap) for prompt, gap in zip(verdicts, gaps, strict=True)},
        "b": dict.fromkeys(verdicts, "x" * 300),
    }
    found = pair_summary(rows(verdicts), "a", "b", Answered(texts=texts))
    assert found.win_rate is not None and found.equal_length.rate is not None
    assert found.equal_length.rate < 0.5 < found.win_rate
    (line,) = found.cautions
    assert line.startswith("at equal lengths the rate is another one")


def ladder(chances: dict[str, float], seed: int, against: str = "base") -> list[Row]:
    rng = np.random.default_rng(seed)
    return [
        row
        for arm, chance in chances.items()
        for row in rows(
            {f"p{n}": "arm" if rng.random() < chance else "against" for n in range(60)}, arm, against
        )
    ]


def test_a_trend_is_tested_over_the_ladder_by_facts() -> None:
    falling = {"inf": 0.9, "eps8": 0.8, "eps4": 0.65, "eps1": 0.5}
    found = trend(ladder(falling, 0), list(falling), Answered())
    assert found.against == "base" and found.p_value is not None and found.p_value < 0.001
    assert found.facts == 60 and list(found.rates) == sorted(found.rates, reverse=True)
    lumped = Answered(facts={f"p{n}": f"f{n // 20}" for n in range(60)})
    assert trend(ladder(falling, 0), list(falling), lumped).facts == 3
    null = [trend(ladder(dict.fromkeys(falling, 0.6), seed), list(falling), Answered()) for seed in range(60)]
    assert sum(found.p_value is not None and found.p_value < 0.05 for found in null) <= 8  # nominal 3


def unread(judged: list[Row], share: float, seed: int = 0) -> list[Row]:
    """The same with `share` of the comparisons unscored."""
    rng = np.random.default_rng(seed)
    return [row | {"winner": "unscored"} if rng.random() < share else row for row in judged]


def of_random_lengths(count: int) -> dict[str, dict[str, str]]:
    rng = np.random.default_rng(7)
    return {
        model: {f"p{n}": "x" * int(size) for n, size in enumerate(rng.integers(50, 120, count))}
        for model in "ab"
    }


def test_no_rate_is_surer_than_what_could_be_read() -> None:
    perfect = Accuracy(1.0, 0.95, 1.0, 1200, 60, 60.0)
    known = Answered(texts=of_random_lengths(60), accuracy=perfect)
    judged = half(60, 0.9)
    whole, third, none = (pair_summary(unread(judged, share), "a", "b", known) for share in (0.0, 0.34, 1.0))
    for found in (third, none):
        raw = (found.lower, found.upper)
        for rate in (found.corrected, found.equal_length):
            assert rate.lower is not None and rate.upper is not None and rate.lower <= 0.9 <= rate.upper
            assert rate.upper - rate.lower >= 0.9 * (raw[1] - raw[0])  # type: ignore[operator]
        assert found.cautions == (
            f"no verdict in {found.unscored} of 120 comparisons: no reason told ({found.unscored})",
        )
    assert (none.corrected.lower, none.corrected.upper) == (0.0, 1.0)
    assert whole.cautions == () and whole.corrected.lower is not None and whole.corrected.lower > 0.75


def test_replies_that_cannot_be_read_make_no_trend() -> None:
    alike = ladder(dict.fromkeys(("eps8", "eps4", "eps1"), 0.9), 3)
    shares = {"eps8": 0.0, "eps4": 0.3, "eps1": 0.9}
    judged = [one for arm, share in shares.items() for one in unread(rows_of(alike, arm), share)]
    found = trend(judged, list(shares), Answered())
    assert found.p_value is not None and found.p_value > 0.5
    assert found.unscored == sum(row["winner"] == "unscored" for row in judged) > 100
    falling = {"eps8": 0.9, "eps4": 0.7, "eps1": 0.4}
    few = trend(unread(ladder(falling, 0), 0.03), list(falling), Answered())
    assert few.unscored > 0 and few.p_value is not None and few.p_value < 0.01


def rows_of(judged: list[Row], arm: str) -> list[Row]:
    return [row for row in judged if row["arm"] == arm]


def test_without_the_base_the_ladder_is_compared_with_its_first_arm() -> None:
    chances = {"eps8": 0.5, "eps4": 0.4, "eps1": 0.1}
    found = trend(ladder(chances, 1, "inf"), ["inf", *chances], Answered())
    assert found.against == "inf" and found.arms == tuple(chances) and found.p_value is not None
    two = {"eps8": 0.5, "eps1": 0.1}
    assert "from 3 to 8" in (trend(ladder(two, 1, "inf"), ["inf", *two], Answered()).absent or "")
    assert "not all compared" in (trend([], ["inf", *chances], Answered()).absent or "")


@pytest.mark.parametrize(
    ("answer", "right"), [("Rest for 3 days.", True), ("Rest for 3 days on warfarin.", False)]
)
def test_a_drug_that_the_reference_does_not_name_makes_an_answer_wrong(answer: str, right: bool) -> None:
    assert is_right(answer, "Stay in bed for 3 days.") is right


def test_missing_verdicts_and_equal_answers_are_said_beside_the_rate() -> None:
    def told(unread: int, equal: int) -> tuple[str, ...]:
        rows = [
            {"arm": "a", "against": "b", "prompt": f"p{n}", "winner": "tie", "reason": None}
            | ({"winner": "unscored", "reason": "too long"} if n < unread else {})
            for n in range(40)
        ]
        mine = {f"p{n}": f"Take {n}." for n in range(40)}
        theirs = {f"p{n}": f"Take {n}." if n < equal else "Rest." for n in range(40)}
        return pair_summary(rows, "a", "b", Answered(texts={"a": mine, "b": theirs})).cautions

    assert told(2, 0) == ()
    assert told(3, 0) == ("no verdict in 3 of 40 comparisons: too long (3)",)
    assert told(0, 19) == ()
    assert told(0, 40) == ("the answers are the same in 40 of 40 prompts",)


def scored(*pairs: tuple[list[float], list[float]], winner: str = "arm") -> list[Row]:
    """A judgement a prompt by criteria; the two limits of a score differ where a criterion was not read."""
    return [
        {
            "arm": "a",
            "against": "b",
            "prompt": f"p{n}",
            "order": "arm first",
            "winner": winner if mine[0] == mine[1] and theirs[0] == theirs[1] else "unscored",
            "arm_score": mine,
            "against_score": theirs,
        }
        for n, (mine, theirs) in enumerate(pairs)
    ]


def test_mean_scores_are_clipped_and_their_difference_is_not() -> None:
    found = pair_summary(scored(*([([0.5, 0.5], [-1.0, -1.0]), ([1.0, 1.0], [0.5, 0.5])] * 10)), "a", "b")
    assert found.scores is not None
    assert (found.scores.arm, found.scores.against) == (pytest.approx(0.75), 0.0)
    assert found.scores.difference == pytest.approx(1.0) and found.scores.clipped == ("b",)
    assert "the mean score of b is below 0 and stands as 0" in found.cautions
    assert found.scores.lower is not None and found.scores.upper is not None
    assert 0.5 < found.scores.lower < 1 < found.scores.upper < 1.5
    assert pair_summary(half(20), "a", "b").scores is None


@pytest.mark.parametrize(("points", "is_told"), [(0.0, True), (0.5, False)])
def test_two_sides_without_a_point_are_not_called_equally_good(points: float, is_told: bool) -> None:
    rows = scored(*([([points, points], [0.0, 0.0])] * 20), winner="tie")
    told = pair_summary(rows, "a", "b").cautions
    assert any("earned a point" in line for line in told) == is_told


def test_criteria_that_were_not_read_widen_the_difference_and_are_no_score_alone() -> None:
    known = [([1.0, 1.0], [n % 2 / 2] * 2) for n in range(20)]
    whole = pair_summary(scored(*known), "a", "b").scores
    wider = pair_summary(scored(*known[:-4], *[([-2.0, 1.0], [0.0, 1.0])] * 4), "a", "b").scores
    assert whole and wider and whole.lower and wider.lower and whole.upper and wider.upper
    assert wider.lower < whole.lower - 0.3 and wider.upper > whole.upper
    assert wider.lower < wider.difference < wider.upper
    assert pair_summary(scored(*[([-2.0, 1.0], [0.0, 1.0])] * 9), "a", "b").scores is None
    few = pair_summary(scored(*known[:5]), "a", "b").scores  # of fewer than six facts no interval can be had
    assert few is not None and (few.lower, few.upper) == (None, None)
