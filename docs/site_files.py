"""A hook of MkDocs (mkdocs.yml): takes the pages at the root of the repository into the site, and turns links
between files of the repository into links between pages. No page has to know that there is a site.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
AT_ROOT = {
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
} | {
    f"{path.parent.name}/{path.name}": f"{path.parent.name}/{path.name}"
    for folder in ("suites", "judges")
    for path in sorted((ROOT / folder).glob("*.yaml"))
}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")


def in_site(name: str) -> str:
    """Where a file of the repository stands in the site; both paths are relative to their roots."""
    return AT_ROOT.get(name) or name.removeprefix("docs/")


def in_repository(name: str) -> str:
    """The other way."""
    return next((ours for ours, theirs in AT_ROOT.items() if theirs == name), f"docs/{name}")


def relinked(text: str, page: str) -> str:
    """The Markdown of `page` (its path in the site), its links made fit for the site."""
    here = posixpath.dirname(in_repository(page))

    def moved(link: re.Match[str]) -> str:
        target = in_site(posixpath.normpath(posixpath.join(here, link[1])))
        return posixpath.relpath(target, posixpath.dirname(page) or ".")

    return LINK.sub(moved, text)


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for ours, theirs in AT_ROOT.items():
        files.append(File.generated(config, theirs, abs_src_path=str(ROOT / ours)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    return relinked(markdown, page.file.src_uri)
