"""ROS parameter files: what they give our nodes, and what in them can only be a mistake.

rcl ignores a parameter, a node or a namespace that it does not know; a robot then drives with the
defaults. Here the file is read before anything starts, and what is nearly one of our names is an
error with the nearest valid one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from v2w.bringup.ros_names import check_topic_name
from v2w.parameters import TABLES, TOPIC, Parameter
from v2w_core.errors import V2WError
from v2w_core.yaml_files import YAMLError, read_yaml

FIELD = "--params-file"
#: Parameters that every ROS node has; those of a group end with a dot.
EVERY_NODE = ("use_sim_time", "start_type_description_service", "qos_overrides.")
#: How near (difflib's ratio) a name must be to one of ours to be taken for a misspelling.
_NEAR = 0.85
_QOS = (
    "avoid_ros_namespace_conventions", "deadline", "depth", "durability", "history", "lifespan",
    "liveliness", "liveliness_lease_duration", "reliability",
)  # fmt: skip


def value_of(params_files: Sequence[Path], node: str, name: str, namespace: str = "") -> Any:
    """The value that ROS parameter files give a parameter of a node; None where they give none.

    Args:
        params_files: YAML files as ``--params-file`` takes them: ``ros__parameters`` below the name
            of a node, which may be nested in namespaces and have the wildcards * and **.
        node: name of the node, e.g. "planner_node".
        name: of the parameter.
        namespace: of the node; empty for none.

    Raises:
        V2WError: a file that is missing, or that is no YAML.
    """
    full, found = full_name(node, namespace), None
    for path in params_files:  # later files win
        for pattern, values in _sections(_read(path)):
            if name in values and _matches(pattern, full):
                found = values[name]
    return found


def names_checkpoint(params_files: Sequence[Path], node: str, namespace: str = "") -> bool:
    """Whether parameter files give a node a checkpoint that is not empty; as :func:`value_of`."""
    return bool(value_of(params_files, node, "checkpoint", namespace))


def check_params_files(
    params_files: Sequence[Path], nodes: Sequence[str], namespace: str = ""
) -> None:
    """Checks that what parameter files have for our nodes reaches them, and is valid.

    Args:
        params_files: as in :func:`value_of`.
        nodes: the nodes that are started.
        namespace: theirs; empty for none.

    Raises:
        V2WError: a file that is missing, no YAML, or without ``ros__parameters`` where they belong;
            a parameter that our node does not have or that is out of range; a node whose name is
            nearly one of ours; sections for a node of ours in other namespaces only.
    """
    for path in params_files:
        tree = _read(path)
        _check_tree(tree, path)
        sections = list(_sections(tree))
        for pattern, values in sections:
            _check_section(path, pattern, dict(_flat(values)), nodes, namespace)
        _check_reach(path, [pattern for pattern, _ in sections], nodes, namespace)


def _check_reach(path: Path, patterns: Sequence[str], nodes: Sequence[str], namespace: str) -> None:
    """Raises V2WError for sections with our nodes' names, or wildcards, that reach none of them."""
    names = {node: full_name(node, namespace) for node in nodes}
    reached = {n for n, full in names.items() if any(_matches(p, full) for p in patterns)}
    for node in nodes:
        meant = [p for p in patterns if p.rpartition("/")[2] == node]
        meant += [p for p in patterns if "*" in p.rpartition("/")[2] and not reached]
        if meant and node not in reached:
            rule = f"a section for {names[node]}, such as /**/{node}"
            raise V2WError(f"{FIELD} {path}", rule, ", ".join(meant))


def full_name(node: str, namespace: str) -> str:
    """The name of a node with its namespace."""
    return "/".join(("", *namespace.strip("/").split("/"), node)).replace("//", "/")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise V2WError(FIELD, "a file that exists", str(path))
    try:
        return read_yaml(path)
    except (YAMLError, OSError) as error:
        rule = f"YAML with ROS parameters, but {str(error).splitlines()[0]}"
        raise V2WError(FIELD, rule, str(path)) from error


