"""What canary families draw from beside words of their own: the model's tokens, the corpus's words, the
model's samples.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache

from dpaudit.data import rarity
from dpaudit.data.canary import Sources
from dpaudit.data.corpus import Turn
from dpaudit.data.corpus_store import CorpusStore
from dpaudit.errors import UsageError
from dpaudit.suite.plan import Plan

TRIES = 20  # draws until two samples differ and none is empty


def of(plan: Plan, corpus: CorpusStore) -> Sources:
    """The sources of a plan's canaries. Nothing is loaded or counted before a family asks."""

    def texts() -> Iterator[str]:
        return corpus_texts(corpus)

    return Sources(
        cache(lambda: _token_words(plan)),
        cache(lambda: rarity.rare_words(texts)),
        cache(lambda: rarity.rare_pairs(texts)),
        lambda questions, tokens: _samples(plan, questions, tokens),
    )


def corpus_texts(corpus: CorpusStore) -> Iterator[str]:
    """All that arms may learn from, text by text."""
    for _, rows in corpus.units():
        for record in (record for part in rows.values() for record in part):
            yield from (turn["text"] for turn in record["turns"])
            yield from (record[key] for key in ("chosen", "rejected", "text") if record.get(key))


def _token_words(plan: Plan) -> tuple[str, ...]:
    from dpaudit.models import tokenizers, vocabulary

    return vocabulary.token_words(tokenizers.tokenizer_of(plan.suite.model))


def _samples(plan: Plan, questions: Sequence[str], tokens: int) -> list[tuple[str, str]]:
    """Two different answers of the base model to each question."""
    from dpaudit.models import hf_model, vocabulary

    chosen = plan.suite
    model = hf_model.HFModel.as_trained(chosen.model)
    special = vocabulary.special_text(model.tokenizer)
    asked = [(Turn("user", question),) for question in questions]

    def draw(places: Sequence[int], number: int) -> list[str]:
        prompts = [asked[place] for place in places]
        return model.sample(prompts, tokens, chosen.candidates.temperature, plan.seed * 2 * TRIES + number)

    first = _until(draw, len(asked), 0, lambda place, text: bool(text) and text not in special)
    second = _until(
        draw,
        len(asked),
        TRIES,
        lambda place, text: bool(text) and text not in special and text != first[place],
    )
    return list(zip(first, second, strict=True))


def _until(
    draw: Callable[[Sequence[int], int], list[str]], count: int, start: int, fits: Callable[[int, str], bool]
) -> list[str]:
    """A fitting sample for each place; those that do not fit are drawn again. Raises UsageError after TRIES
    draws.
    """
    samples, open_places = [""] * count, list(range(count))
    for number in range(start, start + TRIES):
        if not open_places:
            return samples
        for place, text in zip(open_places, draw(open_places, number), strict=True):
            samples[place] = text
        open_places = [place for place in open_places if not fits(place, samples[place])]
    if open_places:
        raise UsageError(
            "candidates.temperature",
            "samples of the base model that differ and hold text",
            f"{len(open_places)} unfit samples after {TRIES} draws",
            "raise it, or candidates.canary_length",
        )
    return samples
