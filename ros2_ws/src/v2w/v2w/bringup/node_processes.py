"""Which processes make the graph, and with which parameters: for `v2w up`, the demo and launch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from v2w.bringup import pipeline as pipelines
from v2w.bringup.parameter_files import (
    check_params_files,
    full_name,
    names_checkpoint,
    value_of,
)
from v2w.bringup.pipeline import NAV2_FILE, NONE, WATCHDOG, Pipeline
from v2w.bringup.ros_environment import config_folder
from v2w.bringup.ros_names import check_namespace, check_topic_name
from v2w.parameters import TABLES, TOPIC, Parameter, check_all
from v2w_core.errors import V2WError
from v2w_core.yaml_files import YAMLError, parse_yaml

Overrides = Mapping[str, Mapping[str, Any]]
#: The nodes in the order in which they are started; each is the module ``v2w.nodes.<name>``.
NODES = ("simulator_node", "world_model_node", "planner_node", "watchdog_node")
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
    tables: dict[str, dict[str, Any]] = {"simulator_node": shared, "watchdog_node": {}}
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


def commands(
    names: Sequence[str],
    *,
    params_files: Sequence[Path] = (),
    settings: Sequence[str] = (),
    overrides: Overrides | None = None,
    namespace: str = "",
    pipeline: str = NONE,
) -> dict[str, list[str]]:
    """Command line of each node, by its name.

    A later source of parameters wins: the package's YAML, params_files, overrides, settings.

    Args:
        names: of the nodes.
        params_files: ROS parameter files.
        settings: "NODE.NAME=VALUE", with the value in YAML.
        overrides: parameter values by node and name.
        namespace: of all nodes; empty for none.
        pipeline: what is started between the planner and the base: one of pipeline.KINDS.

    Raises:
        V2WError: a file that is not there or has a mistake (:func:`check_params_files`), an unknown
            node or parameter, a value out of range, no namespace or topic name; a pipeline of
            packages that are not installed.
    """
    full = check_namespace(namespace)
    wanted = list(dict.fromkeys([*names, *["watchdog_node"] * (pipeline == WATCHDOG)]))
    check_params_files(params_files, wanted, full)
    chosen: dict[str, dict[str, Any]] = {name: {} for name in TABLES}
    for node, table in (overrides or {}).items():
        chosen[node].update(table)
    for item in settings:
        node, name, value = _setting(item)
        chosen[node][name] = value
    for node, values in chosen.items():
        _check(node, values, full)
    way = _pipeline(pipeline, names, chosen, params_files, full)
    chosen["planner_node"].update(way.planner)
    chosen["watchdog_node"].update(way.watchdog or {})
    result = {}
    for node in wanted:
        given = _arguments(f"{node}.yaml", params_files, chosen[node], full)
        given += ["--enclave", full_name(node, full)]  # whose keys it has, with SROS 2
        result[node] = [sys.executable, "-m", f"v2w.nodes.{node}", *given]
    for stage, path in _found(way):
        remappings = {"__node": stage.name} | dict(stage.remappings)
        given = _arguments(NAV2_FILE, params_files, stage.parameters, full, remappings)
        result[stage.name] = [str(path), *given]
    return result


def _arguments(
    own_file: str,
    params_files: Sequence[Path],
    values: Mapping[str, Any],
    namespace: str,
    remappings: Mapping[str, str] | None = None,
) -> list[str]:
    """The ROS arguments of a node."""
    arguments = ["--ros-args"]
    for file in (config_folder() / own_file, *params_files):
        arguments += ["--params-file", str(file.resolve())]
    for name, value in values.items():
        arguments += ["-p", f"{name}:={_as_yaml(value)}"]
    for name, target in (remappings or {}).items():
        arguments += ["-r", f"{name}:={target}"]
    return [*arguments, "-r", f"__ns:={namespace}"] if namespace != "/" else arguments


def _pipeline(
    kind: str,
    names: Sequence[str],
    chosen: Mapping[str, Mapping[str, Any]],
    params_files: Sequence[Path],
    namespace: str,
) -> Pipeline:
    own = ("cmd_vel_in_topic", "cmd_vel_topic", "enable_stamped_cmd_vel")
    for name in own if kind == WATCHDOG else ():
        if name in chosen["watchdog_node"]:
            rule = "left to the pipeline; set planner_node.cmd_vel_topic instead"
            raise V2WError(f"watchdog_node.{name}", rule, chosen["watchdog_node"][name])

    def value(name: str) -> Any:
        given = chosen["planner_node"].get(name)
        return value_of(params_files, "planner_node", name, namespace) if given is None else given

    return pipelines.pipeline(
        kind, value, namespace=namespace, simulated="simulator_node" in names,
        sim_time=bool(chosen["planner_node"].get("use_sim_time")),
    )  # fmt: skip


def _found(way: Pipeline) -> list[tuple[pipelines.Stage, Path]]:
    if not way.stages:
        return []
    from ament_index_python.packages import get_package_prefix

    return pipelines.find_stages(way.stages, get_package_prefix)


def _check(node: str, values: dict[str, Any], namespace: str) -> None:
    check_all(TABLES[node], values)
    for parameter in TABLES[node]:
        if parameter.kind == TOPIC and parameter.name in values:
            field, name = f"parameter {parameter.name}", values[parameter.name]
            check_topic_name(name, field, node=node, namespace=namespace)


def _setting(item: str) -> tuple[str, str, Any]:
    target, equals, text = item.partition("=")
    node, dot, name = target.partition(".")
    if not (equals and dot) or node not in TABLES:
        rule = f"NODE.NAME=VALUE with NODE one of {', '.join(TABLES)}"
        raise V2WError("--set", rule, item)
    table = {parameter.name: parameter for parameter in TABLES[node]}
    if name not in table and name != "use_sim_time":
        raise V2WError("--set", f"a parameter of {node}: {', '.join(table)}", name)
    return node, name, _converted(table.get(name), text, item)


def _converted(parameter: Parameter | None, text: str, item: str) -> Any:
    if parameter is not None and isinstance(parameter.default, str):
        return text
    try:
        value = parse_yaml(text)
    except YAMLError as error:
        raise V2WError("--set", str(error), item) from error
    if parameter is None and not isinstance(value, bool):
        raise V2WError("--set", "true or false for use_sim_time", text)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if parameter is not None and isinstance(parameter.default, float) and is_number:
        return float(value) if abs(value) < 1e300 else value
    return value


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style='"' if isinstance(value, str) else None
    )
    return str(text).replace("\n...\n", "").strip()
