"""Membership inference in stage attack: what a model says of every candidate, and the signals made of it. No
labels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dpaudit.data.corpus import Record, as_text
from dpaudit.errors import UsageError
from dpaudit.signals.recipe import Recipe
from dpaudit.signals.text import Combination, Neighbourhood, Recall, Span
from dpaudit.stages.attack import references, shadows
from dpaudit.stages.attack.items import (
    Change,
    Item,
    Items,
    ItemSource,
    changed,
    encoded_sources,
    exchange,
    items_of,
)
from dpaudit.stages.attack.scores import REFERENCE, TOKENS, Score, ScoringJob, require_numbers, write_scores
from dpaudit.stages.prepare.candidates import CandidateUnits
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Arm
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Advance, Progress

if TYPE_CHECKING:
    from dpaudit.models.hf_model import HFModel
    from dpaudit.models.language_model import TokenScores

Fields = dict[str, Any]  # of a Span, beside its log-probabilities
Key = tuple[str, str]  # example and kind
POPULATION_MOST = 200  # held-out texts that RMIA compares with


@dataclass(eq=False)
class Copies:
    """Changed copies of items: text and tokens, made once for all arms."""

    items: Sequence[Item]
    tokenizer: Any
    length: int

    def __post_init__(self) -> None:
        self.known: dict[Neighbourhood | None, list[Item]] = {}

    def of(self, signal: Neighbourhood | None) -> list[Item]:
        """The items in lower case for None; else of each item, one after the other, its neighbours."""
        if signal not in self.known:
            changes = self._lowercase() if signal is None else self._exchanges(signal)
            self.known[signal] = changed(changes, self.tokenizer, self.length)
        return self.known[signal]

    def _lowercase(self) -> Iterator[tuple[Item, Change]]:
        return ((item, str.lower) for item in self.items)

    def _exchanges(self, signal: Neighbourhood) -> Iterator[tuple[Item, Change]]:
        words = sorted({word for i in self.items if i.source.canary is None for word in i.text.split()})
        for item in self.items:
            for number in range(signal.neighbours):
                yield item, exchange(item, words, signal.share, number)


@dataclass(eq=False)
class Asked:
    """One arm's answers, asked for once however many recipes want them."""

    run_dir: RunDir
    plan: Plan
    model: "HFModel"
    arm: Arm
    items: list[Item]
    copies: Copies  # of the items
    heldout: list[Record]  # nobody's training data: prefixes and population
    own: list[float]  # mean log-probability of each item's counted tokens under the arm
    advance: Advance

    def __post_init__(self) -> None:
        self.known: dict[tuple[str, Any], list[Fields]] = {}

    def fields(self, signal: Any) -> list[Fields]:
        """Per item what the signal wants beside the log-probabilities of the arm and its reference."""
        name = getattr(signal, "evidence", None)
        if name is None:
            return [{} for _ in self.items]
        # the answers of shadows do not depend on the signal
        key = (name, None if name == "shadows" else signal)
        if key not in self.known:
            with self.model.active(self.arm.name):
                self.known[key] = EVIDENCE[name](self, signal)
        return self.known[key]

    def means(self, items: Sequence[Item], prefix: Sequence[int] = ()) -> list[float]:
        """The mean log-probability of the counted tokens of each item, by the adapter that is switched on."""
        return means(token_scores(self.model, items, self.advance, prefix))


def means(scores: Sequence["TokenScores"]) -> list[float]:
    """The mean log-probability of the counted tokens of each item."""
    return [float(scored.logprob.sum(dtype=np.float64)) / scored.logprob.size for scored in scores]


def token_scores(
    model: "HFModel", items: Sequence[Item], advance: Advance, prefix: Sequence[int] = ()
) -> "list[TokenScores]":
    """What the model, as it is switched, says of the counted tokens alone of each item, behind `prefix`."""
    encoded, counted = [item.encoded for item in items], [item.counted for item in items]
    return model.counted_scores(encoded, counted, advance, prefix)


