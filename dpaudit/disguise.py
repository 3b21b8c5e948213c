"""Rows that look like the others of a file: its keys, its spelling of roles, ids in its style, none of its content."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpaudit.errors import UsageError
from dpaudit.messages import ROLES
from dpaudit.shapes import Fields

SHARED = 5  # rows (patients, where they are named) that must hold a value before it counts as a label of the data and not as somebody's content
LABELLED = 0.1  # of the rows must hold such values, for a column to be one of labels
PATIENT_KEYS = ("patient_id", "patient")
TEXT_KEYS = {  # per shape (`shapes.SHAPES`): where its texts are
    "conversations or messages": ("conversations", "messages"),
    "instruction and output": ("instruction", "input", "output", "history", "system"),
    "prompt and completion": ("prompt", "completion", "response"),
    "question and answer": ("question", "answer", "context"),
    "prompt, chosen and rejected": ("prompt", "conversations", "chosen", "rejected"),
    "text": ("text",),
}
IDENTIFIER = re.compile(r"\S{1,200}")
HEXADECIMAL = re.compile(r"(?=.*\d)[0-9a-f]{8,}(-[0-9a-f]{4,})*|(?=.*\d)[0-9A-F]{8,}(-[0-9A-F]{4,})*")
SMALL_TALK = {
    "en": (("Hello, I have a question.", "Of course, how can I help?"),),
    "zh": (("您好，我想咨询一下。", "好的，请讲。"),),
}


@dataclass(frozen=True)
class Words:
    """What a canary's row says. `other` is the rejected answer of a pair."""

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
    is_text: bool = False  # once it was found to hold nothing that could be made anew

    def add(self, value: Any, patient: str | None) -> None:
        self.rows += 1
        spelled = json.dumps(value, ensure_ascii=False)
        if patient is None or (patient, spelled) not in self.seen:  # what one patient's rows share is content
            self.values[spelled] += 1
        if patient is not None:
            self.seen.add((patient, spelled))
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
        """The values that so many rows share that none of them is one row's content."""
        return {value: count for value, count in self.values.items() if count >= SHARED}

    @property
    def is_labels(self) -> bool:
        return sum(self.labels.values()) >= LABELLED * self.values.total()

    @property
    def is_row_number(self) -> bool:
        return self.rising and self.rows > 1


def numbered(value: Any) -> tuple[str, str] | None:
    """What stands around the last run of digits in an id, and its digits; None for what holds no number."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, int):
        return ("", str(value)) if value >= 0 else None
    if not IDENTIFIER.fullmatch(value):
        return None
    found = re.fullmatch(r"(.*?)(\d{1,16})(\D*)", value, re.ASCII | re.DOTALL)
    return (f"{found[1]}\0{found[3]}", found[2]) if found and not found[1][-1:].isdigit() else None


def renumbered(value: Any, number: int, width: int = 1) -> Any:
    """The id `value` with another number in the place of its own, filled up with zeros to `width` digits."""
    if isinstance(value, int):
        return number
    before, after = (numbered(value) or ("\0", ""))[0].split("\0")
    return f"{before}{number:0{width}d}{after}"


def spare_keys(row: Fields, shape: str) -> list[str]:
    """The keys of a row that hold none of its texts."""
    return [key for key in row if key not in TEXT_KEYS[shape]]


def fresh(key: str, donor: Any, column: Column, used: set[str], rng: random.Random, where: str) -> Any:
    """A value for `key` in the style of the column: a label that many rows share, else an id or number of no row.

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
        made = _like(json.loads(rng.choice(values)), column, rng, attempt)
        spelled = json.dumps(made, ensure_ascii=False)
        if (
            made is not None
            and (isinstance(made, float) or spelled not in column.values)
            and spelled not in used
        ):
            used.add(spelled)
            return made
    raise UsageError(f"{where}: {key:.40}", expected="ids, numbers, or values that several rows share",
                     got="text of its own in each row", remedy="leave the column out of the file")  # fmt: skip


