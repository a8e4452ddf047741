"""Imports run one way: dynamics -> calculators -> core, and no two parts of the core need each
other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "hff_ase": ROOT / "hff_ase",
    "hff_ase.calculators": ROOT / "calculators",
    "hff_ase.dynamics": ROOT / "dynamics",
}
ABOVE = ("hff_ase.cli", "hff_ase.bench", "hff_ase.__main__")  # see everything
Graph = dict[str, set[str]]


@cache
def modules() -> dict[str, Path]:
    found = {}
    for room, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if room == "hff_ase" and parts[0] in ("calculators", "dynamics"):
                continue  # links to the other rooms
            name = ".".join((room, *parts))
            found[name.removesuffix(".__init__")] = path
    return found


def imports(tree: ast.AST, inside_functions: bool) -> Iterator[str]:
    """Names of what is imported, those for type checkers left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imports(node, inside_functions)


def graph(inside_functions: bool) -> Graph:
    """Which modules each module imports, the most precise name of each only."""
    known = modules()
    found: Graph = {}
    for name, path in known.items():
        named = {n for n in imports(ast.parse(path.read_text()), inside_functions) if n in known}
        found[name] = {n for n in named if not any(m.startswith(f"{n}.") for m in named)} - {name}
    return found


def room(module: str) -> str:
    """The part of the core that a module belongs to: its package, or the module itself."""
    return ".".join(module.split(".")[:2])


def cycle_in(edges: Graph) -> list[str]:
    """Modules that import each other around, empty if there are none."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := visit(name, []))), [])


def test_no_module_imports_itself_through_others() -> None:
    assert cycle_in(graph(inside_functions=False)) == []


def test_no_two_parts_of_the_core_import_each_other() -> None:
    edges = graph(inside_functions=False)
    pairs = {(room(a), room(b)): (a, b) for a, others in edges.items() for b in others}
    core = {p: m for p, m in pairs.items() if p[0] != p[1]}
    assert [m for (a, b), m in core.items() if (b, a) in core] == []


@pytest.mark.parametrize("inside_functions", [False, True])
def test_lower_rooms_do_not_know_upper_ones(inside_functions: bool) -> None:
    for name, others in graph(inside_functions).items():
        if name.startswith(ABOVE) or name == "hff_ase":
            continue
        forbidden: tuple[str, ...] = ABOVE[:1]
        if not name.startswith("hff_ase.dynamics"):
            forbidden += ("hff_ase.dynamics",)
        if not name.startswith(("hff_ase.dynamics", "hff_ase.calculators")):
            forbidden += ("hff_ase.calculators", "hff_ase.bench")
        assert [other for other in others if other.startswith(forbidden)] == [], name


SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "examples", "models")
    for path in (ROOT / folder).rglob("*.py")
)


@cache
def names_in(path: Path) -> set[str]:
    """What a module defines or imports at its top level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update((alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_import_what_there_is(script: Path) -> None:
    known = modules()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hff_ase":
            assert node.module in known, node.module
            if node.module == "hff_ase":
                continue  # names come late, by __getattr__
            defined = names_in(known[node.module])
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}" in known
                assert submodule or alias.name in defined, f"{node.module}.{alias.name}"
