"""The page in a real browser: nothing is lost at any width, nothing is fetched, and who sees no colours or
has no mouse can read it.

axe-core is no dependency of the project: `npm pack axe-core`, and name its file in AXE_CORE.
"""

import os
from pathlib import Path

import browser
import fabricate
import pytest

from dpaudit.stages import report
from dpaudit.system.progress import Progress

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.BROWSER is None, reason="no Chromium on this machine"),
]
AXE = os.environ.get("AXE_CORE")
UNFOLD = "document.querySelectorAll('details').forEach(d => d.open = true);"
OVER = (
    UNFOLD
    + """
const tables = [...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth + 1);
const loose = [...document.querySelectorAll('body *')].filter(
  e => !e.closest('.scroll, svg') && e.getBoundingClientRect().width
       && e.getBoundingClientRect().right > innerWidth + 1);
return {wide: document.documentElement.scrollWidth - innerWidth,
        tables: tables.map(s => s.getAttribute('aria-label')), loose: loose.map(e => e.tagName),
        fetched: performance.getEntriesByType('resource').length};
"""
)
REACHED = (
    UNFOLD
    + """
const named = [...document.querySelectorAll('.scroll')].map(s => s.getAttribute('aria-label'));
const stops = [...document.querySelectorAll('a[href], summary, [tabindex="0"]')];
return {unnamed: named.filter(n => !n).length, twice: named.length - new Set(named).size,
        unreached: stops.filter(e => {e.focus(); return document.activeElement !== e}).length,
        unframed: stops.filter(e => {e.focus({focusVisible: true});
                                     return getComputedStyle(e).outlineStyle === 'none'}).length,
        stops: stops.length};
"""
)
TOP = """
const first = document.querySelector('#verdicts .answer').getBoundingClientRect();
return {bottom: first.bottom + scrollY, cards: document.querySelectorAll('.release').length};
"""
TRIED = (
    UNFOLD
    + """
const found = await axe.run(document, {resultTypes: ['violations']});
return found.violations.map(v => [v.id, v.impact, v.nodes.length, v.nodes[0].html.slice(0, 200)]);
"""
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir, plan = fabricate.run(tmp_path_factory.mktemp("runs"))
    return report.run(run_dir, plan, Progress(quiet=True))


@pytest.mark.parametrize("width", [360, 1024, 1920])
def test_nothing_is_lost_at_any_width(page: Path, tmp_path: Path, width: int) -> None:
    found = browser.found_by(OVER, page, tmp_path, width)
    assert (found["wide"] <= 0, found["loose"], found["fetched"]) == (True, [], 0)
    if width > 1000:  # below, tables scroll under the hand and the keyboard, with their first column in place
        assert found["tables"] == []


def test_a_page_that_is_too_wide_is_noticed(page: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide.html"
    wide.write_text(
        page.read_text("utf-8").replace("</style>", "dl.facts { width: 1500px; }</style>"), "utf-8"
    )
    assert browser.found_by(OVER, wide, tmp_path, 1024)["loose"]


def test_the_first_claim_stands_on_the_first_screen_and_a_half(page: Path, tmp_path: Path) -> None:
    found = browser.found_by(TOP, page, tmp_path, 1400)
    assert found["cards"] == 5 and found["bottom"] <= 1350


def test_everything_is_reached_by_keyboard_and_framed(page: Path, tmp_path: Path) -> None:
    found = browser.found_by(REACHED, page, tmp_path, 1400)
    assert found.pop("stops") > 60
    assert found == {"unnamed": 0, "twice": 0, "unreached": 0, "unframed": 0}
    bare = tmp_path / "bare.html"
    text = page.read_text("utf-8").replace("</style>", "* { outline: none !important; }</style>")
    bare.write_text(text, "utf-8")
    assert browser.found_by(REACHED, bare, tmp_path, 1400)["unframed"] > 60


@pytest.mark.skipif(not AXE, reason="no file named in AXE_CORE (npm pack axe-core)")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(page: Path, tmp_path: Path, dark: bool) -> None:
    axe = Path(AXE or "").read_text("utf-8").replace("</script>", "<\\/script>")
    assert browser.found_by(TRIED, page, tmp_path, 1400, before=axe, dark=dark) == []
    faint = tmp_path / "faint.html"
    text = page.read_text("utf-8").replace("</style>", "p { color: #8a8a8a !important; }</style>")
    faint.write_text(text.replace(' lang="en"', ""), "utf-8")
    ids = [row[0] for row in browser.found_by(TRIED, faint, tmp_path, 1400, before=axe)]
    assert {"color-contrast", "html-has-lang"} <= set(ids)


def test_a_print_has_page_numbers_and_a_block_to_sign(page: Path, tmp_path: Path) -> None:
    sheets = browser.printed(page, tmp_path)
    for number, sheet in enumerate(sheets, start=1):
        assert f"{number} / {len(sheets)}" in " ".join(sheet.split())
    whole = " ".join(" ".join(sheets).split())
    assert whole.count("Name and office") == 1
    shown = browser.found_by(
        "return getComputedStyle(document.querySelector('.sign')).display", page, tmp_path, 1400
    )
    assert shown == "none"


def test_a_print_opens_what_is_folded(page: Path, tmp_path: Path) -> None:
    folded = "A fair coin decided for each canary whether it went into training"

    def told(css: str) -> str:
        return " ".join(" ".join(browser.printed(page, tmp_path, css)).split())

    assert folded in told("")
    shut = "@media print { details::details-content { content-visibility: hidden !important; } }"
    assert folded not in told(shut)
