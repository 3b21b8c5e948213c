"""Canaries: uniform secrets in their declared space, on the answer's side, one person each."""

import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dpaudit.data import canary, rarity
from dpaudit.data.canary import Canary, Sources
from dpaudit.errors import UsageError
from dpaudit.signals.extraction import candidate_secrets
from dpaudit.suite import loading

TEXTS = [
    "the fever came back after three days of rest and water",
    "take the drug at noon with bread and water",
    "avoid milk while the rash lasts and call again when fever rises",
]
LISTED = sorted(name for name, family in canary.FAMILIES.items() if family.space)
FEW = (
    "portal_phrase",
    "record_number",
    "phone",
    "random_token",
)  # whose spaces of one or two symbols are small


@pytest.fixture(scope="module")
def sources(toy_model_dir: Path) -> Sources:
    from dpaudit.models import tokenizers, vocabulary

    tokenizer = tokenizers.load_tokenizer(str(toy_model_dir))
    return Sources(
        lambda: vocabulary.token_words(tokenizer),
        lambda: rarity.rare_words(lambda: TEXTS),
        lambda: rarity.rare_pairs(lambda: TEXTS),
        lambda questions, _: [(f"first {n}", f"second {n}") for n in range(len(questions))],
    )


Draw = Callable[..., list[Canary]]


@pytest.fixture
def draw(sources: Sources) -> Draw:
    def drawn(
        family: str, count: int, length: int = 2, copies: int = 1, purpose: str = "mia", seed: str = "0"
    ) -> list[Canary]:
        return canary.draw(family, count, length, copies, purpose, set(), seed, sources)

    return drawn


@pytest.mark.parametrize("family", sorted(canary.FAMILIES))
def test_what_every_family_keeps(family: str, draw: Draw) -> None:
    """Secrets on the answer's side and nowhere else, in their space; people apart; the seed decides; JSON
    keeps all.
    """
    made = draw(family, 50, 3, copies=3, purpose="extraction")
    assert (
        made == draw(family, 50, 3, copies=3, purpose="extraction") != draw(family, 50, 3, copies=3, seed="1")
    )
    assert len({one.records[0].turns[0].text for one in made}) == 50
    for one in made:
        question, answer = one.records[0].turns
        assert answer.text == canary.FAMILIES[family].opening + one.secret and one.secret not in question.text
        assert len(set(r.turns for r in one.records)) == 1 and one.repetitions == 3  # copies
        assert {r.patient for r in one.records} == {one.id}
        assert one.pair is not None and one.pair.chosen == answer.text
        assert one.other != one.secret and one.pair.rejected == answer.text.replace(
            one.secret, str(one.other)
        )
        assert Canary.from_json(one.to_json()) == one
        if one.space is not None:
            assert one.space == len(one.alphabet) ** one.length and len(set(one.alphabet)) == len(
                one.alphabet
            )
            assert is_in(one, one.secret) and is_in(one, str(one.other))
    assert canary.from_rows(canary.to_rows(made)) == made


def is_in(one: Canary, secret: str) -> bool:
    """Whether a secret can be written by the canary's alphabet: read symbol by symbol, separators where
    groups end.
    """
    rest, symbols = secret, 0
    while rest:
        if symbols and symbols % one.group == 0:
            if not rest.startswith(one.separator):
                return False
            rest = rest.removeprefix(one.separator)
        fitting = max((s for s in one.alphabet if rest.startswith(s)), key=len, default=None)
        if fitting is None:
            return False
        rest, symbols = rest.removeprefix(fitting), symbols + 1
    return symbols == one.length


@pytest.mark.parametrize("family", LISTED)
def test_secrets_are_uniform_over_their_space(family: str, draw: Draw) -> None:
    """Symbols of both secrets and of samples, chi-square: a correct draw exceeds the limit with probability
    1e-5 a test.
    """
    made = draw(family, 500, length=6)
    rng, kept = random.Random(0), made[0]
    told = [
        [one.secret for one in made],
        [str(one.other) for one in made],
        [kept.sample(rng) for _ in range(500)],
    ]
    for secrets in told:
        counts = Counter(symbol for secret in secrets for symbol in symbols_of(kept, secret))
        cells, expected = len(kept.alphabet), 500 * kept.length / len(kept.alphabet)
        found = sum((counts[s] - expected) ** 2 / expected for s in kept.alphabet)
        assert sum(counts.values()) == 500 * kept.length
        assert found < (cells - 1) + 4.27 * math.sqrt(2 * (cells - 1)) + 12


