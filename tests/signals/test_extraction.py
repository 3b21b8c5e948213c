import itertools
import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import logits_of
from scipy.stats import kstest

from dpaudit.data.canary import Canary
from dpaudit.data.corpus import Record, Turn
from dpaudit.errors import UsageError
from dpaudit.models.encode import counted_mask, encode, render
from dpaudit.models.hf_model import HFModel
from dpaudit.models.spaces import Spaces, encoded_secret
from dpaudit.signals.extraction import (
    Discoverable,
    ExactRank,
    PiiFields,
    TokenTrie,
    candidate_secrets,
    exposure,
    exposure_extrapolated,
    np_extraction_probability,
    other_secrets,
    queries_needed,
    rank,
)

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
            logits = logits_of(lm.model, item.input_ids[:end])
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
    ids = torch.tensor([item.input_ids], device=trained.model.device)
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


# ---- extrapolation


def test_a_sampled_space_scores_as_the_whole_one_does(lm: HFModel) -> None:
    one = CANARIES[0]
    whole = Spaces(lm.tokenizer, 96).of(one)
    every = dict(
        zip(candidate_secrets(one), lm.sequence_logprobs(whole.prefix, whole.trie), strict=True)
    )  # secret -> log-probability
    others = other_secrets(one, 40, random.Random(0))
    assert len(others) == 40 and one.secret not in others
    sampled = Spaces(lm.tokenizer, 96).of(one, others)
    found = lm.sequence_logprobs(sampled.prefix, sampled.trie)
    assert sampled.secret_index == 0
    np.testing.assert_allclose(found, [every[secret] for secret in (one.secret, *others)], atol=2e-4)


def test_extrapolated_exposures_of_unseen_secrets_are_calibrated(lm: HFModel) -> None:
    """On a random model, 2,000 secrets that were drawn and never seen: P[exposure >= x] is 2^-x within a
    third of it, beside three standard errors. The third is how far a skew-normal curve is from what the model
    really gives.
    """
    one = canary("471", tuple("0123456789"), "")
    long = replace(
        one,
        secret="471902",
        length=6,
        records=(
            replace(one.records[0], turns=(one.records[0].turns[0], Turn("assistant", "It is 471902."))),
        ),
    )
    space = Spaces(lm.tokenizer, 96).of(long, other_secrets(long, 4000, random.Random(1)))
    logprobs = lm.sequence_logprobs(space.prefix, space.trie)
    sample, unseen = logprobs[1:2001], logprobs[2001:]
    from dpaudit.stats import skewed

    curve = skewed.fit(-sample)
    bits = np.array([-curve.log2_mass_at_most(-value) for value in unseen])
    first = exposure_extrapolated(sample, float(unseen[0]), 10**6)
    assert first.exposure == pytest.approx(bits[0]) and not first.capped
    for x in (0.5, 1, 2, 3, 4):
        error = 3 * math.sqrt(2.0**-x / len(bits)) + 2.0**-x / 3
        assert abs(np.mean(bits >= x) - 2.0**-x) <= error, x


def test_an_extrapolated_exposure_says_what_it_rests_on() -> None:
    sample = np.random.default_rng(0).normal(-20.0, 2.0, 500)
    middle, far, farther = (exposure_extrapolated(sample, at, 2**40) for at in (-20.0, -12.0, 0.0))
    assert middle.exposure == pytest.approx(1.0, abs=0.2) and not middle.beyond_samples
    assert 10 < far.exposure < 20 and far.beyond_samples and not far.capped
    assert farther.exposure == 40 and farther.beyond_samples and farther.capped
    assert exposure_extrapolated(sample, 0.0, None).exposure > 60
    with pytest.raises(ValueError):
        exposure_extrapolated(sample, math.nan, None)


def test_samples_that_are_all_alike_need_no_curve() -> None:
    assert exposure_extrapolated(np.full(200, -7.0), -7.0, 2**20).exposure == 0.0
    above = exposure_extrapolated(np.full(200, -7.0), -6.0, 2**20)
    assert above.exposure == 20 and above.capped and above.beyond_samples


# ---- sampling


@pytest.mark.parametrize(
    ("p", "n", "wanted"),
    [
        (0.0, 10**9, 0.0),
        (1.0, 1, 1.0),
        (0.3, 0, 0.0),
        (0.3, 1, 0.3),
        (0.5, 2, 0.75),
        (1e-12, 10**12, 1 - math.exp(-1)),
        (1e-300, 10**6, 1e-294),
        (0.999, 10**12, 1.0),
    ],
)
def test_the_probability_of_many_attempts(p: float, n: int, wanted: float) -> None:
    assert np_extraction_probability(p, n) == pytest.approx(wanted, rel=1e-9)


def test_the_probability_equals_the_plain_formula_and_rises() -> None:
    for p, n in itertools.product((1e-3, 0.01, 0.2, 0.9), (1, 2, 7, 100)):
        assert np_extraction_probability(p, n) == pytest.approx(1 - (1 - p) ** n, rel=1e-9)
        assert np_extraction_probability(p, n + 1) >= np_extraction_probability(p, n)
        assert np_extraction_probability(min(1.0, p * 1.1), n) >= np_extraction_probability(p, n)


