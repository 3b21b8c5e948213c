"""Rows that look like the others of a file: the same keys, spelling of roles and style of ids, none of the
content.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpaudit.data import identity, messages, shapes
from dpaudit.data.columns import ASKED, NAMES, SYSTEM, Fields, present
from dpaudit.data.messages import ROLES
from dpaudit.data.shapes import Shape
from dpaudit.errors import UsageError

# rows (patients, where they are named) that must hold a value before it counts as a label of the data and not
# as somebody's content
SHARED = 5
LABELLED = 0.1  # of the rows must hold such values for a column to count as labels
LISTED = "conversations or messages"
LIKE_DONOR = 100  # tries of another number in the donor's own id, before those of other rows
PATIENT_KEYS = ("patient_id", "patient")
IDENTIFIER = re.compile(r"\S{1,200}")
HEXADECIMAL = re.compile(r"(?=.*\d)[0-9a-f]{8,}(-[0-9a-f]{4,})*|(?=.*\d)[0-9A-F]{8,}(-[0-9A-F]{4,})*")
SMALL_TALK = {
    "en": (("Hello, I have a question.", "Of course, how can I help?"),),
    "zh": (("您好，我想咨询一下。", "好的，请讲。"),),
}


@dataclass(frozen=True)
class Words:
    """The words of a canary's row. `other` is the rejected answer of a pair."""

    prompt: str
    answer: str
    other: str
    language: str


@dataclass
class Column:
    """The values of one key over the whole file, as JSON; `rising` while each is the one before plus 1.

    `width` is that of numbers filled up with zeros, 1 for others.
    """

    values: Counter[str] = field(
        default_factory=Counter
    )  # value -> rows, or patients where the data name them
    rows: int = 0
    seen: set[tuple[str, str]] = field(default_factory=set)
    rising: bool = True
    last: tuple[str, int] | None = None
    width: int = 1
    is_text: bool = False  # set once it holds a value of which no new one can be made
    is_names: bool = False  # of records or patients: two spellings of one number are one name
    names: set[str] = field(default_factory=set)

    def add(self, value: Any, patient: str | None, name: str | None = None) -> None:
        """Takes in a value of a row about `patient`; `name` is what it names, where the row is named by
        it.
        """
        self.rows += 1
        spelled = json.dumps(value, ensure_ascii=False)
        if patient is None or (patient, spelled) not in self.seen:  # one patient's own values are content
            self.values[spelled] += 1
        if patient is not None:
            self.seen.add((patient, spelled))
        if name is not None:
            self.names.add(name)
        around, digits = numbered(value) or ("", "")
        if self.rows == 1 and digits.startswith("0"):
            self.width = len(digits)
        number = (around, int(digits)) if digits else None
        follows = self.last is None or number == (self.last[0], self.last[1] + 1)
        if number is None or not follows or digits != str(number[1]).zfill(self.width):
            self.rising = False
        self.last = number

    @property
    def labels(self) -> dict[str, int]:
        """The values that so many rows share that they are no single row's content."""
        return {value: count for value, count in self.values.items() if count >= SHARED}

    @property
    def is_labels(self) -> bool:
        return sum(self.labels.values()) >= LABELLED * self.values.total()

    @property
    def is_row_number(self) -> bool:
        return self.rising and self.rows > 1


