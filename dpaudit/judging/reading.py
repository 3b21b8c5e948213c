"""Where a verdict stands in a reply for sure. Every step is linear in the length of the reply."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache

LONGEST = 200  # characters before a verdict that may announce it
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("【"): "[", ord("】"): "]"}
_MARKS = " \t\r\n*_\"'`#>$|()[]{}“”「」《》\\"
_ENDS = ".。!！,，;；"


@dataclass(frozen=True)
class Place:
    """A label (in lower case) in a reply: where its form begins, and where the name of it in that form."""

    label: str
    start: int
    name: int
    is_alone: bool = False  # nothing announces it


def last(reply: str, names: Collection[str]) -> Place | None:
    """The last sure verdict by one of the `names`.

    None where a line with it, or one behind it, mentions another one in brackets or in a box; and where
    several of different content stand alone, without the last line being one of them: these are headings.
    """
    told, known = reply.translate(_WIDE), frozenset(names)
    if (value := _of_json(told)) is not None:
        return _in_json(told, value, known)
    mentioned: set[str] = set()
    found: Place | None = None
    is_last = True
    for start, line in _backwards(told):
        mentions = _mentions(line, start, known)
        sure = _sure(line, start, mentions, known, is_last)
        if found is not None:
            if sure is not None and sure.is_alone and sure.label != found.label:
                return None
            continue
        mentioned.update(mention.label for mention in mentions)
        if sure is not None:
            if mentioned - {sure.label}:
                return None
            if is_last or not sure.is_alone:
                return None if is_last and _is_listed(told, sure, known) else sure
            found = sure
        is_last = False
    return found


def worded(line: str, names: Collection[str]) -> bool:
    """Whether a line ends with a verdict behind the word for it."""
    if len(line) < 3 or _WORD.search(line[-LONGEST:]) is None:
        return False
    return _worded(line.translate(_WIDE), 0, frozenset(names), broken=True) is not None


def _backwards(told: str) -> Iterator[tuple[int, str]]:
    """The lines that hold something, the last first, each with its place."""
    end = len(told)
    for line in reversed(told.splitlines(keepends=True)):
        end -= len(line)
        if line.strip(_MARKS + _ENDS):
            yield end, line


def _of_json(told: str) -> str | None:
    """What a reply that is a JSON object has under the key for a verdict; None for any other reply."""
    text = told.strip().removeprefix("```json").strip("`\n ")
    if not text.startswith("{"):
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return next((str(value)[:LONGEST] for key, value in said.items() if key.casefold() == "verdict"), None)


def _in_json(told: str, value: str, names: frozenset[str]) -> Place | None:
    match = _only(names).fullmatch(_plain(value))
    if match is None:
        return None
    before = r'"verdict"\s{0,9}:\s{0,9}"[\s\[*]{0,9}'
    places = list(re.finditer(rf"(?i:{before}(?={re.escape(match[0])}))", told))
    at = places[-1].end() if places else 0
    return Place(_label(match[0], names), at, at)


def _sure(line: str, start: int, mentions: list[Place], names: frozenset[str], is_last: bool) -> Place | None:
    """The verdict that a line ends with, or begins with before its reason."""
    if mentions and _is_announced(line, start, mentions[-1]):
        place = mentions[-1]
        before = line[: place.start - start].strip(_MARKS + "-")
        return Place(place.label, place.start, place.name, not before)
    return _worded(line, start, names) or (_alone(line, start, names) if is_last else None)


# ---- in brackets or in a box


def _mentions(line: str, start: int, names: frozenset[str]) -> list[Place]:
    """Every label of a line in brackets or in a box."""
    found = []
    for match in _forms(names).finditer(line):
        group = 1 if match[1] is not None else 2
        found.append(Place(match[group].casefold(), start + match.start(), start + match.start(group)))
    return found


def _is_announced(line: str, start: int, place: Place) -> bool:
    """Whether a label is a sentence of its own at the end of a line, or the end of one that announces it."""
    at = place.start - start
    before = line[max(0, at - LONGEST) : at].rstrip(_MARKS).lstrip(_MARKS + "-")
    is_first = not before and at <= LONGEST
    rest = line[place.name - start :]
    rest = rest[len(place.label) :].lstrip(_MARKS)
    if rest.strip(_MARKS + _ENDS) and not (is_first or _HEAD.fullmatch(before)):
        return False
    if rest.strip(_MARKS + _ENDS) and not (_REASON if is_first else _GOES_ON).match(rest):
        return False
    if is_first or (before.endswith((".", "。", "!", "！", "?", "？")) and not _SHORT.search(before)):
        return True
    clause = _CLAUSE.split(before)[-1]
    return _ANNOUNCES.search(before) is not None and _DOUBT.search(clause) is None


@cache
def _forms(names: frozenset[str]) -> re.Pattern[str]:
    name = rf"((?i:{_alternatives(names)}))"
    inner = r"(?:(?:\\(?:text|textbf|mathrm|mathbf|textrm)\s{0,9}\{|\[\[)\s{0,9}){0,2}"
    return re.compile(
        rf"\[\[\s{{0,9}}(?i:(?:answer|response) )?{name}\s{{0,9}}\]\]"
        rf"|\\(?:boxed|fbox)\s{{0,9}}\{{\s{{0,9}}{inner}{name}\s{{0,9}}[\]}}]"
    )


_NOUNS = r"(?:verdict|answer|response|winner|decision|judge?ment|conclusion|choice|result|pick|criterion)"
_ZH = r"(?:结论|判断|判定|裁决|答案|结果|胜者|获胜者|更好的回答|更好的答案|更好的|选择)"
_WORD = re.compile(rf"{_NOUNS}|{_ZH}", re.IGNORECASE)
_OWN = (
    r"(?:(?:so|thus|therefore|hence|my|the|our|final|overall|better|best|preferred|最终|最后|我的)"
    r"[ ,，]{0,2})"
)
_HEAD = re.compile(
    rf"(?:[^.]{{0,99}}\. )?{_OWN}{{0,5}}(?:{_NOUNS}|{_ZH})[*_ ]{{0,4}}(?:is|为|是)?[:：]?[*_ ]{{0,4}}",
    re.IGNORECASE,
)
_ANNOUNCES = re.compile(
    rf"(?:\b{_NOUNS}[*_ ]{{0,4}}(?:(?:is|would be)[:：]?|[:：])|\b(?:verdict|verdict is that)"
    rf"|\b(?:therefore|thus|hence|so|overall|finally|final|conclude)\b[,:]?"
    rf"|\bI (?:would |therefore |will |must )?(?:choose|select|pick|prefer|go with|conclude)(?: that|:)?"
    rf"|{_ZH}[*_ ]{{0,4}}(?:为|是)?[:：]?|(?:因此|所以|综上|综上所述|故|我选)[，,:：]?)$",
    re.IGNORECASE,
)
_DOUBT = re.compile(
    r"\b(?:not|never|no|neither|nor|cannot|if|unless|or|options?|labels?|maybe|perhaps|might|could|instead|"
    r"either|instructions?|asked|formats?|examples?|worse|worst|wrong|incorrect|loser|losing|weaker|other|"
    r"first thought|initially)\b|n['’]t\b|不|没|未|非|如果|或|选项|更差|错误|例如",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[,，;；.。!！?？]|\b(?:so|therefore|thus|hence)\b|因此|所以", re.IGNORECASE)
_SHORT = re.compile(r"\b(?:e\.g|i\.e|vs|cf|etc)\.$", re.IGNORECASE)
_REASON = re.compile(
    r"(?:because|since)\b|因为|(?:wins|is (?:the )?(?:better|best|winner|preferred)(?: answer| one)?)[.!]?$",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"[.,;:。，；：—–(-]|(?:because|since)\b|因为", re.IGNORECASE)


# ---- without brackets


def _worded(line: str, start: int, names: frozenset[str], broken: bool = False) -> Place | None:
    """The label at the end of a line behind the word for a verdict. `broken`: brackets may be broken open."""
    if "[ [" in line and not broken:
        return None
    tail = line.rstrip()[-LONGEST:]
    plain = _plain(tail).rstrip(_ENDS + " ")
    plain = plain if len(tail) == len(line.rstrip()) else f"…{plain}"
    match = _words(names).search(plain)
    return None if match is None else _placed(line, start, match[1], names)


def _alone(line: str, start: int, names: frozenset[str]) -> Place | None:
    """The label that is all of a line."""
    if len(line) > LONGEST or "[ [" in line:
        return None
    plain = _plain(line).rstrip(_ENDS + " ")
    match = _only(names).fullmatch(plain)
    if match is None:
        return None
    place = _placed(line, start, match[0], names)
    return None if place is None else Place(place.label, place.name, place.name, True)


def _is_listed(told: str, sure: Place, names: frozenset[str]) -> bool:
    """Whether a label that stands alone follows another one that does: on the line before; without brackets,
    on any line.
    """
    if not sure.is_alone:
        return False
    lines = [line for line in told[: sure.start].splitlines(keepends=True) if line.strip()]
    lines = [line for line in lines if line.endswith(("\n", "\r")) and len(line) <= LONGEST]
    before = lines[-1:] if told[sure.start] in "[\\" else lines
    found = (_only(names).fullmatch(_plain(line).rstrip(_ENDS + ": ")) for line in before)
    return any(match and match[0].casefold() != sure.label for match in found)


def _placed(line: str, start: int, plain: str, names: frozenset[str]) -> Place | None:
    """Where the last name that reads like `plain` stands in a line."""
    label = _label(plain, names)
    matches = list(re.finditer(re.escape(label), line, re.IGNORECASE))
    if not matches:
        return None
    head = len(line) - len(line.lstrip(_MARKS))
    return Place(label, start + head, start + matches[-1].start())


def _label(plain: str, names: frozenset[str]) -> str:
    return next(name.casefold() for name in names if _plain(name).casefold() == plain.casefold())


@cache
def _words(names: frozenset[str]) -> re.Pattern[str]:
    between = r"(?: ?(?:is|为|是)(?: ?[:：])? ?| ?[:：] ?)"
    strong = r"(?:verdict|结论|判断|判定|裁决)"
    noun = r"(?:(?:answer|response|assistant|回答|答案) ?)?"
    return re.compile(
        rf"(?:^|[.。!！?？;；,，] ?)(?i:{_OWN}{{0,5}}"
        rf"(?:(?:{_NOUNS}|{_ZH}){between}|{strong}(?: ?[-–—])? ?){noun})"
        rf"({_cased(names)})$"
    )


@cache
def _only(names: frozenset[str]) -> re.Pattern[str]:
    return re.compile(_cased(names))


def _alternatives(names: frozenset[str]) -> str:
    return "|".join(sorted(map(re.escape, names), key=len, reverse=True)) or r"(?!)"


def _cased(names: frozenset[str]) -> str:
    """The names as `_plain` leaves them; a single letter counts in its own case, since "a" is a word."""
    plain = sorted({_plain(name) for name in names} - {""}, key=len, reverse=True)
    each = (re.escape(name) if len(name) == 1 else f"(?i:{re.escape(name)})" for name in plain)
    return "|".join(each) or r"(?!)"


def _plain(text: str) -> str:
    """A text without the marks of Markdown, JSON, TeX and brackets."""
    return _MARKED.sub(" ", text).lstrip(" -").rstrip()


_MARKED = re.compile(rf"[{re.escape(_MARKS)}]+")