def _lowercase(asked: Asked, signal: Any) -> list[Fields]:
    """An item without capitals is its own copy and is not scored again: two batches of the same text differ
    by rounding.
    """
    copies = asked.copies.of(None)
    others = [i for i, (a, b) in enumerate(zip(asked.items, copies, strict=True)) if a.encoded != b.encoded]
    copy_means = dict(zip(others, asked.means([copies[i] for i in others]), strict=True))
    return [{"lowercase": copy_means.get(i, own)} for i, own in enumerate(asked.own)]


def _prefixed(asked: Asked, signal: Recall) -> list[Fields]:
    """Other people's records before every item; their beginning is cut where the model's context ends."""
    length, context = asked.plan.suite.model.max_length, references.context(asked.model)
    shots = references.rendered(asked.heldout[: signal.shots], asked.model.tokenizer, length)
    lead = [token for shot in shots for token in shot]
    by_room: dict[int, list[int]] = {}  # tokens of the prefix -> the items that have room for so many
    for place, item in enumerate(asked.items):
        by_room.setdefault(max(0, min(len(lead), context - len(item.encoded.input_ids))), []).append(place)
    prefixed_means: dict[int, float] = {}
    for room, places in by_room.items():
        values = asked.means([asked.items[place] for place in places], lead[len(lead) - room :])
        prefixed_means |= zip(places, values, strict=True)
    return [{"prefixed": prefixed_means[place]} for place in range(len(asked.items))]


def _neighbours(asked: Asked, signal: Neighbourhood) -> list[Fields]:
    copies = asked.copies.of(signal)
    means = np.array(asked.means(copies)).reshape(len(asked.items), signal.neighbours)
    return [{"neighbours": row} for row in means]


def _gradient_norm(asked: Asked, signal: Any) -> list[Fields]:
    encoded, counted = [i.encoded for i in asked.items], [i.counted for i in asked.items]
    norms = asked.model.gradient_norms(encoded, counted, asked.advance)
    return [{"gradient_norm": float(value)} for value in norms]


def _shadows(asked: Asked, signal: Any) -> list[Fields]:
    """What every shadow of the arm says of the items, and of the held-out texts."""
    known = shadows.require(asked.run_dir, asked.arm, signal.least_shadows)
    texts = _population(asked)
    if asked.heldout and not texts:
        raise UsageError(
            "model.max_length",
            "held-out records with text left after the cut, to compare shadow models on",
            "no such record",
            "train a run with a higher model.max_length or data.heldout",
        )
    answers, population = [], [asked.means(texts)]
    for shadow in known:
        name = f"{asked.arm.name}/{shadow.folder.name}"
        asked.model.add_adapter(name, shadow.folder / "adapter")
        with asked.model.active(name):
            answers.append(asked.means(asked.items))
            population.append(asked.means(texts))
        if not np.isfinite([*answers[-1], *population[-1]]).all():
            raise UsageError(
                str(shadow.folder),
                "a shadow model that gives every text a probability",
                "NaN",
                "its training diverged: train the arm with a lower learning rate",
            )
    by_item = np.array(answers).T  # (items, shadows)
    beside = np.array(population).T  # (texts, 1 + shadows)
    return [
        {
            "shadow_logprob": row,
            "shadow_in": np.array([item.example in shadow.members for shadow in known]),
            "population": beside,
        }
        for item, row in zip(asked.items, by_item, strict=True)
    ]


def _population(asked: Asked) -> list[Item]:
    """Held-out records as items, without those that model.max_length cuts to nothing."""
    method, length = asked.arm.method, asked.plan.suite.model.max_length
    records = asked.heldout[:POPULATION_MOST]
    sources = [ItemSource(as_text(r) if method == "cpt" else r, method == "dpo") for r in records]
    coded = zip(records, sources, encoded_sources(sources, asked.model.tokenizer, length), strict=True)
    return [
        Item(record.id, "heldout", encoded, counted, "", source)
        for record, source, (encoded, counted) in coded
        if counted.any()
    ]


EVIDENCE: dict[str, Callable[[Asked, Any], list[Fields]]] = {
    "lowercase": _lowercase,
    "prefixed": _prefixed,
    "neighbours": _neighbours,
    "gradient_norm": _gradient_norm,
    "shadows": _shadows,
}


