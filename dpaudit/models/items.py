"""What a benchmark's items are, whatever a model says of them: ids, clusters, kinds, hashes of prompts."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpaudit.data import shared_keys
from dpaudit.data.near_duplicates import words_of

SEED = 1234  # of worked examples, sampled answers and drawn items; lm-eval's own
Sample = Mapping[str, Any]  # as lm-eval keeps an item with its answers


@dataclass(frozen=True)
class AskedItem:
    """One item as it was asked. `prompt` is a hash; `cut` is 1 where the model's window did not hold all of
    it.
    """

    id: str
    cluster: str
    prompt: str
    groups: tuple[str, ...]
    length: int  # of the prompt, in characters
    cut: int


def asked_items(
    samples: Sequence[Sample], task: Any, is_cut: Callable[[Any, Sample], bool]
) -> list[AskedItem]:
    """The items of samples that are in the order of the benchmark."""
    named, kinds = (
        shared_keys.named_keys(task.config.metadata),
        (task.config.metadata or {}).get("groups", []),
    )
    clusters = clusters_of(
        [shared(sample["doc"], str(sample["arguments"][0][0]), named) for sample in samples]
    )
    label = _label([sample["doc"] for sample in samples], named)
    items = []
    for sample, cluster in zip(samples, clusters, strict=True):
        prompt = str(sample["arguments"][0][0])
        items.append(
            AskedItem(
                identity(sample["doc"], sample["doc_id"]),
                # a number and not the field's own text, which may be a whole passage
                f"{label}-{cluster}",
                hashlib.sha256(prompt.encode()).hexdigest()[:16],
                (*_named(sample["doc"], kinds), f"language: {_language(_question(task, sample))}"),
                len(prompt),
                int(is_cut(task, sample)),
            )
        )
    return items


def identity(doc: Any, number: int) -> str:
    """An item's own id, else its place."""
    return str(doc.get("id", number)) if isinstance(doc, Mapping) else str(number)


def drawn(task: Any, limit: int | None) -> list[int] | None:
    """The places of the items that a limit leaves: whole clusters, drawn by a fixed seed, until there are so
    many items. None for all. A larger limit draws the same items and more.
    """
    if limit is None or limit >= len(task.eval_docs):
        return None
    clusters = clusters_of_docs(task)
    order = list(dict.fromkeys(clusters))
    random.Random(SEED).shuffle(order)
    taken: set[int] = set()
    sizes, items = Counter(clusters), 0
    for cluster in order:
        if items < limit:
            taken.add(cluster)
            items += sizes[cluster]
    return [place for place, cluster in enumerate(clusters) if cluster in taken]


def clusters_of_docs(task: Any) -> list[int]:
    """A number for each item of a task, the same for all that are one draw."""
    named = shared_keys.named_keys(task.config.metadata)
    return clusters_of([shared(doc, _text(task, doc), named) for doc in task.eval_docs])


def _text(task: Any, doc: Any) -> str:
    """The item's question; where a task has none, or only the place of one, all that it holds."""
    text = task.doc_to_text(doc)
    return text if isinstance(text, str) and text else str(doc)


def _label(docs: Sequence[Any], named: Sequence[str] | None) -> str:
    """The names of the keys that items share."""
    rows = [doc for doc in docs if isinstance(doc, Mapping)]
    found = dict.fromkeys(key for row in rows for key in shared_keys.shared_of(row, named))
    return "+".join(found) or "question"


def shared(doc: Any, prompt: str, named: Sequence[str] | None) -> list[str]:
    """What makes an item one draw with others: the words of its question, and the values of the keys that its
    task names, or else of all that are known to name what items share.
    """
    asked = doc.get("question") if isinstance(doc, Mapping) else None
    text = asked if isinstance(asked, str) else prompt
    values = shared_keys.shared_of(doc, named) if isinstance(doc, Mapping) else {}
    return [f"asked: {' '.join(words_of(text))}", *(f"{key}: {value}" for key, value in values.items())]


def clusters_of(shared: Sequence[Sequence[str]]) -> list[int]:
    """A number for each item, the same for all that something shared joins, in order of their first item."""
    parent = list(range(len(shared)))

    def root(at: int) -> int:
        while parent[at] != at:
            at = parent[at]
        return at

    first: dict[str, int] = {}
    for at, keys in enumerate(shared):
        for key in keys:
            one, other = sorted((root(first.setdefault(key, at)), root(at)))
            parent[other] = one
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(at), len(numbers)) for at in range(len(shared))]


def _question(task: Any, sample: Sample) -> str:
    """The item without worked examples; where a task has no question, the text that is scored."""
    return str(task.doc_to_text(sample["doc"])) or str(sample["arguments"][0][0])


def _named(doc: Mapping[str, Any], kinds: Sequence[str]) -> list[str]:
    return [f"{kind}: {doc[kind]!s:.40}" for kind in kinds if doc.get(kind)]


def _language(text: str) -> str:
    return "Chinese" if any("\u4e00" <= character <= "\u9fff" for character in text) else "not Chinese"