def symbols_of(one: Canary, secret: str) -> list[str]:
    """The symbols of a secret; of pairs, two words each."""
    if one.separator == " " and " " in one.alphabet[0]:
        words = secret.split()
        return [" ".join(words[at : at + 2]) for at in range(0, len(words), 2)]
    groups = secret.split(one.separator) if one.separator else [secret]
    width = len(one.alphabet[0])
    return (
        [g[at : at + width] for g in groups for at in range(0, len(g), width)]
        if one.group > 1 or not one.separator
        else groups
    )


@pytest.mark.parametrize("family", FEW)
def test_small_spaces_can_be_listed(family: str, draw: Draw) -> None:
    for one in draw(family, 20, length=2):
        listed = candidate_secrets(one)
        assert len(listed) == len(set(listed)) == one.space and {one.secret, one.other} <= set(listed)


def test_one_invented_word_can_be_listed(draw: Draw) -> None:
    one = draw("invented", 1, length=1)[0]
    assert one.space == 70**3 and one.secret in set(candidate_secrets(one))


def test_every_token_of_a_secret_is_one_of_the_model(toy_model_dir: Path, draw: Draw) -> None:
    from dpaudit.models import tokenizers

    tokenizer = tokenizers.load_tokenizer(str(toy_model_dir))
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    for one in draw("random_token", 50, length=5):
        coded = tokenizer(f" {one.secret}", add_special_tokens=False)["input_ids"]
        assert len(coded) == 5 and not special & set(coded)
        assert tokenizer.decode(coded) == f" {one.secret}"


def test_phone_numbers_are_reserved_ones(draw: Draw) -> None:
    for one in draw("phone", 50):
        area, office, line = one.records[0].turns[-1].text.removeprefix("+1 ").split("-")
        assert (len(area), area[0], office, line[:2], len(line)) == (3, "2", "555", "01", 4)


def test_a_patients_records_are_worded_differently_and_the_first_is_as_ever(draw: Draw) -> None:
    (alone,), (many,) = draw("record_number", 1), draw("record_number", 1, copies=canary.REPETITIONS_MOST)
    assert canary.REPETITIONS_MOST >= 8 and many.repetitions == canary.REPETITIONS_MOST
    assert len({r.turns[0].text for r in many.records}) == many.repetitions
    assert {r.turns[-1].text for r in many.records} == {many.secret} and {
        r.patient for r in many.records
    } == {many.id}
    assert many.records[0] == alone.records[0] and many.pair == alone.pair
    assert alone.records[0].turns[0].text.startswith("What is the record number of ")


def test_what_a_seed_drew_before_it_still_draws() -> None:
    """Names and secrets as they were before there were second secrets and further names."""
    first = canary.draw("record_number", 3, 6, 1, "mia", set(), "0")
    told = [(one.records[0].turns[0].text.partition(" number of ")[2], one.secret) for one in first]
    assert told == [("Ella Totama?", "285862"), ("Zeno Ratomo?", "006235"), ("Rosa Tadabo?", "233833")]


def test_extraction_canaries_share_their_levels() -> None:
    made = canary.draw("record_number", 12, 4, (1, 4, 16), "extraction", set(), "0")
    assert Counter(one.repetitions for one in made) == {1: 4, 4: 4, 16: 4}


def test_no_two_canaries_share_a_surname_and_taken_ones_are_left() -> None:
    taken: set[str] = set()
    first = canary.draw("portal_phrase", 100, 4, 1, "mia", taken, "0")
    second = canary.draw("portal_phrase", 100, 4, 1, "extraction", taken, "0")
    questions = {c.records[0].turns[0].text for c in (*first, *second)}
    assert len(taken) == len(questions) == 200


def test_five_thousand_canaries_have_names_of_their_own() -> None:
    taken: set[str] = set()
    canary.draw("record_number", 5000, 6, 1, "mia", taken, "0")
    canary.draw("record_number", 500, 6, 1, "extraction", taken, "0")
    assert len(taken) == 5500


