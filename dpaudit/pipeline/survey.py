"""What a data file holds, seen before there is a suite for it: shape, people, script, lengths in tokens."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dpaudit.data import reading, scripts
from dpaudit.data.columns import plain_names, present
from dpaudit.data.corpus import Record
from dpaudit.data.corpus_store import CorpusStore
from dpaudit.data.row_reader import Reader
from dpaudit.errors import UsageError
from dpaudit.stages.prepare.corpus import read_part
from dpaudit.storage import exclusive
from dpaudit.suite.suite import Data

if TYPE_CHECKING:
    from dpaudit.models.encode import Encoded

EMBEDDED = "builtin:tiny"
SAMPLE = 2000  # records whose tokens are counted; of a longer file a random sample
UNLIMITED = 1 << 30  # tokens
OFTEN = 0.05  # of the records, from which on a language is named
PEOPLE = ("patient", "subject", "person", "mrn", "患者", "病人")  # in names of columns


@dataclass(frozen=True)
class Measured:
    """One record: its tokens, how many of them are learned, the place of the first of these, and the
    record.
    """

    tokens: int
    learned: int
    begins: int
    record: Record


@dataclass(frozen=True)
class Survey:
    """`measured` has the records whose tokens were counted, in the order of the file."""

    shape: str
    unread: tuple[str, ...]  # columns
    script: str
    languages: str | None  # None where a twentieth of the records or more do not show theirs
    records: int
    patients: int  # that are named
    named: int  # records that name one
    patient_column: str | None
    counted_by: str  # the base whose tokenizer counted
    window: int | None  # tokens that the base reads at most
    measured: tuple[Measured, ...]

    @property
    def people_columns(self) -> list[str]:
        """Columns that are not read and whose names say that they name people."""
        return [name for name in self.unread if any(part in name.lower() for part in PEOPLE)]

    @property
    def unread_names(self) -> str:
        """The columns that are not read, for a message."""
        return plain_names(self.unread)

    def length(self, share: float) -> int:
        """The number of tokens that this share of the records does not exceed."""
        lengths = sorted(one.tokens for one in self.measured)
        return lengths[min(len(lengths) - 1, int(share * len(lengths)))]

    def cut(self, max_length: int) -> float:
        """The share of records with more tokens, from 0 to 1."""
        return sum(one.tokens > max_length for one in self.measured) / len(self.measured)

    def lost(self, max_length: int) -> float:
        """The share of records that keep nothing to learn, from 0 to 1."""
        return sum(one.begins >= max_length for one in self.measured) / len(self.measured)


def of(source: str, base: str, advance: Callable[[int], None] = lambda n: None) -> Survey:
    """Reads the dialogues in `source` as training does, and counts their tokens as `base` reads them.

    A base that is a hub id and not on this machine is not asked for: then the embedded model's tokenizer
    counts. `advance` is called for each of `steps`. Raises UsageError as training does for data or a base
    that cannot be read.
    """
    from dpaudit.models import hf

    counted_by = base if _is_here(base) else EMBEDDED
    reader, sample = Reader(), _Sample(advance)
    with exclusive.scratch() as folder:
        corpus = CorpusStore(source, "record", folder)
        corpus.add("records", sample.passing(read_part("records", source, Data(source), reader)), source)
        patients, named = corpus.people()
    fields = present(next(reading.fields_of(source)))
    columns = [name for name in ("patient_id", "patient") if name in fields]
    assert reader.first is not None
    return Survey(
        reader.first.name,
        tuple(sorted(reader.unread)),
        _scripts(record for _, record in sample.kept),
        _languages(record for _, record in sample.kept),
        sample.seen,
        patients,
        named,
        (columns or ["patient_id"])[0] if named else None,
        counted_by,
        hf.window(base) if counted_by == base else None,
        tuple(_counted(_measured(source, sample.kept, counted_by), advance)),
    )


def steps(source: str) -> int | None:
    """How often `of` will tell that it goes on: once a row, and once a row that is measured; None where
    nobody can tell beforehand.
    """
    rows = reading.count(source)
    return None if rows is None else rows + min(rows, SAMPLE)


def _counted(measured: Iterable[Measured], advance: Callable[[int], None]) -> Iterator[Measured]:
    for one in measured:
        yield one
        advance(1)


def _scripts(records: Iterable[Record]) -> str:
    """The scripts that records are written in, with shares; of one alone, its name."""
    counts = Counter(scripts.script_of(record.whole_text) for record in records)
    if len(counts) == 1:
        return f"{next(iter(counts))} script"
    shares = (f"{name} {count / counts.total():.0%}" for name, count in counts.most_common())
    return f"scripts: {', '.join(shares)}"


def _languages(records: Iterable[Record]) -> str | None:
    """The languages of a twentieth of the records or more, the commonest first."""
    counts = Counter(scripts.language_of(record.whole_text) for record in records)
    often = [name for name, count in counts.most_common() if count >= OFTEN * counts.total()]
    named = [name for name in often if name is not None]
    return ", ".join(named) if named and named == often else None


class _Sample:
    """A random sample of records that pass, with their numbers: the same for the same file."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.seen = 0
        self._advance = advance
        self._kept: list[tuple[int, Record]] = []
        self._rng = random.Random("survey")

    def passing(self, rows: Iterator[tuple[int, Record]]) -> Iterator[tuple[int, Record]]:
        """The rows as they are. Each is kept with the same chance (reservoir sampling)."""
        for row in rows:
            self.seen += 1
            if len(self._kept) < SAMPLE:
                self._kept.append(row)
            elif (place := self._rng.randrange(self.seen)) < SAMPLE:
                self._kept[place] = row
            yield row
            self._advance(1)

    @property
    def kept(self) -> list[tuple[int, Record]]:
        """In the order of the file."""
        return sorted(self._kept, key=lambda row: row[0])


