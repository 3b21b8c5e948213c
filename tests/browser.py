"""A page in a real browser: what a script finds in it at a given width, and its print."""

import html
import json
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
HEADLESS = ("--headless", "--no-sandbox", "--disable-gpu")
DARK = ("--blink-settings=preferredColorScheme=0",)
CLOSED, OPEN = "default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'"


def found_by(
    script: str, page: Path, folder: Path, width: int, *, before: str = "", dark: bool = False
) -> Any:
    """What `script`, the body of an async function, returns for the page in a frame of `width` x 900 pixels;
    `before` is run first. The page's own policy forbids scripts, so that a copy gets another one.
    """
    assert BROWSER is not None
    text = page.read_text(encoding="utf-8")
    assert CLOSED in text
    tail = (
        f"<script>{before}</script><script>addEventListener('load', async () => parent.postMessage("
        f"await (async () => {{{script}}})(), '*'))</script>"
    )
    (folder / "child.html").write_text(
        text.replace(CLOSED, OPEN).replace("</body>", f"{tail}</body>"), "utf-8"
    )
    (folder / "parent.html").write_text(
        f'<iframe src="child.html" style="width:{width}px;height:900px;border:0"></iframe><pre></pre><script>'
        "onmessage = e => document.querySelector('pre').textContent = JSON.stringify(e.data)</script>",
        "utf-8",
    )
    shades = DARK if dark else ()
    words = [*HEADLESS, *shades, f"--user-data-dir={folder / 'profile'}", "--window-size=2000,1000"]
    words += ["--virtual-time-budget=60000", "--dump-dom", (folder / "parent.html").as_uri()]
    done = subprocess.run([BROWSER, *words], check=True, capture_output=True, text=True, timeout=300)
    answered = re.search(r"<pre>(.+?)</pre>", done.stdout, re.DOTALL)
    assert answered, done.stdout[-400:]
    return json.loads(html.unescape(answered[1]))


def printed(page: Path, folder: Path, css: str = "") -> list[str]:
    """The text of every sheet of the page's print, with ligatures as letters."""
    import pytest

    pypdf = pytest.importorskip("pypdf")
    assert BROWSER is not None
    source, pdf = folder / "print.html", folder / "print.pdf"
    text = page.read_text(encoding="utf-8").replace("</style>", css + "</style>")
    source.write_text(text, encoding="utf-8")
    words = [*HEADLESS, f"--user-data-dir={folder / 'profile'}", "--no-pdf-header-footer"]
    subprocess.run(
        [BROWSER, *words, f"--print-to-pdf={pdf}", source.as_uri()],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return [unicodedata.normalize("NFKC", sheet.extract_text()) for sheet in pypdf.PdfReader(pdf).pages]
