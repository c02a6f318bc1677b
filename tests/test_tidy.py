"""Hold the house style: layers, lengths, names, docstrings, and what may stand in a file."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import eventstore

TOP = Path(__file__).resolve().parent.parent
PACKAGE = TOP / "eventstore"
# Imports go from right to left only.
ORDER = [
    "errors",
    "notices",
    "progress",
    "problem",
    "tracing",
    "clock",
    "host",
    "digest",
    "printable",
    "go_json",
    "regular_file",
    "references",
    "events",
    "image_parts",
    "plain_config",
    "image",
    "config_words",
    "config_packing",
    "digest_set",
    "layers",
    "columns",
    "table",
    "states",
    "view",
    "decide",
    "undoing",
    "diff",
    "blame",
    "merkle",
    "ed25519",
    "notes",
    "proof_file",
    "codec",
    "record_lines",
    "docker_form",
    "oci_form",
    "store_files",
    "reader_slots",
    "gate",
    "lmdb_pages",
    "commit_numbers",
    "lmdb_transaction",
    "dropped",
    "lmdb_files",
    "lmdb_env",
    "lmdb_structure",
    "structure",
    "log",
    "hashes",
    "configs",
    "names",
    "meta",
    "scrubbing",
    "backup",
    "snapshot_headers",
    "snapshots",
    "batch",
    "turns",
    "verify",
    "restore",
    "replay",
    "compaction",
    "salvage",
    "past",
    "retained",
    "explaining",
    "reader",
    "name_reader",
    "manifest_reader",
    "story",
    "proofs",
    "exporting",
    "writer",
    "store_undo",
    "store_compaction",
    "store",
    "async_store",
    "importing",
    "signing",
    "audit",
    "tiles",
    "image_export",
    "sources",
    "sync",
    "adding",
    "watching",
    "page",
    "testing",
    "cli",
    "__main__",
]
PURE = {
    "errors",
    "digest",
    "printable",
    "go_json",
    "references",
    "events",
    "image_parts",
    "plain_config",
    "image",
    "config_words",
    "config_packing",
    "digest_set",
    "columns",
    "table",
    "states",
    "view",
    "decide",
    "undoing",
    "diff",
    "blame",
    "merkle",
    "ed25519",
    "notes",
    "proof_file",
}
IMPURE_MODULES = {"os", "io", "time", "threading", "socket", "pathlib", "random", "lmdb", "logging"}
CORE_DEPENDENCIES = {"msgspec", "lmdb"}
EXTRAS = {
    "archive_bytes.py": {"zstandard"},
    "docker_daemon.py": {"docker"},
    "ed25519.py": {"cryptography"},
    "server.py": {"starlette"},
    "testing.py": {"pytest"},
    "tracing.py": {"opentelemetry"},
    "watching.py": {"watchfiles"},
}
LMDB_MODULES = {"lmdb_env.py", "lmdb_files.py", "lmdb_structure.py", "lmdb_transaction.py"}
SHORTENED = {
    "seq",
    "idx",
    "evt",
    "rec",
    "img",
    "cfg",
    "msg",
    "mgr",
    "utils",
    "helpers",
    "tmp",
    "ctx",
}
FUNCTION_LINES_MAX, FILE_LINES_MAX, COLUMNS_MAX = 70, 600, 100


def sources(*folders: str) -> list[Path]:
    """Return the Python files of some top-level folders."""
    found = [path for folder in folders for path in sorted((TOP / folder).rglob("*.py"))]
    assert found
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"))


def part_of(path: Path) -> str:
    """Return the name of the module or folder of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Iterate over the full names of the modules that a file imports, wherever it does so."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "eventstore":
                yield from (f"eventstore.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_module_has_its_place_in_the_order() -> None:
    """A new module must say where it stands."""
    parts = {part_of(path) for path in sources("eventstore")} - {"__init__"}
    assert parts == set(ORDER)


@pytest.mark.parametrize("path", sources("eventstore"), ids=lambda path: path.name)
def test_imports_go_down_only(path: Path) -> None:
    """No module imports one that stands beside or above it, so there is no cycle."""
    if path == PACKAGE / "__init__.py":
        return
    rank = ORDER.index(part_of(path))
    for name in imports(path):
        if name.startswith("eventstore."):
            imported = name.split(".")[1]
            folder = imported == part_of(path) in ("cli", "page", "sources")
            assert ORDER.index(imported) < rank or folder


def test_pure_modules_know_no_disk_clock_or_lock() -> None:
    """The rules of the store can be tried in memory."""
    for part in sorted(PURE):
        found = {name.split(".")[0] for name in imports(PACKAGE / f"{part}.py")}
        assert not found & IMPURE_MODULES, part


def test_few_modules_know_lmdb_and_the_core_knows_no_extra() -> None:
    """The core runs with its two dependencies; few modules talk to the engine."""
    for path in sources("eventstore"):
        foreign = {
            name.split(".")[0]
            for name in imports(path)
            if name.split(".")[0] not in sys.stdlib_module_names | {"eventstore"}
        }
        if part_of(path) != "cli":
            assert foreign <= CORE_DEPENDENCIES | EXTRAS.get(path.name, set()), path
        assert "lmdb" not in foreign or path.name in LMDB_MODULES, path


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Iterate over all functions and methods of a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize(
    "path", sources("eventstore", "tests", "tools"), ids=lambda path: path.name
)
def test_files_and_functions_fit_on_a_screen(path: Path) -> None:
    """A function has at most 70 lines, a file 600, a line 100 columns."""
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= FILE_LINES_MAX
    assert [line for line in lines if len(line) > COLUMNS_MAX] == []
    for function in functions(path):
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        assert length <= FUNCTION_LINES_MAX, function.name


@pytest.mark.parametrize(
    "path", sources("eventstore", "tests", "tools"), ids=lambda path: path.name
)
def test_every_module_and_public_function_says_what_it_does(path: Path) -> None:
    """Modules, public classes, public functions and tests have docstrings."""
    assert ast.get_docstring(tree_of(path)), "the module"
    in_package = path.is_relative_to(PACKAGE)
    for node in public(tree_of(path)):
        if in_package or node.name.startswith("test_"):
            assert ast.get_docstring(node), node.name


def public(node: ast.Module | ast.ClassDef) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Iterate over public functions and classes, and what is public in those classes."""
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)


@pytest.mark.parametrize("path", sources("eventstore"), ids=lambda path: path.name)
def test_names_are_spelled_out(path: Path) -> None:
    """No name is one of the usual shortened ones."""
    for node in ast.walk(tree_of(path)):
        name = (
            getattr(node, "arg", None) or getattr(node, "id", None) or getattr(node, "name", None)
        )
        if isinstance(name, str):
            assert not SHORTENED & set(name.lower().split("_")), name


def test_no_file_leaves_work_or_this_machine_behind() -> None:
    """No unowned reminders, no absolute paths of a machine, no merge marks."""
    reminders = "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X"))
    unwanted = re.compile(rf"\b({reminders})\b|/home/\w|/Users/\w|^<{{7}}|^>{{7}}", re.MULTILINE)
    texts = [*sources("eventstore", "tests", "tools"), TOP / "README.md", TOP / "pyproject.toml"]
    for path in texts:
        assert unwanted.search(path.read_text("utf-8")) is None, path


def test_all_that_is_exported_exists_and_is_listed_in_order() -> None:
    """`__all__` holds every public name of the package, sorted, and nothing else."""
    assert list(eventstore.__all__) == sorted(eventstore.__all__)
    for name in eventstore.__all__:
        assert hasattr(eventstore, name)


def test_the_test_command_tests_the_wheel() -> None:
    """With `tools/test`, what is imported is what was built, not the checkout."""
    if os.environ.get("EVENTSTORE_TEST_WHEEL"):
        assert eventstore.__file__ is not None
        assert not Path(eventstore.__file__).resolve().is_relative_to(PACKAGE)