def _sections(tree: Any, above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name of a node with its namespaces, its parameters) of a parameter file, in its order."""
    if not isinstance(tree, Mapping):
        return
    for key, below in tree.items():
        if key == "ros__parameters":
            if isinstance(below, Mapping):
                yield above or "/", below
        else:
            yield from _sections(below, f"{above}/{str(key).strip('/')}")


def _check_tree(tree: Any, path: Path, above: str = "") -> None:
    """Raises V2WError where a value does not lie below a node and its ``ros__parameters``."""
    if tree is None and not above:
        return
    field = f"{FIELD} {path}"
    if not isinstance(tree, Mapping):
        rule = "parameters below ros__parameters, below the name of a node"
        raise V2WError(field, rule, f"{above or 'the file'}: {tree!r:.40}")
    for key, below in tree.items():
        if key == "ros__parameters":
            if not above or not isinstance(below, Mapping | None):
                rule = "ros__parameters below the name of a node, with a mapping"
                raise V2WError(field, rule, f"{above or 'the file'}: {below!r:.40}")
        elif isinstance(key, str) and _near(key, ["ros__parameters"]):
            raise V2WError(field, "ros__parameters, with two underscores", f"{above}: {key}")
        else:
            _check_tree(below, path, f"{above}/{str(key).strip('/')}")


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of parameters; those of a nested mapping have its name and a dot before."""
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def _matches(pattern: str, name: str) -> bool:
    """Whether a node has the name of a parameter file: * is one part of it, ** any number."""
    expression = re.escape(pattern).replace(r"/\*\*", r"(/\w+)*").replace(r"\*", r"\w+")
    return re.fullmatch(expression, name) is not None


def _check_section(
    path: Path, pattern: str, values: Mapping[str, Any], nodes: Sequence[str], namespace: str
) -> None:
    last = pattern.rpartition("/")[2]
    where = f"{FIELD} {path}: {pattern}"
    if "*" in last:
        reached = [node for node in nodes if _matches(pattern, full_name(node, namespace))]
    elif last in TABLES:
        reached = [last]
    else:
        near = _near_node(last)
        if near:
            rule = f"{near}, or, for another node of this name, a file of its own"
            raise V2WError(where, rule, last)
        return
    tables = [{item.name: item for item in TABLES[node]} for node in reached]
    ours = {name for table in tables for name in table}
    for name, value in values.items():
        if "*" not in last or name in ours or _near_parameter(name, ours):
            _check_name(where, name, ours)
        for node, table in zip(reached, tables, strict=True):
            if name in table:
                _check_value(table[name], value, where, node, namespace)


def _check_name(where: str, name: str, ours: set[str]) -> None:
    """Raises V2WError unless a node has a parameter of this name."""
    if name in ours or name in EVERY_NODE:
        return
    if name.startswith("qos_overrides."):
        policy = name.rpartition(".")[2]
        if policy not in _QOS:
            rule = f"a policy: {_nearest(policy, _QOS)}"
            raise V2WError(f"{where}: {name}", rule, policy)
        return
    rule = f"a parameter of the node; the nearest is {_nearest(name, (*ours, *EVERY_NODE))}"
    raise V2WError(f"{where}: {name}", rule, name)


def _check_value(parameter: Parameter, value: Any, where: str, node: str, namespace: str) -> None:
    if isinstance(parameter.default, float) and isinstance(value, str):
        with suppress(ValueError):  # 1e3, a number for rcl, and a text in this version of YAML
            value = float(value)
    try:
        parameter.check(value)
        if parameter.kind == TOPIC:
            field = f"parameter {parameter.name}"
            check_topic_name(value, field, node=node, namespace=f"/{namespace.strip('/')}")
    except V2WError as error:
        raise V2WError(f"{where}: {error.field}", error.rule, error.value) from error


def _near_parameter(name: str, ours: set[str]) -> bool:
    """Whether a name can be a misspelling of a parameter of ours, or of every node."""
    groups = [item.rstrip(".") for item in EVERY_NODE]
    return name.partition(".")[0] in groups or bool(_near(name.partition(".")[0], (*ours, *groups)))


def _near_node(name: str) -> str | None:
    """Our node that a name can be a misspelling of; it may lack "node" and its underscores."""
    for node in TABLES:
        if _bare(name) in (_bare(node), _bare(node.removesuffix("_node"))):
            return node
    return _near(name, tuple(TABLES))


def _near(name: str, known: Sequence[str], cutoff: float = _NEAR) -> str | None:
    bare = {_bare(item): item for item in known}
    found = difflib.get_close_matches(_bare(name), bare, n=1, cutoff=cutoff)
    return bare[found[0]] if found else None


def _nearest(name: str, known: Sequence[str]) -> str:
    return _near(name, known, cutoff=0.0) or known[0]


def _bare(name: str) -> str:
    """A name without what is easily mistaken: capitals, underscores, hyphens."""
    return re.sub(r"[_\-. ]", "", name.lower())
