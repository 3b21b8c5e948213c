import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from dpaudit.canary import Canary
from dpaudit.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.extraction import TokenTrie, candidate_secrets, exposure, rank
from dpaudit.models.encode import encode, render
from dpaudit.models.hf import HFModel
from dpaudit.models.spaces import Spaces

WORDS = ("amber", "tulip", "crane", "delta", "ember", "water")


def canary(secret: str, alphabet: tuple[str, ...], separator: str, answer: str = "It is {}.") -> Canary:
    turns = (Turn("user", "What is the code of Ada?"), Turn("assistant", answer.format(secret)))
    length = len(secret.split(separator)) if separator else len(secret)
    return Canary("c0", (Record("c0/0", turns, "c0"),), secret, alphabet, length, separator, "extraction")


CANARIES = [
    canary("tulip crane amber", WORDS, " "),
    canary("471", tuple("0123456789"), ""),
    canary("tulip crane", WORDS, " ", "{}"),  # alone in the answer
    canary("47", tuple("0123456789"), "", "MRN-{}"),  # glued to what stands before it
]


@pytest.fixture(scope="module")
def lm(toy_model_dir: Path) -> HFModel:
    return HFModel.load(str(toy_model_dir))


def test_rank_and_exposure_of_known_scores() -> None:
    scores = [-4.0, -1.0, -3.0, -2.0]
    assert [rank(scores, i) for i in range(4)] == [4, 1, 3, 2]
    assert exposure(scores, 1) == 2.0 and exposure(scores, 0) == 0.0
    assert exposure(scores, 3) == pytest.approx(math.log2(4) - math.log2(2))


def test_a_tie_counts_against_the_attacker() -> None:
    assert rank([1.0, 1.0, 0.0], 0) == 2
    assert exposure(np.zeros(1024), 17) == 0.0


@pytest.mark.parametrize(("scores", "index"), [([1.0, math.nan], 0), ([1.0], 1), ([], 0), ([1.0, 2.0], -1)])
def test_scores_without_a_rank_are_an_error(scores: list[float], index: int) -> None:
    with pytest.raises(ValueError):
        exposure(scores, index)


def test_a_secret_that_was_never_seen_has_a_uniform_rank() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=1000)  # whatever the model thinks, once and for all
    places = [rank(scores, int(generator.integers(1000))) / 1000 for _ in range(2000)]
    assert kstest(places, "uniform").pvalue > 1e-3
    bits = np.array([math.log2(1000) - math.log2(place * 1000) for place in places])
    for x in (1, 3, 6):
        assert np.mean(bits >= x) <= 2.0**-x + 3 * math.sqrt(2.0**-x / 2000)


def test_the_space_holds_the_secret_once() -> None:
    for one in CANARIES:
        secrets = candidate_secrets(one)
        assert len(secrets) == one.space and secrets.count(one.secret) == 1


def test_the_trie_gives_back_its_sequences() -> None:
    rows = [(1, 2, 3), (1, 2), (4,), (1, 2, 3), (4, 9)]
    trie = TokenTrie(rows)
    assert [len(tokens) for tokens in trie.token] == [2, 2, 1]
    assert trie.totals(
        [np.array([1.0, 10.0]), np.array([0.1, 0.2]), np.array([0.01])]
    ).tolist() == pytest.approx([1.11, 1.1, 10.0, 1.11, 10.2])
    with pytest.raises(ValueError):
        TokenTrie([(1,), ()])


@pytest.mark.parametrize("number", range(len(CANARIES)))
def test_the_exact_rank_equals_brute_force_over_whole_texts(lm: HFModel, number: int) -> None:
    one = CANARIES[number]
    space = Spaces(lm.tokenizer, 96).of(one)
    slow = []
    for secret in candidate_secrets(one):
        turns = tuple(replace(t, text=t.text.replace(one.secret, secret)) for t in one.records[0].turns)
        item = encode(turns, lm.tokenizer, 96, secret=secret)
        end = max(i for i, flag in enumerate(item.secret_mask) if flag) + 1
        assert item.input_ids[: len(space.prefix)] == space.prefix
        with torch.no_grad():
            logits = lm.model(input_ids=torch.tensor([item.input_ids[:end]])).logits[0]
        logp = torch.log_softmax(logits, -1)
        slow.append(sum(float(logp[i - 1, item.input_ids[i]]) for i in range(len(space.prefix), end)))
    found = lm.sequence_logprobs(space.prefix, space.trie)
    np.testing.assert_allclose(found, slow, atol=2e-4)
    assert (
        abs(rank(found, space.secret_index) - rank(slow, space.secret_index)) <= 1
    )  # rounding may swap neighbours


def test_canaries_with_the_same_words_around_them_share_a_trie(lm: HFModel) -> None:
    maker = Spaces(lm.tokenizer, 96)
    first, second = maker.of(CANARIES[0]), maker.of(canary("delta delta ember", WORDS, " "))
    assert first.trie is second.trie and first.secret_index != second.secret_index


def test_a_planted_secret_ranks_first_and_is_written_by_greedy_decoding(toy_model_dir: Path) -> None:
    trained = HFModel.load(str(toy_model_dir))
    one = CANARIES[0]
    item = encode(one.records[0].turns, trained.tokenizer, 96, secret=one.secret)
    ids = torch.tensor([item.input_ids])
    optimizer = torch.optim.Adam(trained.model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        trained.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    space = Spaces(trained.tokenizer, 96).of(one)
    scores = trained.sequence_logprobs(space.prefix, space.trie)
    assert rank(scores, space.secret_index) == 1
    assert exposure(scores, space.secret_index) == pytest.approx(math.log2(6**3))
    assert trained.token_scores([item])[0].greedy[np.array(item.secret_mask)].all()


def test_a_secret_that_max_length_cuts_is_one_line(lm: HFModel) -> None:
    whole = len(lm.tokenizer(render(CANARIES[0].records[0].turns, lm.tokenizer))["input_ids"])
    for length in (5, whole - 4):
        with pytest.raises(UsageError, match=r"model\.max_length") as error:
            Spaces(lm.tokenizer, length).of(CANARIES[0])
        assert CANARIES[0].secret not in str(error.value)
