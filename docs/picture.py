"""Writes docs/page.png, the picture in the README: the top of a finished run's page, drawn by headless
Chromium.

    python docs/picture.py [runs/NAME/report/index.html]

Without a path it takes the page of the demo that was written last. Chromium is no dependency of the project;
`apt install chromium` or any Chrome will do.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path(__file__).with_name("page.png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1240, 1330  # CSS pixels


def newest_page() -> Path:
    """The page of the demo in ./runs that was written last."""
    pages = sorted(Path("runs").glob("demo-*/report/index.html"), key=lambda page: page.stat().st_mtime)
    if not pages:
        sys.exit("no page of the demo in ./runs: type `make demo`, or name a page")
    return pages[-1]


def main(page: Path) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"no browser: install one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += [f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={OUT}"]
        subprocess.run([browser, *options, page.resolve().as_uri()], check=True, timeout=120)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else newest_page())
