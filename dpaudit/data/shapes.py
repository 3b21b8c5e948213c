"""The shapes that a row of data may have, and what each says as a record."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dpaudit.data import identity, messages
from dpaudit.data.corpus import Record, Turn
from dpaudit.data.messages import no_text, require_last, truth, turns_of
from dpaudit.errors import UsageError, kind_of

Fields = dict[str, Any]
PLAIN_NAME = re.compile(
    r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"
)  # any other name of a column might be somebody's text
TABLE = re.compile(r"\.[ct]sv(\.gz)?:\d+$", re.IGNORECASE)  # a place in a file whose first line is a heading
LETTERS = "ABCDEFGHIJ"
SYSTEM = ("system", "system_prompt")
NAMES = ("id", "name_key", "patient_id", "patient")
BEFORE = (*SYSTEM, "history")  # what comes before the question
ASKED = {  # what may hold the question, the first one that is there; and what belongs to it
    "prompt": (),
    "conversations": (),
    "messages": (),
    "instruction": ("input", "context"),
    "question": ("context", "choices"),
}
LABELS = ("label", "kto_tag")  # TRL and LLaMA-Factory: whether an answer is a good or a bad example
KTO = (
    "a pair of a good and a bad answer is read as prompt, chosen and rejected; of good answers alone, "
    "keep: jq -c 'select(.label) | del(.label)' (rename a column that means something else)"
)
HELD_BACK = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation", "heldout",
    "holdout")  # fmt: skip
WITHOUT_TEXT = ("chat_template", "chat_template_kwargs")
CHECKED = frozenset(
    (
        *messages.LEARNT,
        *messages.UNLEARNT,
        *messages.TOOLS,
        *messages.MEDIA,
        *WITHOUT_TEXT,
        *LABELS,
        *BEFORE,
        "split",
    )
)
MOST_LAYOUTS = 4096


@dataclass(frozen=True)
class Shape:
    """`name` is told to the user; a row that has one of `keys` is of this shape. Its answers are in the first
    of `answers`.
    """

    name: str
    keys: tuple[str, ...]
    answers: tuple[str, ...]
    parse: Callable[
        [Fields, str], Record
    ]  # of fields and the place for messages; id and patient are filled in later
    letter: str  # begins the ids of records that have none, so that no two parts of the data share one


@dataclass(frozen=True)
class Layout:
    """What rows with the same keys have in common: their shape, what may forbid them, and what is not
    read.
    """

    shape: Shape
    checked: tuple[str, ...]
    unread: tuple[str, ...]


@dataclass
class Reader:
    """Turns the rows of one file into records. All have the shape of the first; `unread` are the columns that
    nothing was taken from.
    """

    first: Shape | None = None
    unread: set[str] = field(default_factory=set)
    _layouts: dict[tuple[str, ...], Layout] = field(default_factory=dict)

    def record(self, row: Fields, where: str, number: int) -> Record:
        """The record that a row says. Raises UsageError that names the key at fault."""
        fields = present(row)
        layout = self._layouts.get(tuple(fields)) or self._new_layout(fields, row, where)
        for key in layout.checked:
            _check_row(key, fields[key], layout.shape, where)
        return _record(layout.shape, fields, where, number)

    def _new_layout(self, fields: Fields, row: Fields, where: str) -> Layout:
        shape = shape_of(row, where, self.first)
        self.first = self.first or shape
        if shape is not self.first:
            raise UsageError(
                where,
                f"the shape of the first record, {self.first.name}",
                f"one with {shape.name}",
                "one shape a file",
            )
        read = reads(shape, fields)
        checked = tuple(key for key in fields if key in CHECKED and key not in read)
        layout = Layout(shape, checked, tuple(key for key in fields if key not in read))
        self.unread.update(layout.unread)
        if len(self._layouts) < MOST_LAYOUTS:
            self._layouts[tuple(fields)] = layout
        return layout


def shape_of(row: Fields, where: str, first: Shape | None = None) -> Shape:
    """The shape by the keys that hold something; a row without any is of the shape `first`, for its faults to
    be named.

    Raises UsageError that lists the row's keys where none is known.
    """
    fields = present(row)
    for keys in (fields, row):
        for shape in SHAPES:
            if any(key in keys for key in shape.keys):
                return shape
        if first is not None:
            return first
    expected = "; ".join(shape.name for shape in SHAPES)
    is_told = not row or any(PLAIN_NAME.fullmatch(str(name)) for name in row)
    got = f"the columns {told(row) or 'of none'}" if is_told else f"{len(row)} columns without a plain name"
    raise UsageError(where, f"one of: {expected}", got, _remedy(fields, where))


def told(names: Any) -> str:
    """Names of columns as a message may tell them: those that are plain, and how many others there are."""
    plain = [name for name in names if PLAIN_NAME.fullmatch(str(name))]
    others = [f"{len(names) - len(plain)} that are no plain names"] if len(plain) < len(names) else []
    return ", ".join(plain + others)


def _remedy(fields: Fields, where: str) -> str:
    if TABLE.search(where):
        return (
            "the first line must be a heading that names the columns: add one, such as question,answer, "
            "or rename the columns in it"
        )
    for key, value in fields.items():
        if (
            isinstance(value, list)
            and isinstance(next(iter(value), None), dict)
            and PLAIN_NAME.fullmatch(key)
        ):
            return f"if the rows are in it: jq -c '.{key}[]' FILE > ROWS.jsonl"
    return "rename the columns"


def record(shape: Shape, row: Fields, where: str, number: int) -> Record:
    """The record that a row of this shape says. Raises UsageError that names the key at fault."""
    return _record(shape, present(row), where, number)


def _record(shape: Shape, fields: Fields, where: str, number: int) -> Record:
    found = shape.parse(fields, where)
    name = _named(fields, ("id", "name_key"), where) or f"{shape.letter}{number}"
    patient = _named(fields, ("patient_id", "patient"), where)
    texts = (name, patient, found.chosen, found.rejected, found.text, *(turn.text for turn in found.turns))
    if not is_unicode("".join(text for text in texts if text)):
        raise UsageError(where, "text that is valid Unicode", "half of a surrogate pair")
    return Record(name, found.turns, patient, found.chosen, found.rejected, found.text)


def _named(fields: Fields, keys: tuple[str, ...], where: str) -> str | None:
    """The identity in the first of these keys that holds one."""
    for key in keys:
        if key in fields and (found := identity.of(fields[key], f"{where}: {key}")) is not None:
            return found
    return None


# ---- what a row says beside its texts


def reads(shape: Shape, fields: Fields) -> set[str]:
    """The keys that a row of this shape is read from."""
    read = {"id" if "id" in fields else "name_key", "patient_id" if "patient_id" in fields else "patient"}
    if shape.letter == "t":
        return read | {"text"}
    if shape.parse is _listed:
        return read | {*shape.keys, *SYSTEM}
    asked = _asked_key(shape, fields)
    more = ASKED[asked] if "input" not in fields else ASKED[asked][:1]
    answers = [key for key in shape.answers if key in fields]
    answers = answers[:1] if shape.parse is _instruction else answers
    return read | {asked, *more, *BEFORE, *answers}


def _asked_key(shape: Shape, fields: Fields) -> str:
    keys = ("instruction",) if shape.parse is _instruction else ASKED
    return next((key for key in keys if key in fields), "prompt")


def _check_row(key: str, value: Any, shape: Shape, where: str) -> None:
    """Raises UsageError for a column that says something about what is to be learned, which would be lost."""
    spelled = str(value).strip().lower() if isinstance(value, bool | int | float | str) else ""
    place = f"{where}: {key}"
    if key in LABELS and truth(value) is not None and shape.letter != "t":
        raise UsageError(place, "answers to learn from", "answers marked good or bad, as for KTO", KTO)
    if key in (*messages.LEARNT, *messages.UNLEARNT) and isinstance(value, list) and value:
        raise UsageError(place, "turns that are all learned from", "a mask of turns or tokens", messages.CUT)
    if (key in messages.LEARNT and (spelled == "false" or (key == "weight" and truth(value) is False))) or (
        key in messages.UNLEARNT and spelled == "true"
    ):
        raise UsageError(
            place, "a row to learn from", "one that is not to be", "leave such rows out of the file"
        )
    if key == "split" and spelled in HELD_BACK:
        raise UsageError(
            place,
            "rows to learn from",
            "one that is held back",
            "keep the others: jq -c 'select(.split == \"train\")'",
        )
    if (
        key in (*messages.TOOLS, *messages.MEDIA, *WITHOUT_TEXT)
        and value
        and spelled not in ("[]", "{}", "null", "false")
    ):
        remedy = (
            messages.NO_TOOLS
            if key in messages.TOOLS
            else f"leave such rows out, or, if the text is whole without it, the column: jq -c 'del(.{key})'"
        )
        raise UsageError(place, "text alone", "more that the model would see", remedy)
    if key in BEFORE and value:
        raise UsageError(
            place,
            f"none beside {', '.join(shape.keys)}",
            "one",
            "write it into the turns or the text, or leave the column out",
        )


# ---- dialogues


def _listed(fields: Fields, where: str) -> Record:
    """A list of messages; where a row has two such lists, they say the same."""
    found = [
        (key, turns_of(fields[key], f"{where}: {key}"))
        for key in ("conversations", "messages")
        if key in fields
    ]
    if not found:
        turns_of(None, f"{where}: messages")
    key, turns = found[0]
    if any(other != turns for _, other in found):
        raise UsageError(
            where, "conversations or messages", "both, which differ", "leave one of the columns out"
        )
    require_last(turns, "assistant", f"{where}: {key}")
    return Record("", _with_system(fields, turns, where))


def _instruction(fields: Fields, where: str) -> Record:
    """Alpaca, with the `system` and `history` that some add, or Dolly's names for the same."""
    if "question" in fields:
        raise UsageError(where, "instruction or question", "both", "write them into one column")
    key = next((name for name in INSTRUCTED if name in fields), "output")
    answer = _text(fields, key, where)
    return Record("", (*_prompt(fields, "instruction", where), Turn("assistant", answer)))


