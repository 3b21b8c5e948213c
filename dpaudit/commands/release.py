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


def in_chinese(values: Row) -> Row:
    """What `rows` gave, with its words in Chinese and the names as they are."""
    from dpaudit.page import chinese

    def said(value: object) -> object:
        if isinstance(value, list):
            return [{**row, **{key: said(row[key]) for key in ("word", "why")}} for row in value]
        return chinese.plain(str(value)).text

    return {key: said(value) for key, value in values.items()}
