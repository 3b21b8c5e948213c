"""A page as Markdown: its decisions, sentences and tables, in their order. Figures are left out; their tables
are there.
"""

import re
from html.parser import HTMLParser

from dpaudit.terminal import visible

SKIPPED = ("style", "svg", "script", "title", "nav")
HEADINGS = {"h1": "#", "h2": "##", "h3": "###", "h4": "####"}
BLOCKS = (
    "address", "article", "aside", "blockquote", "div", "dl", "figcaption", "figure", "footer", "header",
    "main", "p", "section", "summary", "details", "ul", "ol", "dt", "caption",
)  # fmt: skip
MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*"}
SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")
UNQUOTED = re.compile(r"[`|<]")
LONGEST = 4000  # characters of one text


class _Writer(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[str] = []
        self._line = ""
        self._head = ""  # what the open block begins with
        self._skipped = 0
        self._code: str | None = None  # what the open code span holds
        self._rows: list[list[str]] | None = None  # of the open table

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SKIPPED:
            self._skipped += 1
        elif tag == "table":
            self._end_block()
            self._rows = []
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th"):
            self._line = ""
        elif tag in HEADINGS or tag == "li":
            self._end_block()
            self._head = f"{HEADINGS.get(tag, '-')} "
        elif tag == "dd":
            self._end_block()
            self._head = "  "
        elif tag in BLOCKS:
            self._end_block()
        elif tag == "br":
            self._line += " "
        else:
            self._mark(tag, True)

    def handle_endtag(self, tag: str) -> None:
        if tag in SKIPPED:
            self._skipped = max(0, self._skipped - 1)
        elif tag in ("td", "th") and self._rows:
            self._rows[-1].append(self._taken())
        elif tag == "table":
            self._end_table()
        elif tag in HEADINGS or tag in BLOCKS or tag in ("li", "dd"):
            self._end_block()
        else:
            self._mark(tag, False)

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        text = visible(data, LONGEST)
        if self._code is not None:
            self._code += text
        else:
            self._line += _escaped(text)

    def _mark(self, tag: str, opens: bool) -> None:
        if self._skipped:
            return
        if tag == "code":
            self._line += _code(self._code or "")
            self._code = "" if opens else None
        elif tag in MARKS:
            self._line += MARKS[tag]

    def _taken(self) -> str:
        """The open line with its spaces folded; empty marks fall away."""
        line = " ".join(self._line.split())
        self._line = ""
        return line.replace("****", "").strip()

    def _end_block(self) -> None:
        if self._rows is not None and self._rows:
            self._line += " "  # a block inside of a cell
            return
        line = self._taken()
        if line:
            self.blocks.append(f"{self._head}{line}")
        self._head = ""

    def _end_table(self) -> None:
        rows = [row for row in self._rows or () if row]
        self._rows = None
        width = max(map(len, rows), default=0)
        lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in rows]
        if lines:
            self.blocks.append("\n".join([lines[0], "|" + "---|" * width, *lines[1:]]))


def _code(text: str) -> str:
    """A code span; plain text where marks in it would end the span or a cell, or be read as HTML."""
    if not text:
        return ""
    return _escaped(text) if UNQUOTED.search(text) else f"`{text}`"


def _escaped(text: str) -> str:
    return SPECIAL.sub(r"\\\1", text)


def of_page(html: str) -> str:
    """The Markdown of a page. A list keeps its items together."""
    writer = _Writer()
    writer.feed(html)
    writer.close()
    text = ""
    for block in writer.blocks:
        is_item = block.startswith(("- ", "  "))
        near = is_item and text.rpartition("\n\n")[2].startswith(("- ", "  "))
        text += ("" if not text else "\n" if near else "\n\n") + block
    return text + "\n"
