"""What an arm lost against its reference on the same benchmark items, and the word for it: `conclude` alone
chooses words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from dpaudit.findings.quality import (
    Comparison,
    Degraded,
    Group,
    Item,
    Margin,
    Reason,
    TaskFigures,
    Word,
)
from dpaudit.judging import cautions
from dpaudit.judging.quality import CONFIDENCE, same_items
from dpaudit.stats import margins
from dpaudit.stats.holm import holm
from dpaudit.suite.grid import Arm

ERROR = 0.05
FACTORS = (0.5, 0.0)  # of the adapter in the control; 0 is the base, which is asked anyway
HALF = "-half"  # ends the name of the control's file
WRONG_LEAST = 6  # discordant items with which McNemar's exact test can tell anything at 5 %
GROUP_LEAST = 10  # items of a kind
# Of what the reference knows above chance at least so much must be kept: FDA, Non-Inferiority Clinical Trials
# (2016), III.C, where M2 is half of M1, the whole effect of the control.
KEPT_LEAST = 0.5
READ_MOST = 0.5  # of a benchmark's items may stand in the training text, which a model may know by heart


def degradable(arms: Sequence[Arm]) -> Arm | None:
    """The arm that is degraded for the control: the first non-private one, dialogues before others."""
    whole = [arm for arm in arms if not arm.private and not arm.twin]
    return next((arm for arm in whole if arm.method == "sft"), whole[0] if whole else None)


def accuracy_pairs(
    task: str, answers: Mapping[str, Sequence[Item]], pairs: Sequence[tuple[str, str]], margin: float
) -> list[Comparison]:
    """Each arm's accuracy less its reference's, not yet concluded: p-values adjusted for nothing."""
    return [_pair(task, answers[arm], answers[against], (arm, against), margin) for arm, against in pairs]


def _pair(
    task: str, ours: Sequence[Item], theirs: Sequence[Item], names: tuple[str, str], margin: float
) -> Comparison:
    clusters = same_items(task, ours, theirs)
    found = margins.loss(_right(ours), _right(theirs), margin, clusters, CONFIDENCE)
    wrong = {
        label
        for mine, other, label in zip(ours, theirs, clusters, strict=True)
        if not (mine.correct and other.correct)
    }
    return Comparison(
        *names,
        task,
        "accuracy",
        found.estimate,
        found.lower,
        found.upper,
        found.p_value,
        found.items,
        found.clusters,
        Margin(
            word="cannot tell",
            reason="neither is shown",
            p_holm=1.0,
            p_no_worse=found.p_no_worse,
            p_no_worse_holm=None,
            p_worse=found.p_worse,
            p_worse_holm=1.0,
            detectable=found.detectable,
            gains=found.gains,
            losses=found.losses,
            wrong=len(wrong),
            is_wide=False,
            worst=worst_group(ours, theirs, clusters),
        ),
    )


def _right(items: Sequence[Item]) -> list[float]:
    return [float(item.correct) for item in items]


def controls(
    task: str, arm: str, whole: Sequence[Item], degraded: Mapping[float, Sequence[Item]], margin: float
) -> list[Degraded]:
    """One task's answers of an arm against those of the same arm with its adapter scaled by each factor.

    The test tells a degraded arm where it is worse with p at most 5 %, adjusted for the factors.
    """
    found = []
    for items in degraded.values():
        clusters = same_items(task, items, whole)
        found.append(margins.loss(_right(items), _right(whole), margin, clusters, CONFIDENCE))
    adjusted = holm([row.p_value for row in found])
    return [
        Degraded(
            task=task,
            arm=arm,
            factor=factor,
            accuracy=float(np.mean(_right(items))),
            difference=row.estimate,
            lower=row.lower,
            upper=row.upper,
            p_holm=p,
            told=bool(row.estimate < 0 and p <= ERROR),
            items=row.items,
            clusters=row.clusters,
        )
        for (factor, items), row, p in zip(degraded.items(), found, adjusted, strict=True)
    ]


def conclude(
    rows: Sequence[Comparison],
    figures: Mapping[str, Mapping[str, TaskFigures]],
    seen: Sequence[Degraded],
    margin: float,
    read: Mapping[str, float] = MappingProxyType({}),
) -> list[Comparison]:
    """The comparisons of accuracy with Holm's p-values and their words. `figures` is by model, then by task;
    `read` is the share of a task's items that stand in the training text.

    Holm runs over all rows, whatever task and reference they are of. Rows with too few clusters to show that
    anything is no worse leave that family beforehand, by their counts alone.
    """
    fewest = margins.fewest_clusters(margin)
    parts = [row.margin for row in rows if row.margin]
    p_holm, worse = holm([row.p_value for row in rows]), holm([part.p_worse for part in parts])
    enough = [index for index, row in enumerate(rows) if row.clusters >= fewest]
    no_worse = dict(zip(enough, holm([parts[index].p_no_worse for index in enough]), strict=True))
    told = {task: any(c.told for c in seen if c.task == task) for task in {c.task for c in seen}}
    concluded = []
    for index, (row, part) in enumerate(zip(rows, parts, strict=True)):
        tested = replace(
            part, p_holm=p_holm[index], p_worse_holm=worse[index], p_no_worse_holm=no_worse.get(index)
        )
        task = str(row.task)
        ours, reference = figures[row.arm][task], figures[row.against][task]
        knows = reference.accuracy - reference.chance
        tested = replace(tested, is_wide=bool(margin > (1 - KEPT_LEAST) * knows))
        word, reason = _word(tested, reference.above_chance, told.get(task))
        if word == "no worse than the margin" and margin >= knows:
            word, reason = "cannot tell", "margin reaches chance"
        if word != "worse" and read.get(task, 0.0) > READ_MOST:
            word, reason = "cannot tell", "items in the training text"
        if any(cautions.is_mostly_cut(row.cut, row.items) for row in (ours, reference)):
            word, reason = "cannot tell", "prompts cut"
        concluded.append(replace(row, margin=replace(tested, word=word, reason=reason)))
    return concluded


def _word(tested: Margin, is_above_chance: bool, is_told: bool | None) -> tuple[Word, Reason | None]:
    """`is_told` is whether the test tells a degraded arm on this task; None where none was asked."""
    if not is_above_chance:
        return "cannot tell", "reference at chance"
    if tested.p_worse_holm <= ERROR:
        return "worse", None
    if tested.p_no_worse_holm is None:
        return "cannot tell", "too few clusters"
    if tested.wrong < WRONG_LEAST:
        return "cannot tell", "at the ceiling"
    if tested.p_no_worse_holm > ERROR:
        return "cannot tell", "neither is shown"
    if not is_told:
        return "cannot tell", "no control" if is_told is None else "control not told"
    return "no worse than the margin", None


def worst_group(ours: Sequence[Item], theirs: Sequence[Item], clusters: Sequence[str]) -> Group | None:
    """The kind of item on which the arm lost most: as its file names it, by language, or by a third of the
    lengths. None where there is no kind beside all. The interval is at 95 % over all kinds together.
    """
    kinds = dict(_kinds(ours))
    if not kinds:
        return None
    mine, other = np.array(_right(ours)), np.array(_right(theirs))
    name = min(kinds, key=lambda kind: float(np.mean(mine[kinds[kind]] - other[kinds[kind]])))
    at = kinds[name]
    labels = [clusters[index] for index in at]
    confidence = 1 - (1 - CONFIDENCE) / len(kinds)
    found = margins.gap(mine[at], other[at], labels, confidence)
    return Group(name, len(kinds), len(at), len(set(labels)), found.estimate, found.lower, found.upper)


def _kinds(items: Sequence[Item]) -> Iterator[tuple[str, list[int]]]:
    named: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        for name in item.groups:
            named.setdefault(name, []).append(index)
    edges = np.quantile([item.length for item in items], [1 / 3, 2 / 3])
    thirds = np.searchsorted(edges, [item.length for item in items])
    for number, name in enumerate(
        ("length: shortest third", "length: middle third", "length: longest third")
    ):
        named[name] = np.flatnonzero(thirds == number).tolist()
    for name, at in named.items():
        if GROUP_LEAST <= len(at) < len(items):
            yield name, at
