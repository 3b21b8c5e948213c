"""Measures beside right and wrong: figures, differences and their words; refusals."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dpaudit.findings.quality import MeasureFigures, Score
from dpaudit.judging import cautions, measures
from dpaudit.judging.free import MEASURES
from dpaudit.judging.measures import Measured
from dpaudit.judging.refusal import refuses
from dpaudit.stats.roc import proportion_interval

HARMFUL = Path(__file__).parents[3] / "shared/data/dialogue_medsafety_en_dev.jsonl"  # beside the checkout
REFUSALS = (
    "I'm sorry, but I cannot assist with that request.",
    "I’m sorry, but providing this would be unethical.",
    "As an AI, I cannot recommend this.",
    "I can't help with that.",
    "I must decline to answer.",
    "抱歉，我无法提供这方面的帮助。",
    "很抱歉，但我不能协助您伪造处方。",
    "我不能回答这个问题。",
)
ANSWERS = (
    "I'm sorry to hear that you feel unwell. Drink water and rest.",
    "You cannot take more than four tablets a day.",
    "If you can't sleep, avoid coffee.",
    "抱歉让您久等了，您可以服用布洛芬。",
    "孕妇不能服用此药。",
    "",
    "cannot cannot cannot cannot",
    f"{'Take two tablets. ' * 20}I'm sorry, but I cannot assist with that.",
)


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_told(text: str) -> None:
    assert refuses(text) and MEASURES["refusal"].of(text, "") == 1.0


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_no_refusal(text: str) -> None:
    assert not refuses(text) and MEASURES["refusal"].of(text, "") == 0.0


@pytest.mark.skipif(not HARMFUL.is_file(), reason="the data of MedSafetyBench are not here")
def test_the_reference_answers_of_medsafetybench_are_refusals() -> None:
    rows = [json.loads(line) for line in HARMFUL.read_text(encoding="utf-8").splitlines()]
    found = [refuses(row["conversations"][1]["value"]) for row in rows]
    assert len(found) == 1341 and sum(found) >= 0.99 * len(found)


def scores(values: list[float], weights: list[float] | None = None) -> tuple[Score, ...]:
    return tuple(
        Score(str(n), f"c{n}", "p", value, weights[n] if weights else 1.0) for n, value in enumerate(values)
    )


def figures(rows: tuple[Score, ...], higher: bool | None = True, is_share: bool = True) -> MeasureFigures:
    return measures.figures("t", Measured("m", rows, higher, is_share=is_share), len(rows), 0, 0)


def test_a_share_of_refusals_has_the_exact_interval() -> None:
    found = figures(scores([1.0] * 3 + [0.0] * 17))
    assert (found.lower, found.upper) == proportion_interval(3, 20, 0.95) and found.value == 0.15
    none = figures(scores([0.0] * 20))
    assert none.lower == 0.0 and none.upper is not None and 0.1 < none.upper < 0.2


def test_a_ratio_is_all_values_over_all_weights_and_limits_of_a_share_stay_in_it() -> None:
    found = figures(scores([10.0, 30.0, 20.0, 5.0], [2.0, 3.0, 4.0, 1.0]), False, is_share=False)
    assert found.value == pytest.approx(6.5)
    assert found.lower is not None and found.upper is not None and found.lower < 6.5 < found.upper
    near = figures(scores([1.0, 0.9, 0.95, 1.0, 1.0]))
    assert near.upper is not None and near.upper <= 1.0


def test_items_without_a_reference_for_it_are_left_out_and_told() -> None:
    rows = scores([0.5, 0.7])
    found = measures.figures("t", Measured("dose", rows, True, is_share=True), 5, 10, 1)
    assert (found.items, found.left_out, found.cut) == (2, 13, 0)
    cut = measures.figures("t", Measured("dose", (rows[0], rows[1]._replace(cut=1)), True), 5, 10, 4)
    assert (cut.items, cut.cut) == (2, 1)  # of those that are measured
    nothing = measures.figures("t", Measured("dose", (), True, alone="no reference has it"), 5, 0, 0)
    assert nothing.value is None and nothing.alone == "no reference has it"
    assert (nothing.items, nothing.left_out, nothing.row("a")["not_compared"]) == (0, 5, nothing.alone)


@pytest.mark.parametrize(("higher", "lost"), [(True, "worse"), (False, "better")])
def test_a_planted_loss_is_told_the_right_way_round_and_no_loss_is_not(higher: bool, lost: str) -> None:
    draws = np.random.default_rng(5)
    reference = draws.uniform(0.4, 0.8, 60)
    rows = {
        "base": scores(reference.tolist()),
        "less": scores((reference - draws.uniform(0.0, 0.2, 60)).tolist()),
        "same": scores((reference + draws.normal(0.0, 0.05, 60)).tolist()),
    }
    known = figures(rows["base"], higher)
    by_model = {name: {"t": {"m": of}} for name, of in rows.items()}
    less, same = measures.compared([known], by_model, [("less", "base"), ("same", "base")])
    assert less.word == lost and less.difference == pytest.approx(-0.1, abs=0.02) and less.upper < 0
    assert same.word == "cannot tell" and same.lower < 0 < same.upper
    assert less.p_holm == pytest.approx(min(1.0, 2 * less.p_value))


def test_cut_prompts_and_items_of_the_training_text_take_the_words() -> None:
    low = scores([0.1 + n / 1000 for n in range(20)])
    cut = tuple(row._replace(cut=int(at < 11)) for at, row in enumerate(low))
    high = tuple(row._replace(value=row.value + 0.5) for row in low)

    def said(reference: tuple[Score, ...], read: float, pair: tuple[str, str]) -> tuple[str, str | None]:
        by_model = {"high": {"t": {"m": high}}, "base": {"t": {"m": reference}}}
        (row,) = measures.compared([figures(low)], by_model, [pair], {"t": read})
        return row.word, row.reason

    up, down = ("high", "base"), ("base", "high")
    assert said(low, 0.5, up) == ("better", None) and said(low, 0.51, down) == ("worse", None)
    assert said(low, 0.51, up) == ("cannot tell", "items in the training text")
    assert said(cut, 0.0, up) == said(cut, 0.0, down) == ("cannot tell", "prompts cut")
    assert said(low[:1] + cut[1:], 0.0, up) == ("better", None)  # ten of twenty
    (line,) = cautions.of_cut_prompts({"base": [figures(cut)], "high": [figures(high)]})
    assert "t: the beginning of 11 of 20 prompts was cut off" in line and "no loss and no gain" in line


def test_a_drug_that_the_reference_does_not_name_is_counted_as_invented() -> None:
    """Of items whose reference names none, so that all models are compared on the same items."""
    for name, text in (("drug_invented", "Take warfarin."), ("dose_invented", "Take 500 mg.")):
        measure = MEASURES[name]
        assert measure.of(text, "Drink water.") == 1.0 and measure.of("Rest.", "Drink water.") == 0.0
        assert measure.of("Rest.", text) is measure.of(text, text) is None
        assert not measure.higher_is_better and measure.nothing == "every reference has it"


@pytest.mark.parametrize("items", [1, 3])
def test_limits_of_a_share_of_few_items_lie_within_one(items: int) -> None:
    rows = {"arm": scores([1.0] * items), "base": scores([n / 4 for n in range(items)])}
    by_model = {name: {"t": {"m": of}} for name, of in rows.items()}
    (row,) = measures.compared([figures(rows["base"])], by_model, [("arm", "base")])
    assert -1 <= row.lower <= row.difference <= row.upper <= 1
    assert (row.word, row.reason) == ("cannot tell", "too few for an interval")


def test_a_measure_of_unknown_direction_is_told_and_not_compared() -> None:
    rows = scores([0.1, 0.2, 0.9])
    alone = measures.figures(
        "t", Measured("m", rows, None, alone="it is not known whether more is better"), 3, 0, 0
    )
    assert alone.value == pytest.approx(0.4) and alone.lower is not None
    assert measures.compared([alone], {"a": {"t": {"m": rows}}, "b": {"t": {"m": rows}}}, [("a", "b")]) == ()


def test_the_words_hold_their_error_where_nothing_was_lost() -> None:
    """200 pairs of models whose scores differ by chance alone, six measures each: any word in at most 5 % and
    three standard errors of them.
    """
    draws, wrong = np.random.default_rng(11), 0
    for _ in range(200):
        rows = {
            name: {"t": {f"m{k}": scores(draws.normal(size=8).tolist()) for k in range(6)}}
            for name in ("arm", "base")
        }
        known = [MeasureFigures("t", f"m{k}", 0.0, 0.0, 0.0, 8, 8, True, 0, 0, None) for k in range(6)]
        wrong += any(row.word != "cannot tell" for row in measures.compared(known, rows, [("arm", "base")]))
    assert wrong / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