@pytest.mark.parametrize("p", [1e-9, 1e-3, 0.1, 0.5, 0.7])
@pytest.mark.parametrize("wanted", [0.01, 0.5, 0.9, 0.999999])
def test_the_attempts_needed_are_the_fewest(p: float, wanted: float) -> None:
    n = queries_needed(p, wanted)
    assert n == int(n) >= 1 and np_extraction_probability(p, n) >= wanted
    assert n == 1 or np_extraction_probability(p, n - 1) < wanted


def test_the_attempts_needed_at_the_ends() -> None:
    assert queries_needed(0.0, 0.5) == math.inf and queries_needed(1.0, 0.5) == 1 == queries_needed(1.0, 1.0)
    assert queries_needed(0.5, 1.0) == math.inf and queries_needed(0.5, 0.0) == 0
    assert queries_needed(0.5, 0.75) == 2 and queries_needed(0.5, 0.5) == 1


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    for call in (
        lambda: np_extraction_probability(bad, 1),
        lambda: queries_needed(bad, 0.5),
        lambda: queries_needed(0.5, bad),
    ):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            call()
    with pytest.raises(ValueError, match="queries"):
        np_extraction_probability(0.5, -1)


HOW = {"temperature": 0.9, "top_k": 12, "top_p": 0.9}


def test_a_secrets_probability_is_how_often_sampling_writes_it(lm: HFModel) -> None:
    """Two digits after their prompt: the sum over all pairs of tokens is one, and 4,000 real samples
    agree.
    """
    import transformers

    one = CANARIES[3]
    item = encoded_secret(one, lm.tokenizer, 96)
    place = np.flatnonzero(item.secret_mask)
    prompt = torch.tensor([item.input_ids[: place[0]]])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.GenerationConfig(
            do_sample=True,
            max_new_tokens=len(place),
            min_new_tokens=len(place),
            num_return_sequences=4000,
            pad_token_id=0,
            eos_token_id=None,
            **HOW,
        )
        drawn = lm.model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    tails, counts = np.unique(drawn[:, place[0] :].numpy(), axis=0, return_counts=True)
    top = int(counts.argmax())
    swapped = replace(
        item, input_ids=(*item.input_ids[: place[0]], *map(int, tails[top]), *item.input_ids[place[-1] + 1 :])
    )
    (logprob,) = lm.decoding_logprobs(
        [swapped], [counted_mask(item.secret_mask)], HOW["temperature"], 12, HOW["top_p"]
    )
    p, seen = math.exp(logprob.sum()), counts[top] / 4000
    assert seen > 0.02 and abs(seen - p) <= 4 * math.sqrt(p * (1 - p) / 4000)


@pytest.mark.parametrize("how", [HOW, {"temperature": 1.0, "top_k": 0, "top_p": 1.0}])
def test_the_probabilities_of_all_continuations_add_up_to_one(lm: HFModel, how: dict[str, float]) -> None:
    one = CANARIES[3]
    item = encoded_secret(one, lm.tokenizer, 96)
    last = int(np.flatnonzero(item.secret_mask)[-1])
    mask = np.arange(len(item.input_ids)) == last
    every = [
        replace(item, input_ids=(*item.input_ids[:last], token, *item.input_ids[last + 1 :]))
        for token in range(len(lm.tokenizer))
    ]
    found = lm.decoding_logprobs(
        every, [mask] * len(every), how["temperature"], int(how["top_k"]), how["top_p"]
    )
    mass = np.exp(np.concatenate(found))
    assert mass.sum() == pytest.approx(1.0, abs=1e-4) and (not how["top_k"] or (mass > 0).sum() <= 12)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ExactRank(exact_up_to=0), "exact_up_to"),
        (lambda: ExactRank(samples=10), "samples"),
        (lambda: Discoverable(0.0, 40, 1.0, (1,), 0.5), "temperature.*greedy"),
        (lambda: Discoverable(1.0, -1, 1.0, (1,), 0.5), "top_k"),
        (lambda: Discoverable(1.0, 40, 0.0, (1,), 0.5), "top_p"),
        (lambda: Discoverable(1.0, 40, 1.0, (), 0.5), "queries"),
        (lambda: Discoverable(1.0, 40, 1.0, (10, 1), 0.5), "queries"),
        (lambda: Discoverable(1.0, 40, 1.0, (1,), 1.0), "p: expected a number between"),
        (lambda: PiiFields(("phone", "shoe size")), "fields.*phone.*got shoe size"),
        (lambda: PiiFields(()), "fields"),
    ],
)
def test_parameters_out_of_range_are_named(make: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()  # type: ignore[operator]


def test_grouped_secrets_are_listed_as_they_are_drawn() -> None:
    one = replace(canary("aab bba", ("a", "b"), ""), secret="ab ba", length=4, separator=" ", group=2)
    listed = candidate_secrets(one)
    assert len(set(listed)) == 16 == one.space and one.secret in listed
    assert all(one.sample(random.Random(seed)) in listed for seed in range(20))
