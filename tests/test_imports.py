"""Folders and modules of a package import each other one way, at every depth: there is no circle.

Imports inside functions and under TYPE_CHECKING count: hidden, a circle is still one.
"""

import ast
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

Graph = dict[str, dict[str, str]]
"""What each folder or module imports, and where: a file with a line."""


def modules_of(package: Path) -> dict[str, Path]:
    """Return the files of a package by module; a folder's `__init__.py` by the folder's name."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[: -1 if file.stem == "__init__" else None])] = file
    return found


def imports(module: str, file: Path, modules: dict[str, Path]) -> Iterator[tuple[str, int]]:
    """Yield the modules of its own package that a module imports, with the line."""
    outside = module.split(".")[: None if file.stem == "__init__" else -1]
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = outside[: len(outside) - node.level + 1] if node.level else []
            path = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{path}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in modules:  # what a module defines
                name = name.rpartition(".")[0]
            if name:
                yield name, node.lineno


def graphs(package: Path) -> dict[str, Graph]:
    """Return a graph for each folder: its folders and modules, and `__init__`, with their imports
    of each other.
    """
    modules = modules_of(package)
    found: dict[str, Graph] = {}
    for module, file in modules.items():
        is_folder = file.stem == "__init__"
        where = [*module.split("."), *["__init__"] * is_folder]
        for depth in range(1, len(where)):
            found.setdefault(".".join(where[:depth]), {}).setdefault(where[depth], {})
        for other, line in imports(module, file, modules):
            to = [*other.split("."), *["__init__"] * (modules[other].stem == "__init__")]
            depth = next((n for n, (a, b) in enumerate(zip(where, to, strict=False)) if a != b), 0)
            if depth:
                graph = found.setdefault(".".join(where[:depth]), {})
                at = f"{file.relative_to(package.parent)}:{line}"
                graph.setdefault(where[depth], {}).setdefault(to[depth], at)
    return found


def way_back(graph: Graph, start: str) -> list[str]:
    """Return the shortest way from a folder or module to itself, empty if there is none."""
    ways = deque([[start]])
    seen: set[str] = set()
    while ways:
        way = ways.popleft()
        for other in sorted(graph.get(way[-1], {})):
            if other == start:
                return [*way, start]
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def circles(package: Path) -> list[str]:
    """Return the shortest circle of each folder that has one, in words."""
    found = []
    for folder, graph in graphs(package).items():
        ways = [way for start in sorted(graph) if (way := way_back(graph, start))]
        if ways:
            way = min(ways, key=len)
            steps = (f"{b} ({graph[a][b]})" for a, b in pairwise(way))
            found.append(f"{folder}: {' -> '.join([way[0], *steps])}")
    return found


@pytest.mark.parametrize("package", ["hw/loopnest_hw", "sim/loopnest_sim", "sw/loopnest"])
def test_no_circle(package: str) -> None:
    assert len(modules_of(ROOT / package)) > 20
    assert circles(ROOT / package) == []


@pytest.mark.parametrize(
    "text",
    [
        "from ..top import thing",
        "from .. import top",
        "import p.top",
        "from p import top as other",
        "from p.top import thing",
        "def late():\n    from ..top import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..top import thing",
    ],
)
def test_every_import_counts(tmp_path: Path, text: str) -> None:
    package = tmp_path / "p"
    for folder in ("a", "b"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").touch()
    (package / "__init__.py").write_text("from .top import thing\n")
    (package / "top.py").write_text("import os\n\nfrom .b.one import thing\n")
    (package / "b/one.py").write_text("from ..a.two import thing\nfrom . import three\n")
    (package / "b/three.py").write_text("from ..a import two\n")
    (package / "a/two.py").write_text("from os import path\n")
    assert circles(package) == []
    (package / "a/other.py").write_text(text)
    line = 1 + text.count("\n")
    assert circles(package) == [
        f"p: a -> top (p/a/other.py:{line}) -> b (p/top.py:3) -> a (p/b/one.py:1)"
    ]


def test_folders_within_a_folder(tmp_path: Path) -> None:
    package = tmp_path / "p"
    (package / "a/deep").mkdir(parents=True)
    for folder in (".", "a", "a/deep"):
        (package / folder / "__init__.py").touch()
    (package / "a/one.py").write_text("from .deep.two import thing\n")
    (package / "a/deep/two.py").write_text("")
    (package / "a/four.py").write_text("")
    (package / "a/deep/three.py").write_text("from ..four import thing\n")
    assert circles(package) == []
    (package / "a/deep/three.py").write_text("from ..one import thing\n")
    assert circles(package) == ["p.a: deep -> one (p/a/deep/three.py:1) -> deep (p/a/one.py:1)"]
    # what a folder defines is in its `__init__`
    (package / "a/deep/three.py").write_text("from .. import thing\n")
    assert circles(package) == []
    (package / "a/__init__.py").write_text("from .deep.two import thing\n")
    (way,) = circles(package)
    assert way.startswith("p.a: __init__ -> deep")
