"""Chooses the files of sdist and wheel: in a git checkout exactly the tracked ones, elsewhere all that are
there.

Content folders go to dpaudit/_content/ in the wheel. Junk beside them (an own recipe, an editor's backup)
never ships.
"""

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CONTENT = ("suites", "attacks", "judges", "reports")


class TrackedFiles(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the files; an editable install needs none, it reads the checkout."""
        if version == "editable":
            return
        root = Path(self.root)
        if self.target_name == "sdist" and not (root / ".git").exists():
            raise RuntimeError(f"{root}: an sdist is made from a git checkout, and this is none")
        wanted = ("dpaudit", *CONTENT) if self.target_name == "wheel" else (".",)
        for name in files(root, wanted):
            build_data["force_include"][str(root / name)] = self._home(name)

    def _home(self, name: str) -> str:
        in_wheel = self.target_name == "wheel" and name.split("/")[0] in CONTENT
        return f"dpaudit/_content/{name}" if in_wheel else name


def files(root: Path, wanted: tuple[str, ...]) -> list[str]:
    """Paths relative to `root`: what git tracks, or every file where `root` is an unpacked sdist."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-z", "--", *wanted]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
        return [name for name in listed if name and (root / name).is_file()]
    found = [path for name in wanted for path in sorted((root / name).rglob("*")) if path.is_file()]
    return [p.relative_to(root).as_posix() for p in found if "__pycache__" not in p.parts]