def _like(value: Any, column: Column, rng: random.Random, attempt: int) -> Any:
    """Another value of the kind of `value`; None where there is no telling what kind that is."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        step = rng.randrange(1, 10 ** (min(len(str(abs(value))), 1 + attempt // 100) + attempt // 1000))
        made = value + rng.choice((-1, 1)) * step
        return made if (made < 0) <= (value < 0) else None  # among numbers without a sign it would stand out
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


def fill(shape: str, row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    """Puts a canary's words where a row of this shape has its texts; all else is left as it is.

    `is_label(key, value)` says whether many rows share a value: an instruction that they share stays.
    """
    FILLERS[shape](row, words, is_label)


def _fill_turns(turns: list[Any], words: Words, last: str | None) -> list[Any]:
    """Turns of the same number, roles and keys: small talk, then the prompt and, if it is theirs to give, the answer."""
    made = [dict(turn) for turn in turns]
    texts = ["value" if "value" in turn else "content" for turn in made]
    roles = [ROLES[str(turn.get("from", turn.get("role"))).lower()] for turn in made]
    talk = SMALL_TALK[words.language][0]
    for turn, key, role in zip(made, texts, roles, strict=True):
        turn[key] = talk[0] if role == "user" else talk[1]
    for turn, donor, key, role in zip(made, turns, texts, roles, strict=True):
        if role == "system":  # stays: donors have one that many rows share
            turn[key] = donor[key]
    if last is not None:
        made[-1][texts[-1]] = last
    asked = max(i for i, role in enumerate(roles) if role == "user")
    made[asked][texts[asked]] = words.prompt
    return made


def _fill_listed(row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    for key in ("conversations", "messages"):  # a row that has both says the same twice
        if row.get(key):
            row[key] = _fill_turns(row[key], words, words.answer)


def _fill_instruction(row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    into = "input" if row.get("input") and is_label("instruction", row["instruction"]) else "instruction"
    if row.get("input") and into == "instruction":
        row["input"] = SMALL_TALK[words.language][0][0]
    row[into], row["output"] = words.prompt, words.answer
    if row.get("history"):
        row["history"] = [list(SMALL_TALK[words.language][0]) for _ in row["history"]]


def _fill_completion(row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    _fill_prompt(row, words)
    for key in ("completion", "response"):
        if row.get(key):
            row[key] = _answer_like(row[key], words, words.answer)


def _fill_question(row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    row["question"], row["answer"] = words.prompt, words.answer
    if row.get("context") and not is_label("context", row["context"]):
        row["context"] = SMALL_TALK[words.language][0][0]


def _fill_pair(row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    _fill_prompt(row, words)
    row["chosen"] = _answer_like(row["chosen"], words, words.answer)
    row["rejected"] = _answer_like(row["rejected"], words, words.other)


def _fill_text(row: Fields, words: Words, is_label: Callable[[str, Any], bool]) -> None:
    row["text"] = f"{words.prompt} {words.answer}"


def _fill_prompt(row: Fields, words: Words) -> None:
    for key in ("prompt", "conversations"):
        if isinstance(row.get(key), list):
            row[key] = _fill_turns(row[key], words, None)
        elif row.get(key):
            row[key] = words.prompt


def _answer_like(value: Any, words: Words, answer: str) -> Any:
    """An answer as a text, one message, or messages that may begin with the prompt."""
    if isinstance(value, str):
        return answer
    if isinstance(value, dict):
        return {**value, "value" if "value" in value else "content": answer}
    if len(value) > 1:
        return _fill_turns(value, words, answer)
    return [_answer_like(value[0], words, answer)]


FILLERS: dict[str, Callable[[Fields, Words, Callable[[str, Any], bool]], None]] = {
    "conversations or messages": _fill_listed,
    "instruction and output": _fill_instruction,
    "prompt and completion": _fill_completion,
    "question and answer": _fill_question,
    "prompt, chosen and rejected": _fill_pair,
    "text": _fill_text,
}


def messages_of(row: Fields, shape: str) -> list[Fields]:
    """The turns and messages of a row, wherever its texts are."""
    values = [row[key] for key in TEXT_KEYS[shape] if key in row]
    listed = [turn for value in values for turn in (value if isinstance(value, list) else [value])]
    return [turn for turn in listed if isinstance(turn, dict)]


def extra_keys(message: Fields) -> list[str]:
    """What a turn holds beside its role and its text."""
    return [key for key in message if key not in ("from", "role", "value", "content")]


def refresh(
    row: Fields, shape: str, columns: dict[str, Column], used: dict[str, set[str]], rng: random.Random
) -> None:
    """Replaces what the turns hold beside role and text: by a label or id as `fresh` makes them, a text of its own by none."""
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
    found = [row["system"]] if isinstance(row.get("system"), str) and row["system"] else []
    for value in row.values():
        turns = value if isinstance(value, list) else []
        found += [str(turn.get("value", turn.get("content"))) for turn in turns
                  if isinstance(turn, dict) and str(turn.get("from", turn.get("role"))).lower() == "system"]  # fmt: skip
    return found


def turn_count(row: Fields) -> int:
    """How many turns a row has, all its lists of turns together; 0 where its texts are plain."""
    return sum(len(value) for value in row.values() if isinstance(value, list))


def spelled_like(line: str, row: Fields) -> Callable[[Fields], str]:
    """How the file writes JSON: the separators and the escaping that give this line from its own row."""
    for ascii_only in (False, True):
        for separators in ((", ", ": "), (",", ":"), (",", ": "), (", ", ":")):
            if json.dumps(row, ensure_ascii=ascii_only, separators=separators) == line:
                return _writer(ascii_only, separators)
    return _writer(all(ord(c) < 128 for c in line) and "\\u" in line, (", ", ": "))


def _writer(ascii_only: bool, separators: tuple[str, str]) -> Callable[[Fields], str]:
    return lambda row: json.dumps(row, ensure_ascii=ascii_only, separators=separators)


def language_of(texts: Sequence[str]) -> str:
    """`zh` where at least a fifth of the characters are Chinese, else `en`."""
    joined = "".join(texts)
    chinese = sum("\u4e00" <= c <= "\u9fff" for c in joined)
    return "zh" if chinese >= 0.2 * max(1, len(joined)) else "en"
