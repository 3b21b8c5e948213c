"""The shapes that a row of data may have, and what each says as a record."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from dpaudit.data import identity
from dpaudit.data.columns import ASKED, BEFORE, PLAIN_NAME, SYSTEM, Fields, is_unicode, plain_names, present
from dpaudit.data.corpus import Record, Turn
from dpaudit.data.messages import require_last, turns_of
from dpaudit.data.pieces import answer_of, check_prefix, options_of, prompt_of, spoken, text_of, with_system
from dpaudit.errors import UsageError, kind_of

TABLE = re.compile(r"\.[ct]sv(\.gz)?:\d+$", re.IGNORECASE)  # a place in a file whose first line is a heading


@dataclass(frozen=True)
class Shape:
    """`name` is shown to the user; a row that has one of `keys` is of this shape. Its answers are in the
    first of `answers`.
    """

    name: str
    keys: tuple[str, ...]
    answers: tuple[str, ...]
    # of fields and the place for messages; id and patient are filled in later
    parse: Callable[[Fields, str], Record]
    letter: str  # begins the ids of records that have none, so that no two parts of the data share one


def shape_of(row: Fields, where: str, first: Shape | None = None) -> Shape:
    """The shape by the keys that hold something; a row without any gets the shape `first`, so that its faults
    are named.

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
    is_plain = not row or any(PLAIN_NAME.fullmatch(str(name)) for name in row)
    got = (
        f"the columns {plain_names(row) or 'of none'}"
        if is_plain
        else f"{len(row)} columns without a plain name"
    )
    raise UsageError(where, f"one of: {expected}", got, _remedy(fields, where))


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
    """The record of a row of this shape. Raises UsageError that names the key at fault."""
    return of_fields(shape, present(row), where, number)


def of_fields(shape: Shape, fields: Fields, where: str, number: int) -> Record:
    """As `record`, of the columns that hold something."""
    parsed = shape.parse(fields, where)
    name = _named(fields, ("id", "name_key"), where) or f"{shape.letter}{number}"
    patient = _named(fields, ("patient_id", "patient"), where)
    texts = (
        name,
        patient,
        parsed.chosen,
        parsed.rejected,
        parsed.text,
        *(turn.text for turn in parsed.turns),
    )
    if not is_unicode("".join(text for text in texts if text)):
        raise UsageError(where, "text that is valid Unicode", "half of a surrogate pair")
    return Record(name, parsed.turns, patient, parsed.chosen, parsed.rejected, parsed.text)


def _named(fields: Fields, keys: tuple[str, ...], where: str) -> str | None:
    """The identity in the first of these keys that holds one."""
    for key in keys:
        if key in fields and (name := identity.of(fields[key], f"{where}: {key}")) is not None:
            return name
    return None


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


# ---- dialogues


def _listed(fields: Fields, where: str) -> Record:
    """A list of messages; two such lists in one row must be equal."""
    lists = [
        (key, turns_of(fields[key], f"{where}: {key}"))
        for key in ("conversations", "messages")
        if key in fields
    ]
    if not lists:
        turns_of(None, f"{where}: messages")
    key, turns = lists[0]
    if any(other != turns for _, other in lists):
        raise UsageError(
            where, "conversations or messages", "both columns, which differ", "leave one of the columns out"
        )
    require_last(turns, "assistant", f"{where}: {key}")
    return Record("", with_system(fields, turns, where))


def _instruction(fields: Fields, where: str) -> Record:
    """Alpaca, with the `system` and `history` that some add, or Dolly's names for the same."""
    if "question" in fields:
        raise UsageError(where, "instruction or question", "both columns", "write them into one column")
    key = next((name for name in INSTRUCTED if name in fields), "output")
    answer = text_of(fields, key, where)
    return Record("", (*prompt_of(fields, "instruction", where), Turn("assistant", answer)))


def _completion(fields: Fields, where: str) -> Record:
    keys = [key for key in ("completion", "response") if key in fields]
    if len(keys) == 2 and fields["completion"] != fields["response"]:
        raise UsageError(
            where,
            "completion or response",
            "both columns, which differ",
            "leave one of the columns out; answers to choose from are read as chosen and rejected",
        )
    key = keys[0] if keys else "completion"
    prompt = prompt_of(fields, _asked_key(COMPLETION, fields), where)
    answer = answer_of(fields.get(key), f"{where}: {key}")
    check_prefix(answer, prompt, f"{where}: {key}")
    return Record("", (*prompt, answer[-1]))


def _question(fields: Fields, where: str) -> Record:
    """Question and answer; `choices` are listed by letter below the question, and `answer` is then an
    index.
    """
    prompt = prompt_of(fields, "question", where)
    if "choices" not in fields:
        return Record("", (*prompt, Turn("assistant", text_of(fields, "answer", where))))
    options, answer = options_of(fields, where), fields.get("answer")
    if not isinstance(answer, int) or not 0 <= answer < len(options):
        got = (
            f"{answer!s:.40}"
            if isinstance(answer, int | float) and not isinstance(answer, bool)
            else kind_of(answer)
        )
        raise UsageError(f"{where}: answer", f"the place of a choice, from 0 to {len(options) - 1}", got)
    return Record("", (*prompt, Turn("assistant", options[answer])))


# ---- preference pairs and plain text


def _pair(fields: Fields, where: str) -> Record:
    """`chosen` and `rejected` as texts or as messages, both of which may begin with the prompt or hold the
    whole of it.
    """
    chosen, rejected = (answer_of(fields.get(key), f"{where}: {key}") for key in ("chosen", "rejected"))
    asked = _asked_key(PAIR, fields)
    if asked not in fields:
        chosen, rejected = _transcript(chosen), _transcript(rejected)
    if asked in fields or len(chosen) == len(rejected) == 1:
        prompt = prompt_of(fields, asked, where)
        if chosen[:-1] == rejected[:-1] and spoken(chosen[:-1]) == prompt:
            prompt = chosen[:-1]  # with a system turn of their own
    else:
        prompt = _shared_prompt(chosen, rejected, where)
    prompt = with_system(fields, prompt, where)
    for key, answer in (("chosen", chosen), ("rejected", rejected)):
        check_prefix(answer, prompt, f"{where}: {key}")
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
            "a prompt, or the same turns before both answers",
            "no prompt and different turns",
            "write what both share into a column prompt",
        )
    require_last(chosen[:-1], "user", f"{where}: chosen without its answer")
    return chosen[:-1]


def _plain(fields: Fields, where: str) -> Record:
    return Record("", (), text=text_of(fields, "text", where))


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
KNOWN_COLUMNS = {key for shape in SHAPES for key in shape.keys} | set(ASKED)
