"""Lines that warn of figures which could be read as better news than they are."""

from collections.abc import Iterator, Mapping, Sequence

from dpaudit.findings.counted import many
from dpaudit.findings.quality import MeasureFigures, Quality, TaskFigures

CUT_MOST = 0.5  # of a benchmark's prompts may be cut, which is another benchmark
Figures = TaskFigures | MeasureFigures
MARGIN_MOST = 0.1  # beyond which a margin is warned of


def of_margin(margin: float) -> Iterator[str]:
    """Of a margin that is more than most people would call no loss."""
    if is_wide(margin):
        yield (
            f"warning: evaluation.margin: {100 * margin:g} points is a wide margin: an adapter that loses "
            f"almost as much is still called no worse; at most {MARGIN_MOST:g} is usual"
        )


def is_wide(margin: float) -> bool:
    return margin > MARGIN_MOST


def is_mostly_cut(cut: int, items: int) -> bool:
    """Whether the model's window held fewer than half of the prompts whole."""
    return cut > CUT_MOST * items


def of_cut_prompts(figures: Mapping[str, Sequence[Figures]]) -> Iterator[str]:
    """Of prompts that the models' windows did not hold whole, by benchmark; `figures` is by model."""
    worst: dict[str, Figures] = {}
    for of_model in figures.values():
        for row in of_model:
            if row.cut > (worst[row.task].cut if row.task in worst else 0):
                worst[row.task] = row
    for row in worst.values():
        said = "; so no loss and no gain can be told from it" if is_mostly_cut(row.cut, row.items) else ""
        yield (
            f"warning: {row.task}: the beginning of {row.cut:,} of {many(row.items, 'prompt')} was cut off, "
            f"since the model's window does not hold them{said}; shorter items, or fewer worked examples, "
            "may fit"
        )


def of_heldout(models: Sequence[Quality]) -> Iterator[str]:
    """Of held-out records that are mostly not in the figure."""
    for row in models[:1]:  # all models have the same records and tokenizer
        records = row.bits_per_byte.records if row.bits_per_byte else 0
        if row.heldout_left_out > records:
            yield (
                f"warning: bits per byte are of {many(records, 'held-out record')}: no answer of the other "
                f"{row.heldout_left_out:,} fits into model.max_length"
            )
