"""What kind of item an answer belongs to, and which letters it chooses."""

import re
import unicodedata
from enum import Enum

from dpaudit.data.answer_files import Answer
from dpaudit.errors import UsageError

MARK = "【答案】"


class Kind(Enum):
    """What is measured of an item."""

    NOUN = "noun_definition"
    PRIVACY = "privacy"
    CHOICE = "choice"
    DIALOGUE = "dialogue"


_MARK = re.compile(r"【\s*答案\s*】")
_LETTERS = re.compile(
    r"[\s:(\[*]{0,20}(?:选项|选择|应选|选|是|为)?[\s:(\[*]{0,20}([A-J](?:[\s,、;/和及]{0,9}[A-J])*|[a-j])(?![A-Za-z])"
)


def kind_of(item: Answer) -> Kind:
    """The kind by the name (noun_definition_12, privacy_3, choice_5), or by a reference with 【答案】 in it;
    any other is a dialogue. Raises UsageError for a name that is almost one of these: a leak must not pass as
    a dialogue.
    """
    for kind in (Kind.NOUN, Kind.PRIVACY, Kind.CHOICE):
        if item.name.startswith(f"{kind.value}_"):
            return kind
        stem = "privac?y|private" if kind == Kind.PRIVACY else kind.value.replace("_", "[ _-]?")
        if re.match(rf"(?:{stem})s?([ _\-\d.]|$)", item.name, re.IGNORECASE):
            raise UsageError(
                f"name_key {item.name:.60}",
                f"{kind.value}_ and a number, or a name of another kind",
                "a name that is almost one",
                f"write {kind.value}_1, {kind.value}_2 and so on",
            )
    return Kind.CHOICE if _MARK.search(item.reference or "") else Kind.DIALOGUE


def letters(text: str) -> frozenset[str]:
    """The letters that stand after 【答案】, or that are the whole text. Empty where there are none, or where
    two such places differ.
    """
    plain = unicodedata.normalize("NFKC", text)
    marks = [mark.end() for mark in _MARK.finditer(plain)]
    if not marks:
        alone = _LETTERS.fullmatch(plain.strip().rstrip(".。)]"))
        return frozenset(re.findall("[A-J]", alone[1].upper())) if alone else frozenset()
    found = [_LETTERS.match(plain, end) for end in marks]
    chosen = {frozenset(re.findall("[A-J]", one[1].upper())) for one in found if one}
    return chosen.pop() if len(chosen) == 1 and None not in found else frozenset()
