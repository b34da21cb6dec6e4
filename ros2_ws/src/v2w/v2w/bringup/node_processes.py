"""Which processes make the graph, and with which parameters: shared by `v2w up` and the demo."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from v2w.bringup.ros_environment import config_folder
from v2w.parameters import TABLES, Parameter, check_all
from v2w_core.errors import V2WError

Overrides = Mapping[str, Mapping[str, Any]]
#: The nodes in the order in which they are started; each is the module ``v2w.nodes.<name>``.
NODES = ("simulator_node", "world_model_node", "planner_node")


def overrides_from(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Parameters by node from the command line of ``v2w up``; the shipped checkpoint if none.

    Raises:
        CheckpointError: no checkpoint was named and none ships.
    """
    shared = {"image_topic": args.image_topic, "odom_topic": args.odom_topic}
    names = ("device", "backend", "precision", "memory_budget_mib")
    model = shared | {name: getattr(args, name) for name in names}
    model["strict_backend"] = args.strict_backend or None
    named = _names_checkpoint(args)
    if args.checkpoint is not None or not named:
        path = args.checkpoint
        if path is None:
            from v2w_core.world_model import default_checkpoint

            path = default_checkpoint()
        model["checkpoint"] = str(path.expanduser().resolve())
    tables = {"simulator_node": shared, "world_model_node": model, "planner_node": model}
    common = {"use_sim_time": True} if args.use_sim_time else {}
    return {
        node: {name: value for name, value in table.items() if value is not None} | common
        for node, table in tables.items()
    }


def commands(
    names: Sequence[str],
    *,
    params_files: Sequence[Path] = (),
    settings: Sequence[str] = (),
    overrides: Overrides | None = None,
    namespace: str = "",
) -> dict[str, list[str]]:
    """node name -> command line. Later sources win: YAML, params_files, overrides, settings.

    Args:
        settings: "NODE.NAME=VALUE", values in YAML.

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


def _names_checkpoint(args: argparse.Namespace) -> bool:
    """Whether a parameter file or --set names a checkpoint."""
    if any(item.partition("=")[0].endswith(".checkpoint") for item in args.settings):
        return True
    return any(
        path.is_file() and "checkpoint:" in path.read_text(encoding="utf-8", errors="replace")
        for path in args.params_file
    )


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, default_style='"' if isinstance(value, str) else None
    )
    return str(text).replace("\n...\n", "").strip()
