"""What the arms of one method learn from: the corpus's units, as the plan's model reads them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from dpaudit.data.corpus import Record, unit_of
from dpaudit.stages.prepare.dialogues import Tally
from dpaudit.storage.rundir import RunDir
from dpaudit.suite.grid import Method
from dpaudit.suite.plan import Plan
from dpaudit.system.progress import Progress

if TYPE_CHECKING:
    from dpaudit.training.examples import Example
    from dpaudit.training.units import StoredUnits

QUIET = Progress(quiet=True)


@dataclass(frozen=True)
class TrainingSet:
    """What the arms of one method learn from, grouped by unit."""

    units: "StoredUnits"  # read when they are asked for
    names: Sequence[str]  # of the units
    truncated: int  # sequences cut at model.max_length


def load(
    run_dir: RunDir,
    plan: Plan,
    method: Method,
    twin: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Progress = QUIET,
) -> TrainingSet:
    """The units of a method (but canaries where a `twin` learns), encoded into a work folder of the run that
    goes away with them.

    `say` reports what is not learned of them.
    """
    from dpaudit.stages.prepare.candidates import load_training
    from dpaudit.training.units import StoredUnits

    unit = plan.suite.training.unit
    folder = run_dir.new_folder(f"units-{method}{'-twin' if twin else ''}")
    tally, total = Tally(), sum(1 for _ in load_training(run_dir, method, twin))
    with progress.task(f"encoding what {method} learns from", total) as advance:
        records = _counted(load_training(run_dir, method, twin), advance)
        in_units = groupby(records, lambda record: unit_of(record, unit))
        units = StoredUnits.write(folder, tally.passing(encoded_units(plan, in_units)))
    for line in tally.lines(plan.suite.model, f"training {method}{' without canaries' if twin else ''}"):
        if say is not None:
            say(line)
    return TrainingSet(units, units.names, units.truncated)


def _counted(records: Iterable[Record], advance: Callable[[int], None]) -> Iterator[Record]:
    for record in records:
        yield record
        advance(1)


@contextmanager
def loaded(
    run_dir: RunDir,
    plan: Plan,
    method: Method,
    twin: bool,
    say: Callable[[str], None] | None,
    progress: Progress = QUIET,
) -> Iterator[TrainingSet]:
    """`load`, whose folder is gone when the block ends, however it ends."""
    data = load(run_dir, plan, method, twin, say, progress)
    try:
        yield data
    finally:
        data.units.close()


def encoded_units(
    plan: Plan, units: Iterable[tuple[str, Iterable[Record]]]
) -> "Iterator[tuple[str, list[Example]]]":
    """Named units of records as the plan's model reads them, one at a time."""
    from dpaudit.models import tokenizers
    from dpaudit.models.encode import encode_record
    from dpaudit.training import examples

    chosen = plan.suite.model
    tokenizer = tokenizers.tokenizer_of(chosen)
    lengths = (chosen.max_length, chosen.pair_prompt, chosen.pair_answer)
    for name, records in units:
        yield name, [examples.Example(encode_record(record, tokenizer, *lengths)) for record in records]
