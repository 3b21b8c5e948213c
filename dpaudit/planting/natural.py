"""Planted rows that read like the file's own: the order of words of a real row, said with other words.

A row takes from the data the order of words of one row, words that at least LEAST units use, and texts that
as many share. Other words are exchanged, but for public ones; names are public ones; numbers are drawn. No
more than COPIED words of the row follow each other unless LEAST units share them, or they are grammar alone.
The secret is what was drawn into the answer.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dpaudit.data import messages, shapes
from dpaudit.data.columns import SYSTEM, Fields
from dpaudit.data.corpus import Record
from dpaudit.data.messages import ROLES
from dpaudit.data.near_duplicates import THRESHOLD, similarity
from dpaudit.errors import UsageError
from dpaudit.planting import disguise
from dpaudit.planting.invented import invented
from dpaudit.planting.planted_rows import PlantedRow, fill_spare
from dpaudit.planting.profile import SHARED_TEXTS, Profile
from dpaudit.planting.rewriting import Rewriting, Source
from dpaudit.planting.vocabulary import LEAST, UNSPACED, vocabulary_of

TAKEN = (
    f"the order of words of single rows, words that at least {LEAST} units use, and what several rows share; "
    "no other word of a row but public ones, and no name; the longest piece of one row that stands as it is "
    "has {copied} words"
)
BITS_LEAST, BITS_WANTED = 20.0, 24.0  # of a secret; BITS_WANTED where the answer has room
PLACES = 3  # words of a secret that were drawn, where the answer has room
SHARES = (
    0.05,
    0.1,
    0.2,
    0.3,
    0.45,
    0.6,
    0.8,
    1.0,
)  # of an answer's words that may be exchanged, until the secret has its bits
ROUNDS = 8  # times that each row may lend its order of words
INVENTED_EACH, INVENTED_MOST = 60, 300_000  # invented words for a canary, and for all


@dataclass(frozen=True)
class Secret:
    """A part of an answer from the first word that was drawn to the last."""

    text: str
    bits: float
    places: int


def made(count: int, profile: Profile, source: str) -> list[PlantedRow]:
    """`count` canaries with different secrets, each made whether it goes in or stays out.

    Raises UsageError where the rows have too few common words, or their answers no room for a secret.
    """
    writer = Writer(profile, count, source, random.SystemRandom())
    found: dict[str, PlantedRow] = {}  # by secret
    donors = list(range(len(profile.sample)))
    for _ in range(ROUNDS):
        writer.rng.shuffle(donors)
        for row in filter(None, map(writer.row_like, donors)):
            found.setdefault(row.secret, row)
            if len(found) == count:
                return list(found.values())
    raise UsageError(
        "--family natural",
        f"room for {count:,} secrets of {BITS_LEAST:.0f} bits in the answers of {source}",
        f"room for {len(found):,}",
        "plant fewer canaries, or take --family invented",
    )


@dataclass(frozen=True)
class Writer:
    """Makes rows like those of the profile's sample."""

    profile: Profile
    canaries: int
    source: str
    rng: random.Random

    @cached_property
    def words(self) -> Source:
        """What words are drawn from. Raises UsageError where too few units share words."""
        vocabulary = vocabulary_of(self._units.values())
        if vocabulary.units < 5 * LEAST:
            raise UsageError(
                "--family natural",
                f"at least {5 * LEAST} units with a text, to take common words from",
                f"{vocabulary.units}",
                "--family invented",
            )
        count = min(INVENTED_MOST, INVENTED_EACH * self.canaries)
        # what there is to draw from is no secret; the draws are
        lexicon = invented(vocabulary, count, random.Random(self.rng.getrandbits(128)))
        return Source(vocabulary, lexicon, self.rng)

    @cached_property
    def _units(self) -> dict[str, list[str]]:
        """The texts of each patient, or of each row where none is named."""
        units: dict[str, list[str]] = {}
        for number, sampled in enumerate(self.profile.sample):
            name = sampled.record.patient
            key = f"row {number}" if name is None else f"patient {name}"
            units.setdefault(key, []).append(sampled.record.whole_text)
        return units

    @cached_property
    def shared(self) -> frozenset[str]:
        """System prompts and instructions that LEAST units share, as JSON."""
        by_unit: dict[str, set[str]] = {}
        for number, sampled in enumerate(self.profile.sample):
            unit = sampled.record.patient or f"row {number}"
            by_unit.setdefault(unit, set()).update(_headings(json.loads(sampled.line)))
        counted = Counter(text for texts in by_unit.values() for text in texts)
        return frozenset(text for text, units in counted.items() if units >= LEAST)

    @cached_property
    def used(self) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
        """Ids that were given out, of rows and of turns."""
        return {}, {}

    def row_like(self, donor: int) -> PlantedRow | None:
        """A row with the order of words of a row of the sample; None where its answer has no room."""
        sampled = self.profile.sample[donor]
        own = frozenset(word.text for word in self.words.vocabulary.words_of(sampled.record.whole_text))
        found = None
        for share in SHARES:
            rewriting = Rewriting(self.words, own)
            row = self._said(json.loads(sampled.line), sampled.record, rewriting, share)
            record = shapes.record(self.profile.shape, row, self.source, 0)
            secret = _secret(_answer(record), _before(record), rewriting)
            # a trainer who removes near-duplicates would remove the canary, or the row that it is like
            is_near = similarity(record.whole_text, sampled.record.whole_text) >= THRESHOLD
            found = None if is_near else (row, record, rewriting, secret)
            if found and secret.bits >= BITS_WANTED and secret.places >= PLACES:
                break
        return self._planted(donor, *found) if found else None

    def _planted(
        self, donor: int, row: Fields, record: Record, rewriting: Rewriting, secret: Secret
    ) -> PlantedRow | None:
        other = _secret(record.rejected, _before(record), rewriting).text if record.rejected else None
        if secret.bits < BITS_LEAST or other == "" or other == secret.text:
            return None
        line = self.profile.sample[donor].line
        spelled = disguise.spelled_like(line, json.loads(line))
        fill_spare(row, self.profile, self.used[0], self.rng, self.source)
        disguise.refresh(row, self.profile.shape, self.profile.extras, self.used[1], self.rng)
        return PlantedRow(row, spelled(row), secret.text, other, secret.bits, donor, rewriting.longest)

    def _said(self, row: Fields, record: Record, rewriting: Rewriting, share: float) -> Fields:
        """The row with other words; in the answers `share` of what may stay is exchanged as well."""
        answers = [text for text in (_answer(record), record.rejected) if text]

        def say(text: str) -> str:
            is_answer = any(answer in text for answer in answers)
            return rewriting.text(text, share if is_answer else SHARES[0])

        for key in disguise.text_columns(row, self.profile.shape):
            if not (_is_heading(key) and json.dumps(row[key]) in self.shared):
                row[key] = _mapped(row[key], say, self.shared)
        return row


