"""No import circle in the ROS package, however one counts imports, and no rclpy in decisions."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import v2w

ROOT = Path(v2w.__file__).parent
#: Folders whose modules decide things, away from the ROS client library.
NO_RCLPY = ("navigation", "inference", "messages", "bringup")
FILES = sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def modules_of(text: str) -> set[str]:
    """Modules of the package that a text names: v2w.nodes.planner_node:main, v2w.nodes.{node}."""
    if text.startswith("v2w.") and text.endswith("."):  # of an f-string: any module in there
        return {name for name in MODULES if name.startswith(text)}
    found = re.findall(r"v2w(?:\\.\\w+)+", text)
    return {".".join(n.split(".")[:k]) for n in found for k in (2, 3, 4)} & set(MODULES)


def imports_of(path: Path) -> set[str]:
    """Whatever a file imports at any level, for type checkers, and by name in a string."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            module = str(node.module)
            inner = {f"{module}.{alias.name}" for alias in node.names}
            found |= (inner & set(MODULES)) or {module}
        elif isinstance(node, ast.Constant) and id(node) not in documentation:
            found |= modules_of(str(node.value))
    return found


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def test_the_package_has_no_import_circle() -> None:
    graph = {name: found & set(MODULES) - {name} for name, found in IMPORTS.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_processes_are_seen_as_imports() -> None:
    assert "v2w.nodes.planner_node" in IMPORTS["v2w.bringup.node_processes"]


@pytest.mark.parametrize("folder", NO_RCLPY)
def test_decisions_know_no_ros_client_library(folder: str) -> None:
    names = [name for name in MODULES if name.startswith(f"v2w.{folder}.")]
    assert names
    for name in names:
        found = {module for module in IMPORTS[name] if module.split(".")[0] == "rclpy"}
        assert not found, f"{name} imports {found}"
        assert not {module for module in IMPORTS[name] if module.startswith("v2w.nodes")} or (
            name == "v2w.bringup.node_processes"
        ), f"{name} imports a node"
