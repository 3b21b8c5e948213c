"""Sentences in Chinese, by the entries of reports/zh.toml: English = Chinese, with the same slots."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache

from dpaudit import content
from dpaudit.page.singular import NOUNS, one

FILE = "zh.toml"
MARKS = ("strong", "em", "b", "i", "a")  # stand inside of a sentence
FIRST_ATOM, LAST_ATOM = 0xF0000, 0xFFFFD  # private characters, each of which stands for one element
PRIVATE = re.compile(f"[{chr(FIRST_ATOM)}-{chr(LAST_ATOM)}]")
SLOT = re.compile(r"\{(\w+)\}")
FIGURE = re.compile(r"n\d*")  # a slot of this name takes no letter
NAMES = (  # slots that take typed names as they are
    *("arm", "arms", "recipe", "task", "tasks", "name", "run", "model", "method", "reference", "rubric"),
    *("form", "measure"),
)
BETWEEN_NAMES = re.compile(", | or ")
NO_NAME = re.compile("[ ;]|[,:]$")  # a part of a sentence, and no typed name
WORD, LETTER = re.compile(r"[A-Za-z]{2}"), re.compile(r"[A-Za-z]")
NO_WORD = re.compile(r"</?[a-z]+>")
TYPED = re.compile(r"(?=.*(?:[\d_/@]|\w[.:-]\w))[\w.@/:+=*-]+")  # one word with a sign or a digit in it
END = re.compile(f"[.!?]”?(?:</[a-z]+>)? (?=[A-Z“†ε(<{chr(FIRST_ATOM)}-{chr(LAST_ATOM)}])")
CLOSED = re.compile(r"[。！？：；，、）”](</[a-z]+>)?$")
JOINED = {"; ": "；", ", ": "、", ": ": "：", " · ": " · ", " and ": "和", " or ": "或"}
PLURALS = {one(noun): noun for noun in NOUNS.split("|")}  # entries are of several
ONE = re.compile(rf"((?:{PRIVATE.pattern}|(?<![\d.,])1) (?:[a-z-]+ )?)({'|'.join(PLURALS)})\b")
LONGEST = 10_000  # characters of a text that is looked up
SENTENCES = 8  # of one entry, at most
PREFIX = 8  # characters by which entries are found


@dataclass(frozen=True)
class Translated:
    """A text in Chinese, and how many of its sentences are still English."""

    text: str
    english: int


@cache
def said(text: str) -> Translated:
    """A text in Chinese: as an entry, else by its sentences, else by the parts of a list."""
    if _is_silent(text):
        return Translated(text, 0)
    best = _entry(text)
    for way in (_without_end, _by_sentences, _by_parts):
        if best is not None and best.english == 0:
            break
        made = way(text)
        if made is not None and (best is None or made.english < best.english):
            best = made
    return best or Translated(text, 1)


def _is_silent(text: str) -> bool:
    """Whether nothing in it is to be said: figures, signs, a typed name."""
    words = NO_WORD.sub(" ", PRIVATE.sub(" ", text)).strip()
    return not WORD.search(words) or bool(TYPED.fullmatch(words) and text not in _catalogue().exact)


@cache
def _entry(text: str) -> Translated | None:
    """The text by one entry of the catalogue: of several that fit, the one that leaves least in English, and
    then the one with most words of its own.
    """
    best: Translated | None = None
    several = ONE.sub(lambda found: f"{found[1]}{PLURALS[found[2]]}", text)
    for form in dict.fromkeys((text, text[:1].swapcase() + text[1:], several)):
        if form in _catalogue().exact:
            return Translated(_catalogue().exact[form], 0)
        for pattern in _candidates(form[:PREFIX]):
            if pattern.longest in form and (slots := pattern.slots_of(form)) is not None:
                made = _filled(pattern, slots)
                if made.english == 0:
                    return made
                if LETTER.search(pattern.longest) and (best is None or made.english < best.english):
                    best = made
    return best


def _filled(pattern: "_Pattern", slots: dict[str, str]) -> Translated:
    parts = {name: _slot(name, text) for name, text in slots.items()}
    text = SLOT.sub(lambda slot: parts[slot[1]].text, pattern.target)
    return Translated(text, sum(part.english for part in parts.values()))


def _slot(name: str, text: str) -> Translated:
    if name == "command" and text.startswith("dpaudit "):
        return Translated(text, 0)
    is_name = name in NAMES and not any(NO_NAME.search(part) for part in BETWEEN_NAMES.split(text))
    return Translated(text, 0) if is_name else said(text)


def _without_end(text: str) -> Translated | None:
    if not text.endswith(".") or text.endswith(".."):
        return None
    made = said(text[:-1])
    return None if made.english else Translated(made.text.rstrip("。") + "。", 0)


def _by_sentences(text: str) -> Translated | None:
    """The text in pieces that end with a sign, several of which may be one entry: the fewest in English."""
    ends = [end.end() for end in END.finditer(text) if _is_balanced(text[: end.end()])]
    places = [0, *ends, len(text)]
    if len(places) < 3:
        return None
    best: list[Translated] = [Translated("", 0)]
    for end in range(1, len(places)):
        ways = []
        for start in range(max(0, end - SENTENCES), end):
            if end - start < len(places) - 1:
                made = _piece(text[places[start] : places[end]].strip())
                ways.append(_beside(best[start], made))
        best.append(min(ways, key=lambda way: way.english))
    return best[-1]


@cache
def _piece(text: str) -> Translated:
    if _is_silent(text):
        return Translated(text, 0)
    return _entry(text) or _without_end(text) or Translated(text, 1 + len(END.findall(text)))


def _by_parts(text: str) -> Translated | None:
    """A list: its parts each by itself."""
    for sign, joint in JOINED.items():
        parts = text.split(sign)
        if len(parts) == 1 or not all(_is_balanced(part) for part in parts):
            continue
        made = [said(part) for part in parts]
        english = sum(part.english for part in made)
        if english == 0 or (sign == "; " and english < len(parts)):
            return Translated(joint.join(part.text for part in made), english)
    return None


def _beside(before: Translated, after: Translated) -> Translated:
    is_open = before.text == "" or CLOSED.search(before.text)
    text = before.text + ("" if is_open else " ") + after.text
    return Translated(text, before.english + after.english)


def _is_balanced(text: str) -> bool:
    return all(text.count(f"<{mark}>") == text.count(f"</{mark}>") for mark in MARKS)


# ---- the catalogue


@dataclass(frozen=True)
class _Pattern:
    """An entry of the catalogue with slots between its literal parts."""

    literals: tuple[str, ...]
    slots: tuple[str, ...]
    target: str
    longest: str  # of the literal parts, for a quick look

    def slots_of(self, text: str) -> dict[str, str] | None:
        """What stands in the slots, each as short as it can be; None where the text is another."""
        first, last = self.literals[0], self.literals[-1]
        if not text.startswith(first) or not text.endswith(last):
            return None
        at, end = len(first), len(text) - len(last)
        found: dict[str, str] = {}
        for slot, following in zip(self.slots, self.literals[1:], strict=True):
            to = end if len(found) == len(self.slots) - 1 else text.find(following, at + 1, end)
            value = text[at:to] if to > at else ""
            if not value or not _is_balanced(value):
                return None
            if FIGURE.fullmatch(slot) and LETTER.search(NO_WORD.sub("", value)):
                return None
            found[slot], at = value, to + len(following)
        return found


@dataclass(frozen=True)
class _Catalogue:
    exact: dict[str, str]
    patterns: tuple[_Pattern, ...]  # those with most words of their own first


@cache
def _catalogue() -> _Catalogue:
    of = entries()
    exact = {source: target for source, target in of.items() if not SLOT.search(source)}
    patterns = [_pattern(source, target) for source, target in of.items() if source not in exact]
    return _Catalogue(exact, tuple(sorted(patterns, key=lambda one: -sum(map(len, one.literals)))))


@cache
def _candidates(beginning: str) -> tuple[_Pattern, ...]:
    """The entries that a text with this beginning may be."""
    patterns = _catalogue().patterns
    return tuple(
        one for one in patterns if beginning.startswith(one.literals[0][:PREFIX]) or not one.literals[0]
    )


def _pattern(source: str, target: str) -> _Pattern:
    parts = SLOT.split(source)
    literals = tuple(parts[::2])
    return _Pattern(literals, tuple(parts[1::2]), target, max(literals, key=len))


def entries() -> dict[str, str]:
    """English -> Chinese, of all tables of the catalogue. Raises ValueError for a text that stands twice."""
    tables = tomllib.loads((content.shipped("reports") / FILE).read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for name, table in tables.items():
        for source, target in table.items():
            if source in found:
                raise ValueError(f"reports/{FILE}: [{name}] {source!r} stands twice")
            found[source] = target
    return found
