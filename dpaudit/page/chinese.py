"""A finished page in Chinese: each text that the catalogue knows is replaced, and the rest is counted."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dpaudit.page.catalogue import FIRST_ATOM, LAST_ATOM, LONGEST, MARKS, PRIVATE, Translated, said

TAG = re.compile(r"(<[^>]*>)")
NAME_OF_TAG = re.compile(r"</?\s*([a-zA-Z0-9]+)")
ATOM = re.compile(
    r'<(?:code|data)\b|<span class="(?:interval|tag|line(?: short)?)"|<span[^>]* translate="no"'
)
OPAQUE = re.compile(r'<code\b|<span[^>]* translate="no"')
AS_IT_IS = re.compile(r'<(?:style|pre)\b|<[^>]*\stranslate="no"')
SPOKEN = re.compile(r'(\s(?:aria-label|title|alt))="([^"]*)"')
ESCAPED = re.compile(f"(&[#\\w]+;|{PRIVATE.pattern})")
OPENED = re.compile(f"<({'|'.join(MARKS)})>")
BETWEEN_ATOMS = re.compile(f"(?<={PRIVATE.pattern}); (?={PRIVATE.pattern})")
HAN = re.compile("[\u4e00-\u9fff]")


def page(english: str) -> Translated:
    """A page in Chinese, with its foot saying how many sentences are English still. Tags, figures and what
    `code` or translate="no" hold stay as they are.
    """
    made = _fragment(english)
    text = made.text.replace('<html lang="en">', '<html lang="zh-CN">', 1)
    return Translated(text.replace("</footer>", f"<p>{foot(made.english)}</p>\n</footer>", 1), made.english)


def foot(english: int) -> str:
    """What the page and the command say of themselves."""
    left = f"{english} 句没有译文，仍为英文" if english else "没有仍为英文的句子（0 句）"
    return f"本页译自英文页，数字与英文页相同；{left}。如有出入，以英文页为准。"


def plain(english: str) -> Translated:
    """A line without HTML in Chinese."""
    unit = _Unit()
    unit.add_text(html.escape(english, quote=False))
    made = unit.finished()
    return Translated(html.unescape(made.text), made.english)


# ---- the page in parts


@dataclass
class _Unit:
    """A run of text with the marks inside of it: a sentence or more. Elements that nothing may change stand
    in it as one private character each.
    """

    parts: list[str] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    atoms: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    english: int = 0

    def add_text(self, text: str) -> None:
        """Text as it stands in HTML; what is escaped is an atom, and so is a private character."""
        for part in ESCAPED.split(text.replace("&#39;", "'").replace("&#34;", '"')):
            if ESCAPED.fullmatch(part):
                self.add_atom(Translated(part, 0))
            else:
                self.parts.append(part)
                self.raw.append(part)

    def add_atom(self, atom: Translated) -> None:
        self.parts.append(chr(FIRST_ATOM + len(self.atoms) % (LAST_ATOM - FIRST_ATOM)))
        self.raw.append(atom.text)
        self.atoms.append(atom.text)
        self.english += atom.english

    def add_mark(self, tag: str, name: str) -> None:
        if tag[1] != "/":
            self.marks.append(tag)
        self.raw.append(tag)
        self.parts.append(f"</{name}>" if tag[1] == "/" else f"<{name}>")

    def finished(self) -> Translated:
        text = "".join(self.parts)
        if len(text) > LONGEST:
            return Translated("".join(self.raw), self.english + 1)
        lead = text[: len(text) - len(text.lstrip())]
        tail = text[len(text.rstrip()) :] if text.strip() else ""
        made = said(" ".join(text.split()))
        if any(HAN.search(atom) for atom in self.atoms):
            made = Translated(BETWEEN_ATOMS.sub("；", made.text), made.english)
        return Translated(lead + self._restored(made.text) + tail, self.english + made.english)

    def _restored(self, text: str) -> str:
        marks = {name: [mark for mark in self.marks if _name(mark) == name] for name in MARKS}
        text = OPENED.sub(lambda found: marks[found[1]].pop(0), text)
        return PRIVATE.sub(lambda found: self.atoms[ord(found[0]) - FIRST_ATOM], text)


def _fragment(source: str) -> Translated:
    tokens = iter(TAG.split(source))
    made: list[str] = []
    english, unit = 0, _Unit()

    def end_unit() -> None:
        nonlocal english, unit
        done = unit.finished()
        made.append(done.text)
        english += done.english
        unit = _Unit()

    for token in tokens:
        if not token.startswith("<"):
            unit.add_text(token)
            continue
        name = _name(token)
        if ATOM.match(token):
            unit.add_atom(_atom(token, name, tokens))
        elif name in MARKS:
            unit.add_mark(token, name)
        else:
            end_unit()
            spoken = _spoken(token)
            made.append(spoken.text)
            english += spoken.english
            if AS_IT_IS.match(token):
                made.append(_to_end(name, tokens))
    end_unit()
    return Translated("".join(made), english)


def _atom(token: str, name: str, tokens: Iterator[str]) -> Translated:
    whole = _to_end(name, tokens)
    if OPAQUE.match(token):
        return Translated(token + whole, 0)
    inner = whole.removesuffix(f"</{name}>")
    made = _fragment(inner)
    return Translated(f"{token}{made.text}</{name}>", made.english)


def _to_end(name: str, tokens: Iterator[str]) -> str:
    """What follows an opening tag up to its own end."""
    parts, depth = [], 1
    for token in tokens:
        parts.append(token)
        if token.startswith("<") and _name(token) == name:
            depth += -1 if token[1] == "/" else 1
            if depth == 0:
                break
    return "".join(parts)


def _spoken(tag: str) -> Translated:
    """A tag with the words that it speaks."""
    english = 0

    def spoken(found: re.Match[str]) -> str:
        nonlocal english
        unit = _Unit()
        unit.add_text(found[2])
        made = unit.finished()
        english += made.english
        return f'{found[1]}="{made.text.replace(chr(34), "&#34;")}"'

    return Translated(SPOKEN.sub(spoken, tag), english)


def _name(tag: str) -> str:
    found = NAME_OF_TAG.match(tag)
    return found[1].lower() if found else ""