def _completion(fields: Fields, where: str) -> Record:
    keys = [key for key in ("completion", "response") if key in fields]
    if len(keys) == 2 and fields["completion"] != fields["response"]:
        raise UsageError(
            where,
            "completion or response",
            "both, which differ",
            "leave one of the columns out; answers to choose from are read as chosen and rejected",
        )
    key = keys[0] if keys else "completion"
    prompt = _prompt(fields, _asked_key(COMPLETION, fields), where)
    answer = _answer(fields.get(key), f"{where}: {key}")
    _check_prefix(answer, prompt, f"{where}: {key}")
    return Record("", (*prompt, answer[-1]))


def _question(fields: Fields, where: str) -> Record:
    """Question and answer; `choices` are listed by letter below the question, and `answer` is then an
    index.
    """
    prompt = _prompt(fields, "question", where)
    if "choices" not in fields:
        return Record("", (*prompt, Turn("assistant", _text(fields, "answer", where))))
    options, answer = _options(fields, where), fields.get("answer")
    if not isinstance(answer, int) or not 0 <= answer < len(options):
        got = (
            f"{answer!s:.40}"
            if isinstance(answer, int | float) and not isinstance(answer, bool)
            else kind_of(answer)
        )
        raise UsageError(f"{where}: answer", f"the place of a choice, from 0 to {len(options) - 1}", got)
    return Record("", (*prompt, Turn("assistant", options[answer])))