def score(
    run_dir: RunDir,
    plan: Plan,
    progress: Progress,
    jobs: Sequence[ScoringJob],
    candidates: CandidateUnits,
    model: "HFModel",
) -> None:
    """Writes the scores of all jobs. An arm is asked once for all its recipes, and a reference once for all
    arms.
    """
    items = {m: items_of(plan, candidates, m, model.tokenizer) for m in {job.arm.method for job in jobs}}
    copies = {
        m: Copies(rows.items, model.tokenizer, plan.suite.model.max_length) for m, rows in items.items()
    }
    heldout = [Record.from_json(row) for row in run_dir.iterate_lines("corpus/heldout.jsonl")]
    known = references.References(run_dir, plan, model)
    with progress.task("attack mia: scoring candidates", total=_sequences(run_dir, jobs, items)) as advance:
        for job in jobs:
            rows = items[job.arm.method]
            with model.active(job.arm.name):
                arm_scores = token_scores(model, rows.items, advance)
            own = means(arm_scores)
            beside = copies[job.arm.method]
            asked = Asked(run_dir, plan, model, job.arm, rows.items, beside, heldout, own, advance)
            for chosen in job.recipes:
                reference = known.scores(chosen.reference, job.arm, rows.items, advance)
                scores = scores_of(chosen, asked, arm_scores, reference)
                require_numbers(run_dir, job.arm.name, scores)
                write_scores(run_dir, plan, job.arm.name, chosen, scores, rows.counts())


def _sequences(run_dir: RunDir, jobs: Sequence[ScoringJob], items: dict[Any, Items]) -> int:
    """How many sequences will go through the model, about: references and evidence are counted by recipe."""
    total = sum(len(rows.items) for rows in items.values())
    for job in jobs:
        wanted = {s.evidence: s for r in job.recipes for s in signals_of(r) if hasattr(s, "evidence")}
        passes = sum(passes_of(s, shadows.present(run_dir, job.arm)) for s in wanted.values())
        total += len(items[job.arm.method].items) * (1 + passes)
    return total


def passes_of(signal: Any, known: Sequence[shadows.Shadow]) -> int:
    """How often a signal's evidence sends every item through the model."""
    if isinstance(signal, Neighbourhood):
        return signal.neighbours
    return len(known) if signal.evidence == "shadows" else 1


def signals_of(chosen: Recipe) -> list[Any]:
    signal = chosen.make_signal()
    return [r.make_signal() for r in chosen.components()] if isinstance(signal, Combination) else [signal]


def scores_of(
    chosen: Recipe, asked: Asked, arm: Sequence["TokenScores"], reference: Sequence["TokenScores"] | None
) -> list[Score]:
    """One score an example; of a combination, one score a component, under its name; of a residual, the arm's
    score, the number of tokens, and the reference's score where there is one.
    """
    signal = chosen.make_signal()
    if isinstance(signal, Combination):
        return [
            Score(row.example, row.kind, component.name, row.value)
            for component in chosen.components()
            for row in scores_of(component, asked, arm, reference)
        ]
    scores = _added_up(chosen.signal, signal, asked, arm, reference or arm)
    if chosen.calibration == "residual":
        scores += _added_up(TOKENS, _count, asked, arm, arm)
        if reference is not None:
            scores += _added_up(REFERENCE, signal, asked, reference, reference)
    return scores


def _count(span: Span) -> float:
    return float(span.logprob.size)


def _added_up(
    name: str, signal: Any, asked: Asked, model: Sequence["TokenScores"], reference: Sequence["TokenScores"]
) -> list[Score]:
    """One score an example under `name`: of what `model` says, beside what `reference` says."""
    values: dict[Key, float] = {}
    for item, scored, other, fields in zip(asked.items, model, reference, asked.fields(signal), strict=True):
        span = Span(
            scored.logprob, scored.mean, scored.std, other.logprob, item.text, scored.greedy, **fields
        )
        key = (item.example, item.kind)
        values[key] = values.get(key, 0.0) + signal(span)  # a unit's records add up
    return [Score(example, kind, name, value) for (example, kind), value in values.items()]