def numbered(value: Any) -> tuple[str, str] | None:
    """The text around the last run of digits in an id, and the digits; None for a value without a number."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, int):
        return ("", str(value)) if value >= 0 else None
    if not IDENTIFIER.fullmatch(value):
        return None
    match = re.fullmatch(r"(.*?)(\d{1,16})(\D*)", value, re.ASCII | re.DOTALL)
    return (f"{match[1]}\0{match[3]}", match[2]) if match and not match[1][-1:].isdigit() else None


def renumbered(value: Any, number: int, width: int = 1) -> Any:
    """The id `value` with another number in the place of its own, filled up with zeros to `width` digits."""
    if isinstance(value, int):
        return number
    before, after = (numbered(value) or ("\0", ""))[0].split("\0")
    return f"{before}{number:0{width}d}{after}"


def text_columns(row: Fields, shape: Shape) -> list[str]:
    """The keys of a row that its texts are read from."""
    read = shapes.reads(shape, present(row)) - set(NAMES)
    return [key for key in row if key in read]


def spare_keys(row: Fields, shape: Shape) -> list[str]:
    """The keys of a row that hold none of its texts."""
    texts = text_columns(row, shape)
    return [key for key in row if key not in texts]


def fresh(key: str, donor: Any, column: Column, used: set[str], rng: random.Random, where: str) -> Any:
    """A value for `key` in the style of the column: a label that many rows share, else an id or number of no
    row.

    `used` are the values that were made before. Raises UsageError for a column of free text.
    """
    text = json.dumps(donor, ensure_ascii=False)
    is_person = key in PATIENT_KEYS
    if not is_person and column.is_labels:
        labels = column.labels
        return json.loads(text if text in labels else rng.choices(list(labels), list(labels.values()))[0])
    if donor is None or donor in ("", [], {}):
        return donor
    values = list(column.values)
    for attempt in range(2000):
        # the donor's own style first: an id may name what another column names too
        style = donor if attempt < LIKE_DONOR else json.loads(rng.choice(values))
        made = _like(style, column, rng, attempt)
        spelled = identity.of(made, where) if column.is_names else json.dumps(made, ensure_ascii=False)
        known = column.names if column.is_names else () if isinstance(made, float) else column.values
        if made is not None and spelled is not None and spelled not in known and spelled not in used:
            used.add(spelled)
            return made
    raise UsageError(
        f"{where}: {key:.40}",
        "ids, numbers, or values that several rows share",
        "free text, which is no row's to copy",
        f"leave the column out: --drop {key:.40}",
    )


def _like(value: Any, column: Column, rng: random.Random, attempt: int) -> Any:
    """Another value of the kind of `value`; None where its kind is unknown."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        step = rng.randrange(1, 10 ** (min(len(str(abs(value))), 1 + attempt // 100) + attempt // 1000))
        made = value + rng.choice((-1, 1)) * step
        return made if (made < 0) <= (value < 0) else None  # a sign would stand out among unsigned numbers
    if isinstance(value, float) and column.is_names:  # a whole number, as a table writes it beside gaps
        made = _like(int(value), column, rng, attempt)
        return None if made is None else float(made)
    if isinstance(value, float):
        return round(value * rng.uniform(0.5, 1.5), len(repr(value).partition(".")[2]))
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        return None
    if HEXADECIMAL.fullmatch(value):
        alphabet = "0123456789ABCDEF" if value.upper() == value else "0123456789abcdef"
        return "".join(rng.choice(alphabet) if c != "-" else c for c in value)
    if not re.search(r"\d", value):
        return None
    longer = attempt // 1000  # every id of this length is taken: one digit more
    return re.sub(r"\d+(?=\D*$)", lambda run: _digits(run[0], longer, rng), value)


def _digits(run: str, longer: int, rng: random.Random) -> str:
    first = "0123456789" if run[0] == "0" else "123456789"
    return rng.choice(first) + "".join(rng.choice("0123456789") for _ in range(len(run) - 1 + longer))


# ---- texts, shape by shape: a row is changed in place, and only where texts are