def _options(fields: Fields, where: str) -> list[str]:
    choices = _list_in(fields["choices"])
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= len(LETTERS)
        or not all(isinstance(c, str) for c in choices)
    ):
        raise UsageError(
            f"{where}: choices",
            f"a list of 2 to {len(LETTERS)} texts",
            "another list" if isinstance(choices, list) else kind_of(choices),
        )
    return [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]


# ---- preference pairs and plain text


def _pair(fields: Fields, where: str) -> Record:
    """`chosen` and `rejected` as texts or as messages, both of which may begin with the prompt or hold all
    that there is of it.
    """
    chosen, rejected = (_answer(fields.get(key), f"{where}: {key}") for key in ("chosen", "rejected"))
    asked = _asked_key(PAIR, fields)
    if asked not in fields:
        chosen, rejected = _transcript(chosen), _transcript(rejected)
    if asked in fields or len(chosen) == len(rejected) == 1:
        prompt = _prompt(fields, asked, where)
        if chosen[:-1] == rejected[:-1] and _spoken(chosen[:-1]) == prompt:
            prompt = chosen[:-1]  # with a system turn of their own
    else:
        prompt = _shared_prompt(chosen, rejected, where)
    prompt = _with_system(fields, prompt, where)
    for key, answer in (("chosen", chosen), ("rejected", rejected)):
        _check_prefix(answer, prompt, f"{where}: {key}")
    return Record("", prompt, chosen=chosen[-1].text, rejected=rejected[-1].text)


