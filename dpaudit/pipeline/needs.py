"""What a run will need, checked before there is a run directory: model, first rows, judge, references, room
on the disk.

Each check raises UsageError, or Mistakes for several at once. Every row is checked again when the corpus is
prepared.
"""

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpaudit.data import reading
from dpaudit.data.corpus import Part, Record
from dpaudit.data.corpus_store import CorpusStore
from dpaudit.errors import Gathering, UsageError
from dpaudit.judging import own_criteria
from dpaudit.models.decoding import Decoding
from dpaudit.signals import recipe
from dpaudit.stages import judge, judge_replies, writing
from dpaudit.stages.judge_replies import AS_USUAL, Way
from dpaudit.stages.prepare import dialogues
from dpaudit.stages.prepare.corpus import FAULTS, rows_of
from dpaudit.suite import suite
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Suite

if TYPE_CHECKING:
    from dpaudit.models.folder import Checked

FIRST = 50  # rows of each kind of data that are read, rendered and encoded
FURTHER = 1000  # rows that are rendered to count faults
COUNTED = 100_000  # rows that are read to count faults
# copies of an adapter's numbers in checkpoints: weights, two moments, and one checkpoint beside the last
STATE = 4
NUMBER_BYTES = 4


# ---- models


def check_adapter(chosen: Suite, base: "Checked", start: Path | None) -> int:
    """How many numbers an adapter of the suite trains on a checked base, which it changes. No weight is read.

    Raises UsageError for LoRA targets that no layer bears, and for a `start` that is no whole adapter or of
    another kind.
    """
    from dpaudit.models import adapter_files, fused, preflight

    adapted = adapter_files.new_adapter(base.empty, chosen.training.lora, 0)
    if start is not None:
        preflight.check(chosen.model.base, chosen.model.quantization, start)
        adapter_files.fitting(adapted, start)
    return sum(p.numel() for p in fused.trainable(adapted).values())


def check_judge(chosen: Suite, way: Way = AS_USUAL) -> None:
    """Raises UsageError for a judge's model that would not load whole, for an endpoint that may not be asked
    or lacks its key, for a backend of answers that is not here, and for prompts with criteria that do not
    fit.
    """
    if chosen.judging is None:
        return
    rules = judge.rules_of(chosen, chosen.judging)
    writing.check(chosen.judging.backend, Decoding(1), {})
    if chosen.judging.criteria is not None:
        own_criteria.require_criteria(rules, Path(chosen.judging.criteria))
        own_criteria.read(Path(chosen.judging.criteria))
    judge_replies.require_askable(rules, chosen.judging, way)


def check_recipes(chosen: Suite) -> None:
    """Raises UsageError for an attack's recipe that cannot be read, or whose reference would not load."""
    from dpaudit.models import preflight

    faults = Gathering()
    for known in recipe.load_all():
        if known.kind in chosen.attacks and known.reference not in recipe.REFERENCES:
            faults.passes(preflight.check, known.reference)
    faults.end()


# ---- data


def check_rows(plan: Plan, tokenizer: Any, is_refused: bool = False) -> None:
    """Raises what is wrong with the first rows of each kind of data: shapes, ids, patients, chat template,
    length.

    Where something is, or where the plan `is_refused` already, many more rows are checked, so that all faults
    are reported at once. Without a `tokenizer` none is rendered. Data of a hub are read once, when the corpus
    is prepared.
    """
    if not is_refused and Gathering().passes(_check_first, plan, tokenizer, FIRST, FIRST):
        return
    _check_first(plan, tokenizer, COUNTED, FURTHER)


def _check_first(plan: Plan, tokenizer: Any, read: int, rendered: int) -> None:
    faults, data = Gathering(), plan.suite.data
    corpus = CorpusStore(data.source, plan.suite.training.unit)
    named: dict[Part, str | None] = {"records": data.source, "pairs": data.preference, "texts": data.text}
    for part, origin in named.items():
        if origin is not None and not reading.is_hub_id(origin):
            faults.passes(_check_part, plan, part, origin, corpus, tokenizer, read, rendered)
    faults.passes(corpus.index)
    faults.end()


def _check_part(
    plan: Plan, part: Part, origin: str, corpus: CorpusStore, tokenizer: Any, read: int, rendered: int
) -> None:
    """Checks the first `read` rows of one kind of data, and renders `rendered` of them."""
    source = plan.suite.data.source if origin == FAULTS else origin

    def rows(most: int) -> Iterator[tuple[int, Record]]:
        return islice(rows_of(plan, part, origin), most)

    for _ in rows(read):  # unreadable rows get no further check
        pass
    faults = Gathering()
    faults.passes(corpus.add, part, rows(read), source)
    if tokenizer is not None and faults.passes(dialogues.check, rows(rendered), source, tokenizer):
        faults.passes(_check_length, plan, source, list(rows(FIRST)), tokenizer)
    faults.end()


def _check_length(plan: Plan, source: str, rows: Sequence[tuple[int, Record]], tokenizer: Any) -> None:
    """Raises UsageError where nothing of any row would be learned, or a token belongs to a question and its
    answer.
    """
    from dpaudit.models.encode import encode_record
    from dpaudit.models.templates import Refused

    chosen, cut = plan.suite.model, 0
    lengths = (chosen.max_length, chosen.pair_prompt, chosen.pair_answer)
    for number, record in rows:
        try:
            made = encode_record(record, tokenizer, *lengths)
        except Refused as error:
            raise UsageError(f"{source}:{number}", error.expected, error.got, error.remedy) from None
        cut += not any(any(encoded.answer_mask[1:]) for encoded in made)
    if rows and cut == len(rows):
        raise UsageError(
            "model.max_length",
            f"room for an answer in some of the first {len(rows)} rows of {source}",
            f"{chosen.max_length}, which cuts every answer away",
            "raise it",
        )


# ---- room


def check_room(plan: Plan, runs: Path, trained: int) -> None:
    """Raises UsageError where the disk of `runs` has less room than the run needs at the least."""
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    require_room(place, need(plan, trained), runs)


def need(plan: Plan, trained: int) -> int:
    """Bytes that a run takes at the least: the corpus and its work file, and of every arm its adapter and,
    while it trains, its state.

    `trained` is how many numbers an adapter has. Scores are small beside them.
    """
    adapters = len(plan.suite.grid.arms) * trained * NUMBER_BYTES
    return 2 * corpus_bytes(plan.suite.data) + adapters + STATE * trained * NUMBER_BYTES


def require_room(place: Path, needed: int, runs: Path) -> None:
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UsageError(
            str(runs),
            f"room for at least {_gigabytes(needed)}: the corpus twice, adapters and a checkpoint",
            f"{_gigabytes(free)} free",
            "make room, or name a folder on another disk with --runs",
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"


def corpus_bytes(data: suite.Data) -> int:
    """The size of the data files; with a window or a limit nobody knows, and none is counted."""
    named = {source for source in (data.source, data.preference, data.text) if source}
    paths = [Path(name) for name in named if suite.path_or_builtin(name)]
    if data.rows is not None or data.limit is not None:
        return 0
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file())