def _is_here(base: str) -> bool:
    """Whether the base's tokenizer can be loaded without asking a hub."""
    from dpaudit.models import hub, random_weights

    return random_weights.is_random(base) or not hub.is_id(base) or hub.fetched(base) is not None


def _measured(source: str, rows: list[tuple[int, Record]], base: str) -> Iterator[Measured]:
    from dpaudit.models import tokenizers
    from dpaudit.models.encode import encode_record
    from dpaudit.models.templates import Refused

    tokenizer = tokenizers.load_tokenizer(base)
    for number, record in rows:
        try:
            (whole,) = encode_record(record, tokenizer, UNLIMITED)
        except Refused as error:
            raise UsageError(f"{source}:{number}", error.expected, error.got, error.remedy) from None
        learned = whole.answer_mask
        begins = learned.index(True) if any(learned) else len(learned)
        yield Measured(len(learned), sum(learned), begins, record)


@dataclass(frozen=True)
class Piece:
    """A part of a rendered dialogue: what is learned, what is only read, or what is cut away."""

    kind: str
    text: str


def pieces(record: Record, base: str, max_length: int) -> list[Piece]:
    """The dialogue as the base's chat template writes it, in pieces. Its text is training text: it may go to
    the terminal of somebody who asked for it, and nowhere else.
    """
    from dpaudit.models import tokenizers
    from dpaudit.models.encode import encode_record

    tokenizer = tokenizers.load_tokenizer(base)
    (whole,) = encode_record(record, tokenizer, UNLIMITED)
    kinds = _kinds(whole, max_length)
    edges = [0, *(at for at in range(1, len(kinds)) if kinds[at] != kinds[at - 1]), len(kinds)]
    return [
        Piece(kinds[start], _text(tokenizer, whole.input_ids[start:end])) for start, end in pairwise(edges)
    ]


def _kinds(whole: "Encoded", max_length: int) -> list[str]:
    kept = ["learned" if learned else "read" for learned in whole.answer_mask[:max_length]]
    return kept + ["cut"] * (len(whole.input_ids) - len(kept))


def _text(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))
