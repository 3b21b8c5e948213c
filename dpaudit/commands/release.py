"""The last words of `demo`, `run` and `report`: what may be released, as the page says it."""

from collections.abc import Iterable

from dpaudit.commands.states import FIGURES, Row, read_if_there
from dpaudit.storage.rundir import RunDir

MOST = 8  # adapters: with heading and page, ten lines


def lines(run_dir: RunDir) -> Row:
    """A row an adapter; nothing where there is no page."""
    return rows(read_if_there(run_dir, FIGURES).get("release", []))


def rows(released: Iterable[Row]) -> Row:
    """The rows of what a report says of each adapter."""
    told = [{key: row[key] for key in ("arm", "word", "why")} for row in released]
    left = len(told) - MOST
    more = {"more": f"{left} more adapters, on the page"} if left > 0 else {}
    return {"release": told[:MOST], **more}
