"""The page on paper: a real browser prints it, and no cell of a table is lost at the margin."""

import re
import shutil
import subprocess
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import fabricate
import pytest

from dpaudit.stages import report
from dpaudit.system.progress import Progress

pytestmark = pytest.mark.slow
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PAPERS = {"A4": "210mm 297mm", "Letter": "8.5in 11in"}


class Cells(HTMLParser):
    """The text of every cell of a table, without white space."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "th"):
            self.texts.append("")
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[-1] += bare(data)


def bare(text: str) -> str:
    """Without white space, and ligatures as letters."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


def lost(page: Path, folder: Path, css: str) -> list[str]:
    """The cells of the page that are not in its print, each as often as it is missing."""
    pypdf = pytest.importorskip("pypdf")
    html = page.read_text(encoding="utf-8")
    source, printed = folder / "page.html", folder / "page.pdf"
    source.write_text(html.replace("</style>", css + "</style>"), encoding="utf-8")
    assert BROWSER is not None
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-pdf-header-footer",
        f"--print-to-pdf={printed}",
    ]
    subprocess.run([BROWSER, *words, source.as_uri()], check=True, capture_output=True, timeout=300)
    text = bare("".join(sheet.extract_text() for sheet in pypdf.PdfReader(printed).pages))
    cells = Cells()
    cells.feed(html)
    wanted = Counter(filter(None, cells.texts))
    return [cell for cell, count in wanted.items() if text.count(cell) < count]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("paper", PAPERS)
def test_no_cell_is_lost_on_paper(paper: str, tmp_path: Path) -> None:
    run_dir, plan = fabricate.run(tmp_path)
    page = report.run(run_dir, plan, Progress(quiet=True))
    size = f"@page {{ size: {PAPERS[paper]}; }}"
    assert lost(page, tmp_path, size) == []
    # and the check can fail: cells that may not wrap run over the margin
    assert lost(
        page,
        tmp_path,
        size
        + "@media print { td, thead th { white-space: nowrap !important; min-width: 9rem !important; } }",
    )