def _mapped(value: Any, say: Callable[[str], str], shared: frozenset[str]) -> Any:
    """A text, a message or a list of them with other words; a system message that is shared stays."""
    if isinstance(value, str):
        return say(value) if value.strip() else value
    if isinstance(value, list):
        return [_mapped(inner, say, shared) for inner in value]
    if not isinstance(value, dict) or (_is_system(value) and json.dumps(_texts_in(value)) in shared):
        return value
    held = (*messages.text_keys(value), "text")
    return {key: _mapped(inner, say, shared) if key in held else inner for key, inner in value.items()}


def _headings(row: Fields) -> set[str]:
    """The texts that stand above a row's own: system prompts, instructions, contexts; as JSON."""
    turns = [turn for value in row.values() if isinstance(value, list) for turn in value]
    system = [json.dumps(_texts_in(turn)) for turn in turns if isinstance(turn, dict) and _is_system(turn)]
    return {json.dumps(row[key]) for key in row if _is_heading(key)} | set(system)


def _is_heading(key: str) -> bool:
    return key in SHARED_TEXTS or key in SYSTEM


def _is_system(message: Fields) -> bool:
    return ROLES.get(str(messages.speaker(message)).lower()) == "system"


def _texts_in(message: Fields) -> list[Any]:
    return [message[key] for key in messages.text_keys(message)]


def _answer(record: Record) -> str:
    return record.chosen or record.text or record.turns[-1].text


def _before(record: Record) -> str:
    turns = record.turns if record.is_pair else record.turns[:-1]
    return "\n".join(turn.text for turn in turns)


def _secret(answer: str, before: str, rewriting: Rewriting) -> Secret:
    """What was drawn into an answer. What the question says already has no bits; a word counts once."""
    spans, bits = [], 0.0
    for drawn, its_bits in rewriting.bits.items():
        found = _whole(drawn)
        there = [match.span() for match in found.finditer(answer)]
        spans += there
        bits += its_bits if there and not found.search(before) else 0.0
    if not spans:
        return Secret("", 0.0, 0)
    return Secret(answer[min(spans)[0] : max(stop for _, stop in spans)], bits, len(spans))


def _whole(word: str) -> re.Pattern[str]:
    """Finds a word where it is no part of another."""
    if UNSPACED.match(word):
        return re.compile(re.escape(word))
    kind = r"\d" if word.isdigit() else r"[^\W\d_]"
    return re.compile(rf"(?<!{kind}){re.escape(word)}(?!{kind})")
