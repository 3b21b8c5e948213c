"""Imports go downward only, nothing heavy loads before it is needed, and few modules may touch weights or
secrets.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import dpaudit
from dpaudit import content

PACKAGE = Path(dpaudit.__file__).parent
# lowest first; a room imports itself and those named, all lower; a module that stands alone is a room of its
# own
ROOMS = {
    "terminal": "",
    "errors": "terminal",
    "strict_yaml": "errors",
    "content": "errors strict_yaml",
    "schema": "errors",
    "system": "errors terminal",
    "storage": "errors content schema",
    "stats": "",
    "data": "errors system",
    "privacy": "errors system storage stats",
    "machines": "errors system storage",
    "suite": "errors content schema strict_yaml storage data privacy",
    "findings": "errors schema storage privacy",
    "signals": "errors content schema stats data suite",
    "judging": "errors content schema stats data suite findings",
    "planting": "errors schema storage stats data signals",
    "page": "content terminal findings",
    "evidence": "errors stats data privacy suite findings signals",
    "models": "errors system storage data privacy suite findings signals planting judging",
    "training": "errors storage data privacy suite models",
    "callback": "storage",
    "observing": "errors schema storage privacy findings training",
    "stages.integrity": "errors storage privacy suite signals models",
    "stages.prepare": "errors system storage stats data privacy suite signals judging evidence models "
    "training stages.integrity",
    "stages.train": "errors system storage data privacy machines suite models training stages.integrity "
    "stages.prepare",
    "stages.attack": "errors system storage data privacy machines suite signals models training "
    "stages.integrity stages.prepare stages.train",
    "stages.audit": "errors schema system storage stats data privacy suite findings signals evidence "
    "stages.integrity stages.prepare stages.attack",
    "stages": "errors schema terminal content system storage stats data privacy suite findings signals "
    "judging planting page evidence models observing stages.integrity stages.attack stages.audit",
    "pipeline": "errors schema content strict_yaml system storage stats data privacy machines suite findings "
    "signals judging planting evidence models training stages.integrity stages.prepare stages.train "
    "stages.attack stages.audit stages",
    "bounds": "stats findings evidence",
    "api": "terminal errors system storage privacy suite findings evidence models stages pipeline",
    "commands": "terminal errors schema content system storage stats privacy machines suite findings signals "
    "judging planting page evidence training stages.integrity stages.prepare stages.train stages.audit "
    "stages pipeline",
    "cli": "terminal errors system training commands",
    "__main__": "cli",
}
HEAVY = {"torch", "transformers", "peft", "lm_eval", "sklearn", "datasets", "trl", "accelerate", "opacus"}
COMMAND_LINE_NEVER = HEAVY | {"scipy", "numpy", "pyarrow", "dp_accounting", "pandas", "jinja2"}
STAGES = (
    "prepare.prepare",
    "train.train",
    "attack.attack",
    "audit.audit",
    "evaluate",
    "judge",
    "report",
    "train.merge",
    "verify",
)


def modules() -> dict[str, Path]:
    """Name below `dpaudit` -> file."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = file
    return found


MODULES = modules()


