"""Near-duplicates across the coin: what counts as one, against a slow double, and silence where there is none."""

import random

import pytest

from dpaudit import near_duplicates
from dpaudit.near_duplicates import THRESHOLD, across, shingles

LONG = "the patient was seen on monday with a sore throat and mild fever and was given paracetamol for three days in a row"


def test_a_changed_word_is_still_near_and_another_text_is_not() -> None:
    texts = {
        "out": LONG.replace("monday", "tuesday"),
        "far": "something else altogether was said here to another person",
    }
    coins = {"out": False, "far": False}
    found = across(texts, coins, [("in", LONG)])
    assert found["nonmembers_in_training"] == 0  # one word of twenty-two is three shingles of twenty: .74
    longer = f"{LONG} {LONG.replace('throat', 'knee')}"
    found = across({"out": longer.replace("monday", "tuesday", 1)}, coins, [("in", longer)])
    assert found["nonmembers_in_training"] == 1 and found["left_out"] == ["out"]


@pytest.mark.parametrize(
    "text", ["头疼两天了应该吃什么药请按时服药注意休息多喝水", "one two three four five six seven"]
)
def test_the_same_text_is_found_in_any_script(text: str) -> None:
    found = across(
        {"out": text, "member": text}, {"out": False, "member": True}, [("member", text), ("certain", text)]
    )
    assert found == {"members": 1, "nonmembers": 1, "nonmembers_in_training": 1, "members_among_nonmembers": 1,
                     "pairs_across": 1, "left_out": ["out"]}  # fmt: skip


def test_counts_are_those_of_a_slow_double() -> None:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(12)]
    corpus = {f"u{i}": " ".join(rng.choices(words, k=12)) for i in range(40)}
    corpus |= {f"v{i}": " ".join([*corpus[f"u{i}"].split()[:11], "x"]) for i in range(20)}
    coins = {name: rng.random() < 0.5 for name in corpus}
    slow = set()
    for out in (n for n in corpus if not coins[n]):
        for inside in (n for n in corpus if coins[n]):
            a, b = shingles(corpus[out]), shingles(corpus[inside])
            if len(a & b) >= THRESHOLD * len(a | b):
                slow.add((out, inside))
    assert slow  # some pairs fall across the coin
    found = across(corpus, coins, ((n, t) for n, t in corpus.items() if coins[n]))
    assert found["pairs_across"] == len(slow) and set(found["left_out"]) == {out for out, _ in slow}
    assert found["members_among_nonmembers"] == len({inside for _, inside in slow})


def test_different_texts_are_silent() -> None:
    rng = random.Random(1)
    corpus = {f"u{i}": " ".join(rng.choices([f"w{i}" for i in range(500)], k=30)) for i in range(200)}
    coins = {name: rng.random() < 0.5 for name in corpus}
    found = across(corpus, coins, ((n, t) for n, t in corpus.items() if coins[n]))
    assert found["nonmembers_in_training"] == found["pairs_across"] == 0


def test_an_empty_text_has_no_double() -> None:
    assert near_duplicates.shingles("") == frozenset() and near_duplicates.shingles("...") == frozenset()
    assert across({"out": ""}, {"out": False}, [("in", "")])["nonmembers_in_training"] == 0
