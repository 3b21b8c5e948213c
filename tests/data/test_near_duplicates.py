"""Near-duplicates across the coin: what counts as one, against a slow double, and silence where there is
none.
"""

import random
import tracemalloc

import pytest

from dpaudit.data.near_duplicates import THRESHOLD, UnitTexts, across, equal_across, shingles, similarity

LONG = (
    "the patient was seen on monday with a sore throat and mild fever and was given paracetamol for three "
    "days in a row"
)
LONGER = f"{LONG} {LONG.replace('throat', 'knee')}"


def unit(name: str, member: bool | None, *texts: str) -> UnitTexts:
    return UnitTexts(name, texts, member)


def test_a_changed_word_is_still_near_and_another_text_is_not() -> None:
    changed = LONGER.replace("monday", "tuesday", 1)
    drawn = [unit("out", False, "hello", changed), unit("far", False, "something else altogether was said")]
    found = across(drawn, [*drawn, unit("sure", None, LONGER)])
    assert found.nonmembers == found.alike == {"out"} and not found.members and found.pairs_across == 0
    short = [unit("out", False, LONG.replace("monday", "tuesday"))]  # 3 of 20 shingles differ: .74
    assert not across(short, [*short, unit("sure", None, LONG)]).nonmembers


@pytest.mark.parametrize(
    "text", ["头疼两天了应该吃什么药请按时服药注意休息多喝水", "One, two; three four FIVE six seven"]
)
def test_the_same_text_is_found_in_any_script(text: str) -> None:
    drawn = [unit("out", False, text.lower()), unit("in", True, text), unit("in2", True, text + "!")]
    found = across(drawn, drawn)
    assert (found.members, found.nonmembers, found.pairs_across) == ({"in", "in2"}, {"out"}, 2)
    assert found.alike == {"out", "in", "in2"}


def test_shingles_are_words_or_letters() -> None:
    assert shingles("Take ONE tablet, now.") == {"take one tablet", "one tablet now"}
    assert shingles("头疼两天") == {"头 疼 两", "疼 两 天"}
    assert shingles("Ibuprofen") == {"ibuprofen"} and shingles("...") == shingles("") == frozenset()
    assert similarity("a b c d", "a b c d") == 1 and similarity("a b c d", "x a b c") == 1 / 3


def test_one_letter_of_a_chinese_text_changes_three_shingles() -> None:
    text = "头疼两天了应该吃什么药请按时服药注意休息多喝水清淡饮食有事随时来医院复查祝您早日康复"
    drawn = [unit("out", False, text.replace("疼", "痛")), unit("other", False, text[::-1])]
    assert across(drawn, [*drawn, unit("sure", None, text)]).nonmembers == {"out"}


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_slow_double(seed: int) -> None:
    """Texts at every similarity around the threshold, in units of one to three records, with and without a
    coin.
    """
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(30)]
    stems = [[rng.choice(words) for _ in range(rng.randint(2, 30))] for _ in range(12)]

    def text() -> str:
        found = list(rng.choice(stems))
        for _ in range(rng.randint(0, 2)):
            found[rng.choice((0, -1, rng.randrange(len(found))))] = rng.choice(words)
        return " ".join(found)

    units = [
        unit(f"u{i}", rng.choice((True, False, None)), *(text() for _ in range(rng.randint(1, 3))))
        for i in range(50)
    ]
    near = {
        (one.name, other.name)
        for one in units
        for other in units
        if one is not other and any(similarity(a, b) >= THRESHOLD for a in one.texts for b in other.texts)
    }
    coin = {u.name: u.member for u in units}
    pairs = {(a, b) for a, b in near if coin[a] and coin[b] is False}
    found = across([u for u in units if u.member is not None], units)
    assert pairs and found.pairs_across == len(pairs) and found.members == {a for a, _ in pairs}
    assert found.nonmembers == {b for a, b in near if coin[a] is not False and coin[b] is False}
    assert found.alike == {b for _, b in near if coin[b] is not None}


def test_different_texts_are_silent() -> None:
    rng = random.Random(1)
    words = [f"w{i}" for i in range(500)]
    units = [unit(f"u{i}", rng.random() < 0.5, " ".join(rng.choices(words, k=30))) for i in range(300)]
    found = across(units, units)
    assert not found.alike and found.pairs_across == 0


def test_a_corpus_is_read_as_a_stream_and_equal_texts_take_no_quadratic_memory() -> None:
    drawn = [unit(f"u{i}", i % 2 == 0, LONG) for i in range(1000)]
    corpus = (unit(f"c{i}", None, f"{LONG} {i}") for i in range(1000))
    tracemalloc.start()
    found = across(drawn, corpus)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.nonmembers) == 500
    assert peak < 2e6  # a thousand times a thousand pointers would be 8 MB


def test_of_canaries_equal_secrets_alone_count() -> None:
    secrets = {"a": "x", "b": "x", "c": "y", "d": "z", "e": "z", "f": "x"}
    coins = {"a": True, "b": False, "c": True, "d": True, "e": True, "f": False}
    found = equal_across(secrets, coins)
    assert (found.members, found.nonmembers, found.pairs_across) == ({"a"}, {"b", "f"}, 2)
    assert found.alike == {"a", "b", "d", "e", "f"}
