"""Coins and candidates: which units a coin decides on, the canaries among them, the rows that hold both."""

import random
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from dpaudit.data import canary
from dpaudit.data.canary import Canary
from dpaudit.data.corpus_store import PARTS, CorpusStore
from dpaudit.errors import UsageError
from dpaudit.stages.prepare import sources
from dpaudit.stages.prepare.axes import AXES_MOST, axis_names
from dpaudit.stages.prepare.corpus import SEEN
from dpaudit.stages.prepare.lessons import METHODS
from dpaudit.suite.plan import Plan


def draw(plan: Plan, corpus: CorpusStore) -> tuple[Iterator[dict[str, Any]], dict[str, bool], random.Random]:
    """The rows of candidates.jsonl, to be read once, the coin of each unit that has one, and what further
    coins come from: canaries along axes of the weights are counted once the rows are known.

    Membership coins are fair and independent; all canaries are drawn before the first coin. Of the
    extraction canaries of one number of copies exactly half, drawn at random, are planted.
    """
    coin = (
        secrets.SystemRandom() if plan.insecure_seed is None else random.Random(f"coins/{plan.insecure_seed}")
    )
    taken: set[str] = set()
    members, planted = _canaries(plan, sources.of(plan, corpus), taken)
    coins = {c.id: coin.random() < 0.5 for c in members}
    coins |= _halves(planted, coin)
    if any(corpus.has_unit(name) for name in (*coins, *axis_names(AXES_MOST))):
        raise UsageError(
            "data: ids",
            "no unit with the name of a canary",
            "a unit with such a name",
            "rename units that begin with mia, extraction or axis",
        )
    flipped = _flipped(plan, corpus)
    coins |= {name: coin.random() < 0.5 for name in flipped}
    return _rows(plan, corpus, [*members, *planted], set(flipped)), coins, coin


def _flipped(plan: Plan, corpus: CorpusStore) -> list[str]:
    """The units of the data that have a coin: `candidates.records` of those that arms learn from.

    That many of each part that is learnt: a unit that holds a dialogue and a preference pair counts in both,
    and where they are units apart, such as under unit record, further ones are drawn.
    """
    wanted, methods = plan.suite.candidates.records, {arm.method for arm in plan.suite.grid.arms}
    if plan.suite.training.unit == "label":
        return []  # it hides no membership, and a pair that is left out teaches nothing
    flipped: list[str] = []
    for part in (part for part in PARTS if METHODS[part] in methods and corpus.unit_count(part)):
        units, held = corpus.unit_count(part), sum(bool(corpus.rows_of(name)[part]) for name in flipped)
        if wanted > units // 2 and not flipped:
            raise UsageError(
                "candidates.records",
                f"at most half of the {units} units with {SEEN[part]}",
                str(wanted),
                f"--set candidates.records={units // 2}",
            )
        if (more := min(wanted, units // 2) - held) > 0:
            flipped += corpus.sample_units(more, f"candidates/{plan.seed}", part, set(flipped))
    return flipped


def _canaries(plan: Plan, origins: canary.Sources, taken: set[str]) -> tuple[list[Canary], list[Canary]]:
    """Those for membership and those for extraction, of one family; their surnames are added to `taken`."""
    wanted, seed = plan.suite.candidates, str(plan.seed)

    def drawn(purpose: str, count: int, length: int, copies: Sequence[int]) -> list[Canary]:
        return (
            canary.draw(wanted.family, count, length, copies, purpose, taken, seed, origins) if count else []
        )

    members = drawn("mia", wanted.canaries, wanted.canary_length, (wanted.canary_repetitions,))
    planted = drawn("extraction", wanted.extraction, wanted.extraction_length, wanted.levels)
    return members, planted


def _halves(planted: list[Canary], coin: random.Random) -> dict[str, bool]:
    """Extraction canary -> whether it is planted: half of each number of copies, rounded down."""
    coins: dict[str, bool] = {}
    for copies in dict.fromkeys(drawn.repetitions for drawn in planted):
        level = [drawn.id for drawn in planted if drawn.repetitions == copies]
        chosen = set(coin.sample(range(len(level)), len(level) // 2))
        coins |= {name: i in chosen for i, name in enumerate(level)}
    return coins


def _rows(
    plan: Plan, corpus: CorpusStore, canaries: Sequence[Canary], flipped: set[str]
) -> Iterator[dict[str, Any]]:
    """Canaries first, then every unit; `texts` is there where the plan has plain text."""
    parts = [part for part in PARTS if part != "texts" or plan.suite.data.text is not None]
    yield from canary.to_rows(canaries)
    for name, rows in corpus.units():
        kind = "record" if name in flipped else "certain"
        yield {"kind": kind, "id": name, **{part: rows[part] for part in parts}}