def _transcript(answer: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns of a text in the form of HH-RLHF, a whole dialogue with its speakers; any other answer as it
    is.
    """
    if len(answer) > 1 or not answer[0].text.lstrip().startswith("Human:"):
        return answer
    pieces = re.split(r"(?:^|\n\n)(Human|Assistant): ?", answer[0].text.strip())[1:]
    spoken = [(who, text.strip()) for who, text in zip(pieces[::2], pieces[1::2], strict=True)]
    if spoken[-1][0] != "Assistant" or not all(text for _, text in spoken):
        return answer
    return tuple(Turn("user" if who == "Human" else "assistant", text) for who, text in spoken)


def _shared_prompt(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...], where: str) -> tuple[Turn, ...]:
    """All turns but the last of chosen and rejected, which must be the same in both."""
    if chosen[:-1] != rejected[:-1] or not chosen[:-1]:
        raise UsageError(
            f"{where}: prompt",
            "one, or the same turns before both answers",
            "neither",
            "write what both share into a column prompt",
        )
    require_last(chosen[:-1], "user", f"{where}: chosen without its answer")
    return chosen[:-1]


def _plain(fields: Fields, where: str) -> Record:
    return Record("", (), text=_text(fields, "text", where))


INSTRUCTED = ("output", "response", "completion", "answer")
PAIR = Shape("prompt, chosen and rejected", ("chosen", "rejected"), ("chosen", "rejected"), _pair, "p")
COMPLETION = Shape(
    "prompt and completion", ("completion", "response"), ("completion", "response"), _completion, "r"
)
# the first one that fits a row is its shape: data sets often carry a rendered `text` or a bare `prompt` too
SHAPES = (
    PAIR,
    Shape("conversations or messages", ("conversations", "messages"), (), _listed, "r"),
    Shape("instruction and output", ("instruction",), INSTRUCTED, _instruction, "r"),
    COMPLETION,
    Shape("question and answer", ("question",), ("answer",), _question, "r"),
    Shape("text", ("text",), (), _plain, "t"),
)


# ---- pieces


def _prompt(fields: Fields, key: str, where: str) -> tuple[Turn, ...]:
    """System text, history and the question in the column `key`: a text with what belongs to it, or messages
    that end with the user.
    """
    value = messages.unspelled(fields.get(key), f"{where}: {key}")
    if isinstance(value, list | dict):
        asked = turns_of(value, f"{where}: {key}")
        require_last(asked, "user", f"{where}: {key}")
    else:
        asked = (Turn("user", _asked(fields, key, where)),)
    return _with_system(fields, (*_history(fields, where), *asked), where)


def _asked(fields: Fields, key: str, where: str) -> str:
    text = _text(fields, key, where)
    if key == "instruction":
        more = next((name for name in ASKED[key] if name in fields), None)
        return text if more is None else f"{text}\n\n{_text(fields, more, where)}"
    if key == "question":
        before = [_text(fields, "context", where)] if "context" in fields else []
        return "\n".join((*before, text, *(_options(fields, where) if "choices" in fields else ())))
    return text


def _history(fields: Fields, where: str) -> tuple[Turn, ...]:
    """Earlier turns: pairs of question and answer, or messages."""
    value = _list_in(fields.get("history", []))
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        turns = turns_of(value, f"{where}: history")
        require_last(turns, "assistant", f"{where}: history")
        return turns
    if not isinstance(value, list) or not all(_is_exchange(pair) for pair in value):
        raise UsageError(f"{where}: history", "a list of [question, answer] or of messages", "something else")
    return tuple(turn for asked, told in value for turn in (Turn("user", asked), Turn("assistant", told)))


def _with_system(fields: Fields, turns: tuple[Turn, ...], where: str) -> tuple[Turn, ...]:
    """The turns below the row's system text, which they may begin with already."""
    found = [Turn("system", _text(fields, key, where)) for key in SYSTEM if key in fields]
    if turns and turns[0].role == "system":
        found.append(turns[0])
    if len(set(found)) > 1:
        raise UsageError(f"{where}: system", "one system text", "several that differ", "write them into one")
    return (*found[:1], *_spoken(turns)) if found else turns


def _spoken(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns without a system turn that they begin with."""
    return turns[1:] if turns and turns[0].role == "system" else turns


def _answer(value: object, where: str) -> tuple[Turn, ...]:
    """One answer, a text, a message, or messages that end with it."""
    value = messages.unspelled(value, where)
    if isinstance(value, str) and value.strip():
        return (Turn("assistant", value),)
    if not isinstance(value, list | dict):
        raise no_text(value, where)
    turns = turns_of(value, where)
    require_last(turns, "assistant", where)
    return turns


def _check_prefix(answer: tuple[Turn, ...], prompt: tuple[Turn, ...], where: str) -> None:
    """Raises UsageError where other turns than the prompt come before an answer."""
    if answer[:-1] not in ((), prompt, _spoken(prompt)):
        raise UsageError(
            where,
            "one answer, alone or behind the prompt",
            f"{len(answer)} turns",
            "write what comes before the answer into the prompt",
        )


def _text(fields: Fields, key: str, where: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise no_text(value, f"{where}: {key}")
    return value


def _list_in(value: object) -> object:
    """The list that a text spells as JSON; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _is_exchange(pair: object) -> bool:
    is_two = isinstance(pair, list) and len(pair) == 2
    return is_two and all(isinstance(text, str) and text.strip() for text in pair)  # type: ignore[attr-defined]


def present(row: Fields) -> Fields:
    """The keys that hold something: tables fill the others with null, NaN or an empty text."""
    return {
        key: value
        for key, value in row.items()
        if value is not None
        and value == value
        and not (value.__class__ is str and (not value or value.isspace()))
    }


def is_unicode(text: str) -> bool:
    """False where a surrogate stands alone: JSON can spell it, and no file or tokenizer can hold it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
