"""Imports go downward only, nothing heavy loads before it is needed, and few modules may touch weights or secrets."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dpaudit
from dpaudit import content

PACKAGE = Path(dpaudit.__file__).parent
LAYERS = [  # lowest first; a module is found by its longest name here
    {"errors", "schema", "content", "custody", "rundir", "corpus", "corpus_store", "reading", "rows", "folders", "shapes", "messages", "identity", "suite", "declarations", "record_chain", "canary", "progress", "parallel", "formats", "svg",
     "terminal", "faults", "strict_yaml", "libraries", "egress", "disk", "lock", "interrupts",
     "builtin", "builtin.clinic", "builtin.lexicon", ""},
    {"stats", "signals", "shadow", "combination", "pii", "near_duplicates", "extraction", "blind", "verdict", "privacy", "rubric", "recipe", "quality", "judging",
     "figures", "page", "ledger", "accounting", "bounds", "subsampled", "planning", "control", "whitebox", "claims", "detection",
     "audit_key", "disguise", "planting", "rarity", "choices"},
    {"models", "training", "builtin.pretrain", "callback"},
    {"stages"},
    {"pipeline", "later", "overview", "tables", "doctor", "selftest"},
    {"cli", "options", "__main__"},
]  # fmt: skip
HEAVY = {"torch", "transformers", "peft", "lm_eval", "sklearn", "datasets", "trl", "accelerate", "opacus"}
COMMAND_LINE_NEVER = HEAVY | {"scipy", "numpy", "pyarrow", "dp_accounting", "pandas", "jinja2"}
STAGES = ("prepare", "train", "attack", "audit", "evaluate", "judge", "report", "merge", "verify")


def modules() -> dict[str, Path]:
    """Name below `dpaudit` -> file."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix("__init__").rstrip(".")] = file
    return found


MODULES = modules()


def layer(name: str) -> int:
    while True:
        for number, names in enumerate(LAYERS):
            if name in names:
                return number
        if "." not in name:
            raise AssertionError(f"dpaudit/{name}.py is in no layer: add it to LAYERS and to ARCHITECTURE.md")
        name = name.rpartition(".")[0]


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


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downward(name: str) -> None:
    for imported in imports(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        target = own(imported)
        if target is not None:
            assert layer(target) <= layer(name), f"{name} imports {target}, which is above it"


def test_no_import_cycle() -> None:
    graph = {}
    for name, file in MODULES.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        graph[name] = {own(imported) for imported in imports(tree)} - {None, "", name}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", [n for n in MODULES if layer(n) != layer("models")])
def test_nothing_heavy_at_module_level(name: str) -> None:
    tree = module_level(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    assert not {imported.split(".")[0] for imported in imports(tree)} & HEAVY


@pytest.mark.parametrize("name", [n for n in MODULES if n.split(".")[0] == "stats"])
def test_stats_has_no_torch(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
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
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            used = getattr(node, "attr", None), getattr(node, "id", None), getattr(node, "name", None)
            if set(used) & set(words):
                found.add(name)
    return found


def test_only_models_opens_weights() -> None:
    opening = users_of("from_pretrained", "load_file", "safe_open", "from_config")
    own = {
        "builtin.pretrain",
        "stages.checkpoints",
    }  # what they made themselves: training states, a new model
    assert {name.split(".")[0] for name in opening - own} == {"models"}
    assert not users_of("torch_load", "unsafe_load", "pickle")


def test_only_prepare_train_and_the_audits_read_what_is_secret() -> None:
    allowed = {
        "rundir",
        "stages.prepare",
        "stages.train",
        "stages.checkpoints",
        "stages.audit",
        "stages.extracted",
        "stages.baselines",
        "stages.inside",
    }
    assert users_of("secret_file", "load_membership", "load_training") == allowed
    assert users_of("load_training") == {"stages.prepare", "stages.train"}
