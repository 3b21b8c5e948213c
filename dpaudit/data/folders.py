"""The data files of a folder: of the split `train`, or of the only one. Nothing outside of the folder is
read, and no code in it runs.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dpaudit.data import rows
from dpaudit.data.lines import suffix_of
from dpaudit.errors import UsageError

SPLITS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "dev", "val"},
    "test": {"test", "testing", "eval", "evaluation"},
}
NO_DATA = (
    "config.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "package.json",
)
EXPECTED = "a data set: a folder with data files of one split, or of one named train"
REMEDY = "name the file itself"
HEAD = 1 << 20  # bytes of a README that may hold its settings


def data_files(folder: Path) -> list[Path]:
    """The data files in the order in which they are read. Raises UsageError where the folder does not say
    which files are meant, or names files elsewhere.
    """
    _check_names(folder)
    if (folder / "dataset_dict.json").is_file():
        saved = {path.parent.name: [path] for path in sorted(folder.glob("*/state.json"))}
        return _saved(_one_split(saved, folder)[0].parent)
    if (folder / "state.json").is_file():
        return _saved(folder)
    declared = _declared(folder)
    return _by_name(folder, folder) if declared is None else declared


def _check_names(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise UsageError(
                str(folder), "names in UTF-8", "a name in another encoding", "rename the file or folder"
            ) from None
        if path.suffix == ".py" and path.stem in ("", folder.resolve().name, f".{folder.resolve().name}"):
            raise UsageError(
                str(folder), "data files", "a program that makes the data, which is not run", REMEDY
            )


def _by_name(folder: Path, dataset: Path) -> list[Path]:
    """The files of the split, by the words in the names of files and folders; files without such a word are
    one split, train. Messages name `dataset`.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_data(path, folder)]
    files = [path for path in files if suffix_of(path) != ".txt"] or files
    splits: dict[str, list[Path]] = {}
    for path in files:
        splits.setdefault(_split(path.relative_to(folder)), []).append(path)
    if "" in splits and len(splits) > 1:
        got = f"files of {_and(name for name in splits if name)} and files that name no split"
        raise UsageError(str(dataset), EXPECTED, got, REMEDY)
    return _one_split(splits, dataset)


def _is_data(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    return not hidden and path.name not in NO_DATA and suffix_of(path) in rows.READERS


def _split(path: Path) -> str:
    """The split that a file belongs to by its name; empty where the name has none."""
    words = re.split(r"[^a-z0-9]+", str(path).lower())
    return next((name for word in words for name, spelled in SPLITS.items() if word in spelled), "")


def _one_split(splits: dict[str, list[Path]], folder: Path) -> list[Path]:
    chosen = splits.get("train") or (next(iter(splits.values())) if len(splits) == 1 else None)
    if not splits or not chosen:
        got = f"the splits {_and(splits)}" if splits else "no file of a known format"
        raise UsageError(str(folder), EXPECTED, got, REMEDY)
    formats = {suffix_of(path) for path in chosen}
    if len(formats) > 1 or len({str(path).removesuffix(".gz") for path in chosen}) < len(chosen):
        raise UsageError(
            str(folder),
            "files of one format, which are parts and not copies",
            f"files in {_and(formats)}",
            REMEDY,
        )
    return chosen


def _and(names: Iterable[str]) -> str:
    plain = sorted(name for name in names if re.fullmatch(r"[\w.-]{1,40}", name))
    return ", ".join(plain)


def _saved(folder: Path) -> list[Path]:
    """The files of a data set that `save_to_disk` wrote."""
    where = str(folder / "state.json")
    try:
        named = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
        names = [entry["filename"] for entry in named]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        raise UsageError(
            where, "the JSON that save_to_disk writes", "no readable list of data files"
        ) from None
    return [_inside(folder, name, where) for name in names]


# ---- what a README says


def _declared(folder: Path) -> list[Path] | None:
    """The files that the settings at the head of the README name, None where they name none."""
    where = f"{folder / 'README.md'}: data_files"
    configs = _settings(folder).get("configs")
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        return None
    named = [config for config in configs if config.get("data_files") or config.get("data_dir")]
    if not named:
        return None
    default = [
        config for config in named if config.get("default") is True or config.get("config_name") == "default"
    ]
    chosen = (named if len(named) == 1 else default)[:1]
    if not chosen:
        got = f"{len(named)} configurations"
        raise UsageError(where, "one configuration, or one named default", got, REMEDY)
    return _of_config(folder, chosen[0], where)


def _of_config(folder: Path, config: dict[str, Any], where: str) -> list[Path]:
    below = _patterns(config.get("data_dir"), where)
    files = config.get("data_files")
    if files is None:
        return _by_name(_inside(folder, below[0], where), folder)
    entries = files if isinstance(files, list) else [files]
    splits: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry, dict) and "path" in entry:
            splits.setdefault(str(entry.get("split", "train")), []).extend(_patterns(entry["path"], where))
        elif isinstance(entry, dict):
            for name, value in entry.items():
                splits.setdefault(str(name), []).extend(_patterns(value, where))
        else:
            splits.setdefault("train", []).extend(_patterns(entry, where))
    base = _inside(folder, below[0], where) if below else folder
    return _one_split({name: _matching(base, patterns, where) for name, patterns in splits.items()}, folder)


def _settings(folder: Path) -> dict[str, Any]:
    """The YAML between the first two lines of dashes, {} without."""
    import yaml

    try:
        with (folder / "README.md").open("rb") as stream:
            text = stream.read(HEAD).decode("utf-8-sig", errors="replace")
    except OSError:
        return {}
    header = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    try:
        settings = yaml.safe_load(header[1]) if header else None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UsageError(
            str(folder / "README.md"), "YAML between the dashes", "a syntax error", REMEDY
        ) from None
    return settings if isinstance(settings, dict) else {}


def _patterns(value: object, where: str) -> list[str]:
    patterns = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise UsageError(where, "names of files", "a value that is no text", REMEDY)
    return [str(pattern) for pattern in patterns]


def _matching(folder: Path, patterns: list[str], where: str) -> list[Path]:
    files: list[Path] = []
    for pattern in patterns:
        _inside(folder, pattern, where)
        matched = folder.rglob("*") if pattern in ("**", ".", "./") else folder.glob(pattern)
        files += sorted(path for path in matched if path.is_file() and _is_data(path, folder))
    return list(dict.fromkeys(files))


def _inside(folder: Path, name: object, where: str) -> Path:
    """The path below the folder. Raises UsageError for a path elsewhere: nothing is fetched, and no other
    folder is read.
    """
    if isinstance(name, str) and "://" in name:
        raise UsageError(
            where,
            "files in the folder",
            "an address elsewhere, which is not fetched",
            "fetch the file and name it itself",
        )
    if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UsageError(where, "files in the folder", "a path outside of the folder", REMEDY)
    return folder / name