def test_public_people_are_no_canaries() -> None:
    public = {canary.public_phrase(i).turns[0].text for i in range(canary.PUBLIC_PEOPLE)}
    drawn = canary.draw("portal_phrase", 400, 4, 1, "mia", set(), "0")
    assert not public & {c.records[0].turns[0].text for c in drawn}


def test_an_unknown_family_and_too_many_canaries_are_refused() -> None:
    with pytest.raises(UsageError, match="one of portal_phrase, record_number"):
        canary.draw("shopping_list", 1, 4, 1, "mia", set(), "0")
    with pytest.raises(UsageError, match="at most"):
        canary.draw("portal_phrase", 30_000, 4, 1, "mia", set(), "0")
    with pytest.raises(ValueError, match="expected the sources of this family"):
        canary.draw("synthetic", 1, 4, 1, "mia", set(), "0")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"candidates.family": "shopping_list"}, "candidates.family: expected one of portal_phrase"),
        ({"candidates.family": "new_token"}, "because arms train linear layers .* take random_token"),
        (
            {"candidates.family": "synthetic"},
            "candidates.extraction: expected 0 with family synthetic, which has no space of secrets.*, "
            "got 64",
        ),
        ({"candidates.canary_repetitions": 9}, "at most 8, one a wording"),
        ({"candidates.extraction_repetitions": [4, 4]}, "a list of different numbers"),
        ({"candidates.extraction_repetitions": [1, 4, 16]}, "a multiple of the 3 levels"),
        ({"candidates.extraction_repetitions": [0, 4]}, "extraction_repetitions: expected at least 1, got 0"),
        ({"candidates.temperature": 0}, "temperature"),
    ],
)
def test_suites_that_cannot_be_drawn_are_refused(changed: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        loading.load("demo", changed)


def test_a_sample_of_the_model_has_no_space_to_draw_from(draw: Draw) -> None:
    one = draw("synthetic", 1)[0]
    assert one.space is None
    with pytest.raises(UsageError, match=r"another candidates\.family for extraction") as refused:
        one.sample(random.Random(0))
    assert one.secret not in str(refused.value)


def test_a_large_alphabet_is_written_once() -> None:
    symbols = tuple(f"w{n}" for n in range(canary.SHARED + 1))
    made = canary.draw("random_token", 30, 2, 1, "mia", set(), "0", Sources(lambda: symbols))
    rows = list(canary.to_rows(made))
    assert [row["kind"] for row in rows] == ["alphabet", *["canary"] * 30]
    assert canary.from_rows(rows) == made


# ---- words of a corpus


def test_rare_words_are_the_rarest_and_no_names() -> None:
    texts = [
        "Fever of Ramona",
        "fever and rash",
        *(f"{chr(97 + n)}word fever rash x1 A-{n}" for n in range(20)),
    ]
    found = rarity.rare_words(lambda: texts)
    assert (
        set(found[-2:]) == {"rash", "fever"}
        and len(found) == 23
        and "Ramona" not in found
        and "ramona" not in found
    )


def test_rare_pairs_never_follow_each_other() -> None:
    followed = {pair for text in TEXTS for pair in zip(text.split(), text.split()[1:], strict=False)}
    for pair in rarity.rare_pairs(lambda: TEXTS):
        assert tuple(pair.split()) not in followed


@pytest.mark.parametrize("find", [rarity.rare_words, rarity.rare_pairs])
def test_too_few_words_are_told_without_any(find: Callable[[rarity.Texts], tuple[str, ...]]) -> None:
    with pytest.raises(UsageError, match="at least 16") as refused:
        find(lambda: ["zanzibar quixotic"])
    assert "zanzibar" not in str(refused.value)


def test_secrets_of_a_run_are_distinct(draw: Draw) -> None:
    """500 of the 576 phrases of two words: drawn without regard to each other, many would be there twice."""
    secrets = [one.secret for one in draw("portal_phrase", 500)]
    assert len(set(secrets)) == 500
    with pytest.raises(UsageError, match=r"candidates.canaries: expected at most 576, .* got 577; raise"):
        draw("portal_phrase", 577)
