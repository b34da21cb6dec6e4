"""Which file imports which, in every reading of the word, and the circles among them.

An import counts at the top of a module, inside a function or class, for type checkers only, and by
name: a string "package.module" or "package.module:attribute" that names one of the modules (also as
an argument of ``import_module``), an f-string that begins with a package (f"package.{name}"), and
the entry points of pyproject.toml, which are imports of the module that names their group.
Importing a package means its ``__init__.py``; that an import of ``package.module`` runs
``package/__init__.py`` too is not counted.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # comes with pytest there
    import tomli as tomllib

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_][\w.]*)?")


@dataclass(frozen=True)
class Import:
    """That one module imports another: where it says so, and in which reading."""

    target: str
    line: int
    reading: str


@dataclass(frozen=True)
class Graph:
    """Modules by dotted name: their files, and what each imports."""

    files: Mapping[str, Path]
    imports: Mapping[str, tuple[Import, ...]]

    @classmethod
    def read(cls, packages: Iterable[Path], pyproject: Path | None = None) -> Graph:
        """All modules of these folders; each is a package under its own name."""
        files = {name: path for package in packages for name, path in modules_of(package)}
        groups: dict[str, list[str]] = {}
        if pyproject is not None:
            project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
            for group, entries in project.get("entry-points", {}).items():
                groups[group] = [value.partition(":")[0] for value in entries.values()]
        imports = {}
        for name, path in files.items():
            reader = Reader(name, path.name == "__init__.py", files, groups)
            reader.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
            imports[name] = tuple(found for found in reader.found if found.target in files)
        return cls(files, imports)

    def circles(self) -> list[tuple[set[str], list[str]]]:
        """Every knot of modules that all import each other, and its shortest circle."""
        knots = [knot for knot in self._components() if len(knot) > 1 or self._loops(*knot)]
        return [(knot, min((self._back_to(m, knot) for m in sorted(knot)), key=len))
                for knot in sorted(knots, key=lambda knot: (len(knot), sorted(knot)))]  # fmt: skip

    def describe(self, chain: list[str]) -> str:
        """One line a module of the chain, which ends where it begins: what it imports, and how."""
        rows = []
        for name, target in itertools.pairwise(chain):
            how = next(item for item in self.imports[name] if item.target == target)
            rows.append(f"  {name}, line {how.line}, {how.reading}, imports")
        return "\n".join([*rows, f"  {chain[-1]}"])

    def _loops(self, name: str) -> bool:
        return any(item.target == name for item in self.imports[name])

    def _targets(self, name: str) -> list[str]:
        return sorted({item.target for item in self.imports[name]})

    def _back_to(self, start: str, within: set[str]) -> list[str]:
        """The shortest way from a module back to itself."""
        before: dict[str, str] = {}
        todo = deque([start])
        while todo:
            name = todo.popleft()
            for target in self._targets(name):
                if target == start:
                    way = [start, name]
                    while way[-1] != start:
                        way.append(before[way[-1]])
                    return way[::-1]
                if target in within and target not in before:
                    before[target] = name
                    todo.append(target)
        raise AssertionError(f"{start} is in no circle")

    def _components(self) -> list[set[str]]:
        """Tarjan's strongly connected components."""
        number: dict[str, int] = {}
        lowest: dict[str, int] = {}
        stack: list[str] = []
        found: list[set[str]] = []

        def visit(name: str) -> None:
            number[name] = lowest[name] = len(number)
            stack.append(name)
            for target in self._targets(name):
                if target not in number:
                    visit(target)
                if target in stack:
                    lowest[name] = min(lowest[name], lowest[target])
            if lowest[name] == number[name]:
                at = stack.index(name)
                found.append(set(stack[at:]))
                del stack[at:]

        for name in self.files:
            if name not in number:
                visit(name)
        return found


def modules_of(package: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


class Reader(ast.NodeVisitor):
    """Collects what one module imports."""

    def __init__(
        self, name: str, is_package: bool, known: Mapping[str, Any], groups: dict[str, list[str]]
    ) -> None:
        self.package = name if is_package else name.rpartition(".")[0]
        self.known, self.groups = known, groups
        self.found: list[Import] = []
        self.readings = ["at the top"]

    def add(self, target: str, node: ast.AST, reading: str = "") -> None:
        self.found.append(Import(target, getattr(node, "lineno", 0), reading or self.readings[-1]))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        for alias in node.names:
            inside = f"{base}.{alias.name}"
            self.add(inside if inside in self.known else base, node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if not isinstance(value, str) or not NAME.fullmatch(value):
            return
        module, _, attribute = value.partition(":")
        if "." in module or attribute:
            self.add(module, node, "by name")
        for target in self.groups.get(value, ()):
            self.add(target, node, "as an entry point")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """f"package.folder.{name}" may be any module of that folder."""
        first = node.values[0] if node.values else None
        if isinstance(first, ast.Constant) and str(first.value).endswith("."):
            folder = str(first.value)
            for target in self.known:
                if target.startswith(folder) and "." not in target.removeprefix(folder):
                    self.add(target, node, "by name")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else None
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in ("import_module", "__import__") and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                dots = len(first.value) - len(first.value.lstrip("."))
                above = self.package.split(".")[: len(self.package.split(".")) - dots + 1]
                base = [".".join(above)] if dots else []
                self.add(".".join([*base, first.value.lstrip(".")]), node, "by name")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._inside("inside a function", node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)
            return
        self._inside("for type checkers", *node.body)
        for statement in node.orelse:
            self.visit(statement)

    def _inside(self, reading: str, *nodes: ast.AST) -> None:
        self.readings.append(reading)
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.generic_visit(node)
            else:
                self.visit(node)
        self.readings.pop()
