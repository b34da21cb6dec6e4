"""Which processes make the graph, and with which parameters: for `v2w up`, the demo and launch."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from v2w.bringup.ros_environment import config_folder
from v2w.parameters import TABLES, Parameter, check_all
from v2w_core.errors import V2WError

Overrides = Mapping[str, Mapping[str, Any]]
#: The nodes in the order in which they are started; each is the module ``v2w.nodes.<name>``.
NODES = ("simulator_node", "world_model_node", "planner_node")
MODEL_NODES = ("world_model_node", "planner_node")


def overrides_from(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Parameters by node from the command line of ``v2w up``.

    A model node for which neither the command line nor a parameter file names a checkpoint gets the
    shipped one.

    Raises:
        V2WError: a parameter file that is missing or no YAML.
        CheckpointError: no checkpoint was named and none ships.
    """
    shared = {"image_topic": args.image_topic, "odom_topic": args.odom_topic}
    names = ("device", "backend", "precision", "memory_budget_mib")
    model = shared | {name: getattr(args, name) for name in names}
    model["strict_backend"] = args.strict_backend or None
    tables = {"simulator_node": shared}
    for node in MODEL_NODES:
        tables[node] = model | {"checkpoint": _checkpoint(args, node)}
    common = {"use_sim_time": True} if args.use_sim_time else {}
    return {
        node: {name: value for name, value in table.items() if value is not None} | common
        for node, table in tables.items()
    }


def _checkpoint(args: argparse.Namespace, node: str) -> str | None:
    """The checkpoint that a node is started with; None where something else names one."""
    path = args.checkpoint
    if path is None:
        set_there = any(item.partition("=")[0] == f"{node}.checkpoint" for item in args.settings)
        if set_there or names_checkpoint(args.params_file, node, args.namespace):
            return None
        from v2w_core.checkpoint import default_checkpoint

        path = default_checkpoint()
    return str(path.expanduser().resolve())


def names_checkpoint(params_files: Sequence[Path], node: str, namespace: str = "") -> bool:
    """Whether ROS parameter files give a node a checkpoint that is not empty.

    Args:
        params_files: YAML files as ``--params-file`` takes them: ``ros__parameters`` below the name
            of a node, which may be nested in namespaces and have the wildcards * and **.
        node: name of the node, e.g. "planner_node".
        namespace: its namespace; empty for none.

    Raises:
        V2WError: a file that is missing, or that is no YAML.
    """
    name = "/".join(("", *namespace.strip("/").split("/"), node)).replace("//", "/")
    found = False
    for path in params_files:  # later files win
        for pattern, values in _parameters_of(_read_yaml(path)):
            if "checkpoint" in values and _matches(pattern, name):
                found = bool(values["checkpoint"])
    return found


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise V2WError("--params-file", "a file that exists", str(path))
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        rule = f"YAML with ROS parameters, but {str(error).splitlines()[0]}"
        raise V2WError("--params-file", rule, str(path)) from error


def _parameters_of(tree: Any, above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name of a node with its namespaces, its parameters) of a parameter file, in its order."""
    if not isinstance(tree, Mapping):
        return
    for key, below in tree.items():
        if key == "ros__parameters":
            if isinstance(below, Mapping):
                yield above or "/", below
        else:
            yield from _parameters_of(below, f"{above}/{str(key).strip('/')}")


def _matches(pattern: str, name: str) -> bool:
    """Whether a node has the name of a parameter file: * is one part of it, ** any number."""
    expression = re.escape(pattern).replace(r"/\*\*", r"(/\w+)*").replace(r"\*", r"\w+")
    return re.fullmatch(expression, name) is not None


def commands(
    names: Sequence[str],
    *,
    params_files: Sequence[Path] = (),
    settings: Sequence[str] = (),
    overrides: Overrides | None = None,
    namespace: str = "",
) -> dict[str, list[str]]:
    """Command line of each node, by its name.

    A later source of parameters wins: the package's YAML, params_files, overrides, settings.

    Args:
        names: of the nodes.
        params_files: ROS parameter files.
        settings: "NODE.NAME=VALUE", with the value in YAML.
        overrides: parameter values by node and name.
        namespace: of all nodes; empty for none.

    Raises:
        V2WError: a file that is not there, an unknown node or parameter, a value out of range.
    """
    for path in params_files:
        if not path.is_file():
            raise V2WError("--params-file", "a file that exists", str(path))
    chosen: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    for node, table in (overrides or {}).items():
        chosen[node].update(table)
    for item in settings:
        node, name, value = _setting(item)
        chosen[node][name] = value
    result = {}
    for node in names:
        check_all(TABLES[node], chosen[node])
        files = [config_folder() / f"{node}.yaml", *params_files]
        command = [sys.executable, "-m", f"v2w.nodes.{node}", "--ros-args"]
        for file in files:
            command += ["--params-file", str(file.resolve())]
        for name, value in chosen[node].items():
            command += ["-p", f"{name}:={_as_yaml(value)}"]
        if namespace:
            command += ["-r", f"__ns:=/{namespace.strip('/')}"]
        result[node] = command
    return result


def _setting(item: str) -> tuple[str, str, Any]:
    target, equals, text = item.partition("=")
    node, dot, name = target.partition(".")
    if not (equals and dot) or node not in TABLES:
        rule = f"NODE.NAME=VALUE with NODE one of {', '.join(TABLES)}"
        raise V2WError("--set", rule, item)
    table = {parameter.name: parameter for parameter in TABLES[node]}
    if name not in table and name != "use_sim_time":
        raise V2WError("--set", f"a parameter of {node}: {', '.join(table)}", name)
    value = yaml.safe_load(text)
    return node, name, _converted(table.get(name), value, text)


def _converted(parameter: Parameter | None, value: Any, text: str) -> Any:
    if parameter is None:
        return value
    if isinstance(parameter.default, float) and isinstance(value, int) and value is not True:
        return float(value)
    return text if isinstance(parameter.default, str) else value


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style='"' if isinstance(value, str) else None
    )
    return str(text).replace("\n...\n", "").strip()
