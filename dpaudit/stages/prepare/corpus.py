"""The plan's data as a corpus: records, preference pairs, plain text, and what is held out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dpaudit.data import clinic, reading
from dpaudit.data.columns import plain_names
from dpaudit.data.corpus import Part, Record, as_text, unit_note
from dpaudit.data.corpus_store import CorpusStore
from dpaudit.data.reading import read_records
from dpaudit.data.row_reader import Reader
from dpaudit.errors import UsageError
from dpaudit.judging import planted
from dpaudit.judging.verdicts import question_of
from dpaudit.stages.prepare import dialogues
from dpaudit.suite.plan import Plan
from dpaudit.suite.suite import Data, Model

WANTED = {
    "records": "dialogues to fine-tune on",
    "pairs": "prompt, chosen and rejected in every row",
    "texts": "plain text in every row",
}
SEEN = {"records": "dialogues", "pairs": "preference pairs", "texts": "plain text"}
FAULTS = "faults"  # data.preference: pairs made from the dialogues themselves
ALONE = ("swapped dose", "negated warning", "cut short")  # faults that need no other record, the rarest first
OWN = {
    "pairs": "--set data.preference=FILE, or =faults to make pairs from the dialogues, or no DPO arms: --set "
    "data.preference=null --set grid.dpo=[]",
    "texts": "--text FILE",
}


def rows_to_read(plan: Plan) -> int | None:
    """How many rows `load_corpus` goes over; None where nobody can tell without reading them."""
    data, rows = plan.suite.data, 0
    for part, origin in (("records", data.source), ("pairs", data.preference), ("texts", data.text)):
        source = data.source if origin == FAULTS else origin
        if source is None:
            continue
        is_source = part == "records" or origin == FAULTS
        counted = None
        if not source.startswith("builtin:"):
            counted = reading.count(source, *((data.rows, data.limit) if is_source else ()))
        if counted is None:
            return None
        rows += counted
    return rows


def load_corpus(
    plan: Plan, folder: Path | None = None, advance: Callable[[int], None] = lambda n: None
) -> CorpusStore:
    """The plan's records, pairs, texts and held-out records, in a work file in `folder`. Raises UsageError
    with file and line.
    """
    data, training = plan.suite.data, plan.suite.training
    is_clinic = data.source == "builtin:clinic"
    source = f"builtin:clinic seed {plan.seed}" if is_clinic else data.source
    corpus = CorpusStore(source, training.unit, folder)
    tokenizer = tokenizer_of(plan.suite.model)
    named: dict[Part, str | None] = {"records": data.source, "pairs": data.preference, "texts": data.text}
    for part, origin in named.items():
        if origin is None:
            continue
        reader, read_from = Reader(), data.source if origin == FAULTS else origin
        rows = rows_of(plan, part, origin, reader)
        corpus.add(part, _counted(dialogues.checked(rows, read_from, tokenizer), advance), read_from)
        if reader.unread and origin != FAULTS:
            corpus.notes.append(f"{origin}: columns that are not used: {plain_names(sorted(reader.unread))}")
    corpus.index()
    if not is_clinic and (note := unit_note(training.unit, *corpus.people())):
        corpus.notes.append(note)
    if training.records_per_patient is not None:
        corpus.cap(training.records_per_patient, plan.seed)
    if is_clinic:
        others = (plan.seed, data.patients, data.heldout)
        corpus.heldout = [r.to_json() for r in clinic.heldout_records(*others)]
        if data.preference == "builtin:clinic":
            corpus.heldout_pairs = [r.to_json() for r in clinic.heldout_pairs(*others)]
    else:
        corpus.hold_out(data.heldout, plan.seed)
    return corpus


def _counted(
    rows: Iterator[tuple[int, Record]], advance: Callable[[int], None]
) -> Iterator[tuple[int, Record]]:
    for row in rows:
        yield row
        advance(1)


def rows_of(
    plan: Plan, part: Part, origin: str, reader: Reader | None = None
) -> Iterator[tuple[int, Record]]:
    """The numbered records of one kind of data, read from their start."""
    data, reader = plan.suite.data, reader or Reader()
    if origin == "builtin:clinic":
        return _clinic(plan, part)
    if origin == FAULTS and part == "pairs":
        return _planted(read_part("records", data.source, data, reader))
    return read_part(part, origin, data, reader)


def tokenizer_of(model: Model) -> Any:
    """The model's tokenizer, whose chat template every row has to pass; None for a model that only a forecast
    is made of.
    """
    from dpaudit.models import memory, tokenizers

    return None if memory.is_absent(model) else tokenizers.tokenizer_of(model)


def _clinic(plan: Plan, part: Part) -> Iterator[tuple[int, Record]]:
    """One part of the synthetic clinic. Raises UsageError where the dialogues are somebody else's."""
    data = plan.suite.data
    if data.source != "builtin:clinic":
        key = {"pairs": "preference", "texts": "text"}.get(part, "source")
        raise UsageError(f"data.{key}", "a file beside a data file", "builtin:clinic", OWN[part])
    people = (clinic.told(clinic.patient(plan.seed, index)) for index in range(data.patients))
    if part == "pairs":
        return enumerate(pair for _, pair in people)
    records = (record for records, _ in people for record in records)
    return enumerate(records if part == "records" else map(as_text, records))


def read_part(part: Part, source: str, data: Data, reader: Reader) -> Iterator[tuple[int, Record]]:
    """The records of a file, which must be of this part; `data.rows` and `data.limit` are for the dialogues
    alone.
    """
    is_source = part == "records"
    for line, record in read_records(
        source, data.rows if is_source else None, data.limit if is_source else None, reader
    ):
        if record.part != part:
            raise UsageError(
                source,
                WANTED[part],
                SEEN[record.part],
                "name pairs with data.preference and plain text with data.text",
            )
        yield line, record


def _planted(records: Iterator[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
    """A pair of every dialogue with an answer that a fault can be planted in: as it is, and with the fault.

    It has the dialogue's id, so that both are one unit: one coin, and held out together. The fault comes from
    the answer alone and never from other records: a pair is its own patient's and nobody else's.
    """
    for line, record in records:
        question, right = question_of(record.turns[:-1]), record.turns[-1].text
        faulty = (planted.FAULTS[name](question, right, ()) for name in ALONE)
        wrong = next((text for text in faulty if text and text.strip() and text != right), None)
        if wrong is not None and len(record.turns) > 1:
            yield line, Record(record.id, record.turns[:-1], record.patient, right, wrong)
