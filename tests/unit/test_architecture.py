"""No file imports itself by way of others, whichever way an import is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from import_graph import Graph

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [ROOT / "v2w_core", ROOT / "planners", ROOT / "training", ROOT / "ros2_ws/src/v2w/v2w"]


def report(graph: Graph) -> str:
    """One paragraph a knot of modules."""
    return "\n\n".join(
        f"{len(knot)} modules import each other ({', '.join(sorted(knot))}); the shortest circle:\n"
        f"{graph.describe(chain)}"
        for knot, chain in graph.circles()
    )


def test_no_import_goes_in_a_circle() -> None:
    graph = Graph.read(PACKAGES, ROOT / "pyproject.toml")
    assert len(graph.files) > 200  # it did read them
    found = report(graph)
    if found:
        pytest.fail(found, pytrace=False)


def tree(root: Path, files: dict[str, str]) -> Graph:
    """A package named toys with these files, and perhaps a pyproject.toml beside it."""
    for name, text in {"toys/__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    pyproject = root / "pyproject.toml"
    return Graph.read([root / "toys"], pyproject if pyproject.exists() else None)


BACK = {"toys/b.py": "from toys.c import thing\n", "toys/c.py": "import toys.a\n"}
READINGS = {
    "at the top": "from toys import b\n",
    "inside a function": "def late():\n    from toys.b import thing\n",
    "for type checkers": "if TYPE_CHECKING:\n    from .b import Thing\n",
    "by name": "KINDS = {'fast': 'toys.b:Fast'}\n",
}


@pytest.mark.parametrize("reading", READINGS)
def test_every_reading_of_import_counts(tmp_path: Path, reading: str) -> None:
    graph = tree(tmp_path, {"toys/a.py": READINGS[reading], **BACK})
    ((knot, _),) = graph.circles()
    assert knot == {"toys.a", "toys.b", "toys.c"}
    line = READINGS[reading].count("\n")
    assert graph.describe(["toys.a", "toys.b", "toys.c", "toys.a"]).splitlines() == [
        f"  toys.a, line {line}, {reading}, imports",
        "  toys.b, line 1, at the top, imports",
        "  toys.c, line 1, at the top, imports",
        "  toys.a",
    ]
    assert "3 modules import each other (toys.a, toys.b, toys.c)" in report(graph)


@pytest.mark.parametrize(
    "text",
    [
        "import_module('toys.b')\n",
        "importlib.import_module('.b', __package__)\n",
        "class Late:\n    async def load(self):\n        from . import b\n",
        "if typing.TYPE_CHECKING:\n    pass\nelse:\n    import toys.b as other\n",
        "try:\n    import toys.b\nexcept ImportError:\n    pass\n",
        "MODULES = ['toys.b']\n",
        "def load(name):\n    return f'toys.{name}'\n",
    ],
)
def test_other_ways_to_write_them(tmp_path: Path, text: str) -> None:
    assert len(tree(tmp_path, {"toys/a.py": text, **BACK}).circles()) == 1


def test_entry_points_are_imports_of_who_names_the_group(tmp_path: Path) -> None:
    project = '[project.entry-points."toys.commands"]\nrun = "toys.b:main"\n'
    files = {"pyproject.toml": project, "toys/a.py": "GROUP = 'toys.commands'\n", **BACK}
    graph = tree(tmp_path, files)
    ((_, chain),) = graph.circles()
    assert "as an entry point" in graph.describe(chain)


def test_the_shortest_circle_of_each_knot_and_a_module_that_imports_itself(tmp_path: Path) -> None:
    files = {
        "toys/a.py": "import toys.b\n",
        "toys/b.py": "import toys.c, toys.a\n",
        "toys/c.py": "import toys.a\n",
        "toys/sub/__init__.py": "from toys.sub.part import x\n",
        "toys/sub/part.py": "from toys.sub import y\n",
        "toys/own.py": "import toys.own\n",
    }
    chains = [chain for _, chain in tree(tmp_path, files).circles()]
    assert chains == [
        ["toys.own", "toys.own"],
        ["toys.sub", "toys.sub.part", "toys.sub"],
        ["toys.a", "toys.b", "toys.a"],
    ]


def test_what_is_no_circle(tmp_path: Path) -> None:
    files = {
        "toys/a.py": "import toys.b\nfrom toys.sub import part\n",
        "toys/b.py": '"""Not toys.a, in words."""\nimport os\nlog = getLogger("toys")\n',
        "toys/sub/__init__.py": "from toys.sub.part import x\n",
        "toys/sub/part.py": "import toys.b\nTITLE = 'a'\n",
    }
    assert tree(tmp_path, files).circles() == []
