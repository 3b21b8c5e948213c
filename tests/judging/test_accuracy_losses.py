"""The word for what an arm lost, on items made by hand: each guard fires on its fault and on nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from dpaudit.findings.quality import Bits, Comparison, Degraded, Item, Margin, Quality
from dpaudit.judging import cautions
from dpaudit.judging.losses import accuracy_pairs, conclude, controls, degradable, worst_group
from dpaudit.judging.quality import accuracy_figures
from dpaudit.suite.grid import Arm

PAIR = ("sft-eps8", "sft-inf")


def items(correct: Sequence[int], per_cluster: int = 1, groups: Sequence[str] = ()) -> list[Item]:
    return [
        Item(
            str(n),
            int(c),
            2.0 * c - 1.0,
            str(n // per_cluster),
            1.0 - c,
            (-1.0, -2.0),
            "p",
            (groups[n],) if groups else (),
            n,
        )
        for n, c in enumerate(correct)
    ]


def right(wrong: Sequence[int], of: int) -> list[int]:
    found = np.ones(of, dtype=int)
    found[list(wrong)] = 0
    return found.tolist()


def seen(told: bool) -> list[Degraded]:
    return [Degraded("t", "sft-inf", 0.5, 0.4, -0.5, -0.6, -0.4, 0.001, told, 400, 400)]


def said(
    answers: Mapping[str, Sequence[Item]],
    pairs: Sequence[tuple[str, str]] = (PAIR,),
    control: Sequence[Degraded] | None = None,
    margin: float = 0.05,
    chance: float = 0.25,
    read: float = 0.0,
    cut: int = 0,
) -> list[Margin]:
    rows = accuracy_pairs("t", answers, pairs, margin)
    figures = {
        name: {"t": replace(accuracy_figures("t", found, chance), cut=cut)} for name, found in answers.items()
    }
    found = conclude(rows, figures, seen(True) if control is None else control, margin, {"t": read})
    return [row.margin for row in found if row.margin]


GOOD = {"sft-eps8": items(right(range(41), 400)), "sft-inf": items(right(range(40), 400))}


def test_an_arm_that_lost_almost_nothing_is_no_worse() -> None:
    (found,) = said(GOOD)
    assert (found.word, found.reason) == ("no worse than the margin", None)
    assert (found.gains, found.losses, found.wrong) == (0, 1, 41)
    assert found.p_no_worse_holm == found.p_no_worse < 0.001
    assert found.detectable is not None and found.detectable < 0.05


def test_an_arm_that_lost_more_than_the_margin_is_worse() -> None:
    (found,) = said({**GOOD, "sft-eps8": items(right(range(120), 400))})
    assert (found.word, found.reason) == ("worse", None)


def test_a_loss_near_the_margin_is_neither() -> None:
    (found,) = said({**GOOD, "sft-eps8": items(right(range(58), 400))})
    assert (found.word, found.reason) == ("cannot tell", "neither is shown")


@pytest.mark.parametrize(("accuracy", "word"), [(0.27, "cannot tell"), (0.34, "no worse than the margin")])
def test_a_reference_at_chance_has_nothing_to_lose(accuracy: float, word: str) -> None:
    """The reference itself counts, whatever other models can do."""
    correct = [int(n < 1000 * accuracy) for n in range(1000)]
    able = items([1] * 900 + [0] * 100)
    answers = {"sft-eps8": items(correct), "sft-inf": items(correct), "base": able}
    (found,) = said(answers)
    assert found.word == word
    assert found.reason == ("reference at chance" if word == "cannot tell" else None)
    lost = {**answers, "sft-eps8": items([0] * 1000)}
    assert said(lost)[0].word == ("cannot tell" if word == "cannot tell" else "worse")


@pytest.mark.parametrize("of", [59, 400])
def test_items_that_all_are_right_show_nothing(of: int) -> None:
    everything = items([1] * of)
    (found,) = said({"sft-eps8": everything, "sft-inf": everything})
    assert (found.word, found.reason) == ("cannot tell", "at the ceiling")
    assert found.p_no_worse_holm is not None and found.p_no_worse_holm <= 0.05  # the test alone would say yes


def test_too_few_wrong_answers_are_the_ceiling_too() -> None:
    few, enough = (items(right(range(count), 400)) for count in (5, 6))
    assert said({"sft-eps8": few, "sft-inf": few})[0].reason == "at the ceiling"
    assert said({"sft-eps8": enough, "sft-inf": enough})[0].reason is None


@pytest.mark.parametrize(
    ("clusters", "reason"), [(8, "too few clusters"), (58, "too few clusters"), (80, None)]
)
def test_few_clusters_never_say_yes(clusters: int, reason: str | None) -> None:
    each = 4
    correct = [int(n % 10 != 0) for n in range(clusters * each)]
    answers = {name: items(correct, each) for name in PAIR}
    (found,) = said(answers)
    assert found.reason == reason
    assert (found.p_no_worse_holm is None) == (reason is not None)
    worse = {**answers, "sft-eps8": items([0] * (clusters * each), each)}
    assert said(worse)[0].word == "worse"


@pytest.mark.parametrize(
    ("control", "reason"), [([], "no control"), (seen(False), "control not told"), (seen(True), None)]
)
def test_a_task_that_did_not_see_the_degraded_arm_supports_no_yes(
    control: list[Degraded], reason: str | None
) -> None:
    assert said(GOOD, control=control)[0].reason == reason
    lost = {**GOOD, "sft-eps8": items(right(range(120), 400))}
    assert (
        said(lost, control=control)[0].word == "worse"
    )  # a loss that was seen needs no proof that one can be


def test_a_benchmark_that_was_read_in_training_supports_no_yes() -> None:
    assert said(GOOD, read=0.5)[0].word == "no worse than the margin"
    found = said(GOOD, read=0.51)[0]
    assert (found.word, found.reason) == ("cannot tell", "items in the training text")
    lost = {**GOOD, "sft-eps8": items(right(range(120), 400))}
    assert said(lost, read=1.0)[0].word == "worse"
    guessed = {name: items([1, 0, 0, 0] * 100) for name in GOOD}
    assert said(guessed)[0].reason == "reference at chance"
    assert said(guessed, read=0.9)[0].reason == "items in the training text"  # not hidden behind another


def test_a_margin_with_which_a_guesser_would_pass_supports_no_yes() -> None:
    """The reference is right on .9, chance is .25: half of what it knows is .325, all of it .65."""
    for margin, word, is_wide in (
        (0.3, "no worse than the margin", False),
        (0.4, "no worse than the margin", True),
        (0.66, "cannot tell", True),
        (0.9, "cannot tell", True),
    ):
        (found,) = said(GOOD, margin=margin)
        assert (found.word, found.is_wide) == (word, is_wide)
        assert found.reason == ("margin reaches chance" if word == "cannot tell" else None)
    everything_lost = {**GOOD, "sft-eps8": items([0] * 400)}
    assert said(everything_lost, margin=0.66)[0].word == "worse"


def test_a_benchmark_whose_prompts_were_mostly_cut_has_no_word() -> None:
    assert said(GOOD, cut=200)[0].word == "no worse than the margin"
    lost = {**GOOD, "sft-eps8": items(right(range(120), 400))}
    for answers in (GOOD, lost):
        (found,) = said(answers, cut=201)
        assert (found.word, found.reason) == ("cannot tell", "prompts cut")


def test_the_terminal_is_warned_of_wide_margins_cut_prompts_and_left_out_records() -> None:
    (line,) = cautions.of_margin(0.9)
    assert "90 points is a wide margin" in line and list(cautions.of_margin(0.1)) == []
    whole = accuracy_figures("t", items([1] * 60), 0.25)
    assert list(cautions.of_cut_prompts({"base": [whole], "a": [whole]})) == []
    some, most = replace(whole, cut=2), replace(whole, cut=59)
    (line,) = cautions.of_cut_prompts({"base": [whole], "a": [some]})
    assert "t: the beginning of 2 of 60 prompts" in line and "no loss" not in line
    (line,) = cautions.of_cut_prompts({"base": [some], "a": [most]})
    assert "t: the beginning of 59 of 60 prompts" in line and "no loss and no gain can be told" in line
    few = Quality("base", (), Bits(1.0, 0.9, 1.1, 1, 1), 9)
    (line,) = cautions.of_heldout([few, few])
    assert "of 1 held-out record: no answer of the other 9" in line
    assert list(cautions.of_heldout([replace(few, heldout_left_out=1)])) == []


def test_controls_tell_a_real_loss_and_no_other() -> None:
    whole = items(right(range(40), 400))
    same, half = items(right(range(1, 41), 400)), items(right(range(80), 400))
    found = controls("t", "sft-inf", whole, {0.5: same, 0.0: half}, 0.05)
    assert [(row.factor, row.told) for row in found] == [(0.5, False), (0.0, True)]
    assert [row.difference for row in found] == pytest.approx([0.0, -0.1])
    better = controls("t", "sft-inf", half, {0.5: whole}, 0.05)
    assert not better[0].told and better[0].p_holm < 0.05  # an arm that got better was not degraded


def test_the_family_is_all_accuracies_of_the_page_but_those_with_too_few_clusters() -> None:
    arms = [f"sft-eps{n}" for n in range(1, 11)]
    lost = items(right(range(51), 400))  # 11 items: p .02 alone, .2 among ten
    answers = {"sft-inf": GOOD["sft-inf"], **dict.fromkeys(arms, lost)}
    alone = said(answers, [("sft-eps1", "sft-inf")])[0]
    among = said(answers, [(arm, "sft-inf") for arm in arms])[0]
    assert alone.p_no_worse == among.p_no_worse
    assert among.p_no_worse_holm == pytest.approx(10 * alone.p_no_worse)
    assert (alone.word, among.word) == ("no worse than the margin", "cannot tell")
    few = accuracy_pairs("u", {name: items([1, 0] * 20, 4) for name in PAIR}, [PAIR], 0.05)
    rows = [*accuracy_pairs("t", answers, [("sft-eps1", "sft-inf")], 0.05), *few]
    figures = {
        name: {task: accuracy_figures(task, found, 0.25) for task in "tu"} for name, found in answers.items()
    }
    both = conclude(rows, figures, seen(True), 0.05)
    assert both[0].margin and both[0].margin.p_no_worse_holm == alone.p_no_worse
    assert both[0].margin.p_holm == pytest.approx(min(1.0, 2 * rows[0].p_value))


def test_the_worst_kind_of_item_is_found_with_its_count() -> None:
    groups = ["form: a", "form: b", "form: c"] * 100
    correct = [int(not (group == "form: b" and n % 2)) for n, group in enumerate(groups)]
    found = worst_group(
        items(correct, groups=groups), items([1] * 300, groups=groups), [str(n) for n in range(300)]
    )
    assert found is not None
    assert (found.name, found.items, found.kinds) == ("form: b", 100, 6)  # three forms, three thirds
    assert found.difference == pytest.approx(-0.5) and found.lower < -0.6 and found.upper < -0.35
    alike = [item._replace(length=7) for item in items([1] * 40)]
    assert worst_group(alike, alike, [item.id for item in alike]) is None


def test_the_arm_without_noise_is_the_one_degraded() -> None:
    inf, eight = (Arm("sft", "sft", epsilon) for epsilon in (math.inf, 8.0))
    text, dpo = Arm("cpt", "cpt", math.inf), Arm("dpo", "sigmoid", math.inf)
    assert degradable([text, eight, inf, dpo]) == inf
    assert degradable([eight, dpo]) == dpo
    assert degradable([eight, Arm("sft", "sft", math.inf, twin=True)]) is None


def test_a_comparison_that_is_not_of_accuracy_has_no_word() -> None:
    assert Comparison("a", "b", None, "bits_per_byte", 0.0, -1.0, 1.0, 0.5, 60, 60).margin is None