def fill(shape: Shape, row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    """Puts a canary's words where a row of this shape has its texts; all else is left as it is, a system text
    too.

    `is_label(key, value)` says whether many rows share a value: an instruction that they share stays.
    """
    texts = [key for key in text_columns(row, shape) if row[key]]
    for key in texts:
        if key == "text":
            row[key] = f"{words.prompt} {words.answer}"
        elif key == "rejected":
            row[key] = _answer_like(row[key], words, words.other)
        elif key in ("chosen", *shape.answers):
            row[key] = _answer_like(row[key], words, words.answer)
        elif key == "history":
            row[key] = _small_talk(row[key], words)
        elif isinstance(row[key], list | dict):
            row[key] = _asked_like(row[key], words, words.answer if shape.name == LISTED else None)
    _fill_question([key for key in texts if isinstance(row[key], str)], row, words, is_label)


def _fill_question(texts: list[str], row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    """The question as a text and what belongs to it: below an instruction that many rows share, it is the
    `input`.
    """
    asked = next((key for key in ASKED if key in texts), None)
    if asked is None:
        return
    more = next((key for key in ASKED[asked] if key in texts), None)
    if more is not None and asked == "instruction" and is_label(asked, row[asked]):
        asked, more = more, None
    row[asked] = words.prompt
    if more is not None and not (more == "context" and is_label(more, row[more])):
        row[more] = SMALL_TALK[words.language][0][0]


def _fill_turns(turns: list[Any], words: Words, last: str | None) -> list[Any]:
    """Turns of the same number, roles and keys: small talk, then the prompt and, where the turns hold it, the
    answer.
    """
    roles = [ROLES[str(messages.speaker(turn)).lower()] for turn in turns]
    talk = SMALL_TALK[words.language][0]
    texts = [talk[0] if role == "user" else talk[1] for role in roles]
    texts[max(i for i, role in enumerate(roles) if role == "user")] = words.prompt
    if last is not None:
        texts[-1] = last
    return [
        dict(turn) if role == "system" else _message_like(turn, text)  # many rows share a donor's system text
        for turn, role, text in zip(turns, roles, texts, strict=True)
    ]


def _message_like(message: Fields, text: str) -> Fields:
    """The message with another text, in parts where it has it in parts."""
    return {**message, **{key: _content_like(message[key], text) for key in messages.text_keys(message)}}


def _content_like(content: Any, text: str) -> Any:
    if not isinstance(content, list):
        return text
    part = content[0]
    return [
        text
        if isinstance(part, str)
        else {k: text if k == "text" else part[k] for k in part if k in ("type", "text")}
    ]


def _asked_like(value: Any, words: Words, last: str | None) -> Any:
    return _message_like(value, words.prompt) if isinstance(value, dict) else _fill_turns(value, words, last)


def _answer_like(value: Any, words: Words, answer: str) -> Any:
    """An answer as a text, one message, or messages that may begin with the prompt."""
    if isinstance(value, str):
        return answer
    if isinstance(value, dict):
        return _message_like(value, answer)
    if len(value) > 1:
        return _fill_turns(value, words, answer)
    return [_answer_like(value[0], words, answer)]


def _small_talk(history: list[Any], words: Words) -> list[Any]:
    """Earlier turns of the same number and kind."""
    talk = SMALL_TALK[words.language][0]
    if not isinstance(history[0], dict):
        return [list(talk) for _ in history]
    roles = [ROLES[str(messages.speaker(turn)).lower()] for turn in history]
    return [_message_like(turn, talk[role == "assistant"]) for turn, role in zip(history, roles, strict=True)]


def messages_of(row: Fields, shape: Shape) -> list[Fields]:
    """The turns and messages of a row, wherever its texts are."""
    values = [row[key] for key in text_columns(row, shape)]
    listed = [turn for value in values for turn in (value if isinstance(value, list) else [value])]
    return [turn for turn in listed if isinstance(turn, dict)]


def extra_keys(message: Fields) -> list[str]:
    """The values of a turn beside its role and its text."""
    return [key for key in message if key not in ("from", "role", "value", "content")]


def refresh(
    row: Fields, shape: Shape, columns: dict[str, Column], used: dict[str, set[str]], rng: random.Random
) -> None:
    """Replaces the turns' values beside role and text: by a label or id as `fresh` makes them; a free text
    becomes empty.
    """
    for message in messages_of(row, shape):
        for key in extra_keys(message):
            value, column = message[key], columns[key]
            try:
                if not (column.is_text or isinstance(value, bool)):
                    message[key] = fresh(key, value, column, used.setdefault(key, set()), rng, "")
            except UsageError:
                column.is_text = True
            if column.is_text and value is not None:
                message[key] = type(value)()


def system_texts(row: Fields) -> list[str]:
    """The system prompts of a row, wherever they are."""
    texts = [row[key] for key in SYSTEM if isinstance(row.get(key), str) and row[key]]
    for value in row.values():
        turns = value if isinstance(value, list) else []
        texts += [
            str([turn[key] for key in messages.text_keys(turn)])
            for turn in turns
            if isinstance(turn, dict) and ROLES.get(str(messages.speaker(turn)).lower()) == "system"
        ]
    return texts


def turn_count(row: Fields) -> int:
    """How many turns a row has, all its lists of turns together; 0 where its texts are plain."""
    return sum(len(value) for value in row.values() if isinstance(value, list))


def spelled_like(line: str, row: Fields) -> Callable[[Fields], str]:
    """How the file writes JSON: the separators and the escaping that give this line from its own row."""
    for ascii_only in (False, True):
        for separators in ((", ", ": "), (",", ":"), (",", ": "), (", ", ":")):
            if json.dumps(row, ensure_ascii=ascii_only, separators=separators) == line:
                return _writer(ascii_only, separators)
        if "\n" in line and (indented := _indented(line, row, ascii_only)):
            return indented
    return _writer(all(ord(c) < 128 for c in line) and "\\u" in line, (", ", ": "))


def _indented(line: str, row: Fields, ascii_only: bool) -> Callable[[Fields], str] | None:
    """How the text of an object over several lines is laid out; None where it is in no common way."""
    end = "\r\n" if "\r\n" in line else "\n"
    margin = line.rpartition("\n")[2].removesuffix("}")
    for indent in (1, 2, 3, 4, 8, "\t"):

        def write(row: Fields, indent: int | str = indent) -> str:
            return json.dumps(row, ensure_ascii=ascii_only, indent=indent).replace("\n", end + margin)

        if write(row) == line:
            return write
    return None


def _writer(ascii_only: bool, separators: tuple[str, str]) -> Callable[[Fields], str]:
    return lambda row: json.dumps(row, ensure_ascii=ascii_only, separators=separators)


def language_of(texts: Sequence[str]) -> str:
    """`zh` where at least a fifth of the characters are Chinese, else `en`."""
    joined = "".join(texts)
    chinese = sum("\u4e00" <= c <= "\u9fff" for c in joined)
    return "zh" if chinese >= 0.2 * max(1, len(joined)) else "en"
