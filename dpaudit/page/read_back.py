"""A page read back: the figures that stand on it, each with its place in the report."""

from html.parser import HTMLParser
from typing import NamedTuple


class Shown(NamedTuple):
    """A figure of a page: its place in report.json, the exact value beside it, and the text that is seen."""

    key: str
    value: str
    text: str


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Shown] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "data":
            given = dict(attrs)
            self.found.append(Shown(given.get("data-key") or "", given.get("value") or "", ""))
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "data"

    def handle_data(self, data: str) -> None:
        if self._open:
            last = self.found[-1]
            self.found[-1] = last._replace(text=last.text + data)


def figures_of(html: str) -> list[Shown]:
    """The figures of a page, in their order."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.found


def first_difference(expected: str, got: str) -> tuple[Shown, str] | None:
    """The first figure of the page `expected` that the page `got` does not show, and what it shows there;
    None where both show the same figures.
    """
    wanted, there = figures_of(expected), figures_of(got)
    for index, shown in enumerate(wanted):
        if index >= len(there):
            return shown, "no figure"
        if shown != there[index]:
            return shown, there[index].text if there[index].key == shown.key else "another figure"
    if len(there) > len(wanted):
        return there[len(wanted)]._replace(text="no figure"), "one more figure"
    return None
