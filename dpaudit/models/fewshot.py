"""Worked examples before an item: as the task says, and never the item itself or one that shares its passage.

lm-eval takes them from the tested items where a task has no others, and keeps the item itself out only if the
task names that split for its examples.
"""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.models.items import SEED, clusters_of_docs


class _Others:
    """A sampler of lm-eval's kind that draws among the items of other clusters than the item's own."""

    def __init__(self, docs: Sequence[Any], clusters: Sequence[int]) -> None:
        self.docs, self.clusters, self.rnd = docs, clusters, random.Random(SEED)
        self.place = {_key(doc): place for place, doc in enumerate(docs)}

    def set_rnd(self, seed: int | None) -> None:
        self.rnd = random.Random(seed)

    def sample(self, n: int, eval_doc: Any = None, **_: Any) -> Sequence[Any]:
        own = self.clusters[self.place[_key(eval_doc)]]
        return self.rnd.sample(
            [doc for doc, of in zip(self.docs, self.clusters, strict=True) if of != own], n
        )


def set_examples(name: str, task: Any, count: int | None) -> None:
    """Gives a task's items `count` worked examples; None for as many as the task says. Raises UsageError for
    more than there are for every item.
    """
    wanted = int(task.config.num_fewshot or 0) if count is None else count
    if wanted:
        clusters = clusters_of_docs(task) if _are_of_tested_items(task) else []
        largest = max(map(clusters.count, set(clusters)), default=0)
        there = len(clusters) - largest if clusters else len(list(task.fewshot_docs()))
        if wanted > there:
            raise UsageError(
                "evaluation.fewshot",
                f"at most {there:,}, the worked examples that {name} has for every item",
                f"{wanted:,}",
                f"--set evaluation.fewshot={max(0, min(there, 5))}",
            )
        if clusters:
            task.sampler = _Others(list(task.eval_docs), clusters)
            task.fewshot_cfg.split = task.config.test_split  # else lm-eval does not tell the sampler the item
    if count is not None:
        task.set_config("num_fewshot", count)
    task.set_fewshot_seed(SEED)


def _are_of_tested_items(task: Any) -> bool:
    """Whether a task's worked examples are drawn from the items that are tested."""
    if getattr(task, "fewshot_cfg", None) is None or task.fewshot_cfg.samples is not None:
        return False
    split, tested = task.fewshot_cfg.split, task.config.test_split or task.config.validation_split
    if split is not None:
        return bool(split == tested)
    return not task.has_training_docs() and (not task.has_validation_docs() or not task.has_test_docs())


def _key(doc: Any) -> str:
    return json.dumps(doc, sort_keys=True, default=str) if isinstance(doc, Mapping) else str(doc)