def room(name: str) -> str:
    """The room that a module is in: the longest part of its name that is one."""
    while name not in ROOMS:
        assert "." in name, f"dpaudit/{name}.py is in no room: add it to ROOMS and to ARCHITECTURE.md"
        name = name.rpartition(".")[0]
    return name


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, as an absolute name; `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(name: str) -> str | None:
    """The module of this package that an import names, if any."""
    if name != "dpaudit" and not name.startswith("dpaudit."):
        return None
    name = name.removeprefix("dpaudit").lstrip(".")
    return name if name in MODULES else name.rpartition(".")[0]


def module_level(tree: ast.Module) -> ast.Module:
    """The statements that run on import: bodies of functions and of `if TYPE_CHECKING` are left out."""
    kept = [n for n in tree.body if not isinstance(n, ast.FunctionDef | ast.ClassDef)]
    kept = [n for n in kept if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return ast.Module(body=kept, type_ignores=[])


def test_rooms_import_lower_ones_alone() -> None:
    order = list(ROOMS)
    for name, lower in ROOMS.items():
        assert all(order.index(other) < order.index(name) for other in lower.split()), name


@pytest.mark.parametrize("name", [n for n in MODULES if n not in ("", "builtin")])
def test_a_room_imports_what_is_on_its_list(name: str) -> None:
    for imported in imports(parsed(MODULES[name])):
        target = own(imported)
        if target:
            assert room(target) in (room(name), *ROOMS[room(name)].split()), f"{name} imports {target}"


def test_what_is_on_a_rooms_list_is_imported() -> None:
    """Else a list grows, and with it what a room may come to depend on."""
    used: dict[str, set[str]] = {name: set() for name in ROOMS}
    for name, file in MODULES.items():
        if name not in ("", "builtin"):
            targets = {own(imported) for imported in imports(parsed(file))}
            used[room(name)] |= {room(target) for target in targets if target}
    for name, lower in ROOMS.items():
        assert used[name] - {name} == set(lower.split()), name


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_a_rooms_first_file_is_a_docstring(file: Path) -> None:
    tree = parsed(file)
    if file.parent != PACKAGE:
        assert len(tree.body) == 1 and ast.get_docstring(tree)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_is_at_most_400_lines_and_a_function_50(name: str) -> None:
    text = MODULES[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(parsed(MODULES[name])):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None and node.end_lineno - node.lineno < 50, node.name


def test_no_import_cycle() -> None:
    graph = {}
    for name, file in MODULES.items():
        tree = parsed(file)
        graph[name] = {own(imported) for imported in imports(tree)} - {None, "", name}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in MODULES
        if n and n.split(".")[0] not in ("models", "training", "callback", "observing", "builtin")
    ],
)
def test_nothing_heavy_at_module_level(name: str) -> None:
    tree = module_level(parsed(MODULES[name]))
    assert not {imported.split(".")[0] for imported in imports(tree)} & HEAVY


@pytest.mark.parametrize("name", [n for n in MODULES if n.split(".")[0] == "stats"])
def test_stats_has_no_torch(name: str) -> None:
    tree = parsed(MODULES[name])
    assert {imported.split(".")[0] for imported in imports(tree)}.isdisjoint(HEAVY)


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_command_line_loads_nothing_heavy() -> None:
    assert loaded_by("import dpaudit.cli").isdisjoint(COMMAND_LINE_NEVER)


def test_stages_load_nothing_heavy() -> None:
    names = ", ".join(f"dpaudit.stages.{stage}" for stage in STAGES)
    assert loaded_by(f"import {names}").isdisjoint(HEAVY)


def test_no_module_bears_the_name_of_a_content_folder() -> None:
    assert not {part for name in MODULES for part in name.split(".")} & set(content.FOLDERS)


def users_of(*words: str) -> set[str]:
    """The modules whose code (not its docstrings) names one of the words as a name, attribute or import."""
    found = set()
    for name, file in MODULES.items():
        for node in ast.walk(parsed(file)):
            used = getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "name", None)
            if set(used) & set(words):
                found.add(name)
    return found


def test_only_models_opens_weights() -> None:
    opening = users_of("from_pretrained", "load_file", "safe_open", "from_config")
    own = {
        "training.pretrain",
        "stages.train.checkpoints",
    }  # what they made themselves: training states, a new model
    assert {name.split(".")[0] for name in opening - own} == {"models"}
    assert not users_of("torch_load", "unsafe_load", "pickle")


def test_only_prepare_train_and_the_audits_read_what_is_secret() -> None:
    allowed = {
        "storage.rundir",
        "stages.prepare.prepare",
        "stages.prepare.candidates",
        "stages.train.training_set",
        "stages.train.arm",
        "stages.train.checkpoints",
        "stages.audit.members",
        "stages.audit.extracted",
        "stages.audit.baselines",
        "stages.audit.inside",
    }
    assert users_of("secret_file", "load_membership", "load_training") == allowed
    assert users_of("load_training") == {"stages.prepare.candidates", "stages.train.training_set"}
