"""The parameters of the nodes as tables: declared, checked and documented from one place.

tests/unit/test_ros_decisions.py keeps the YAML files and the tables of the README equal to these.
"""

from __future__ import annotations

from v2w.parameters.base import SIMULATOR, WATCHDOG
from v2w.parameters.declaration import declare, values
from v2w.parameters.model import WORLD_MODEL
from v2w.parameters.parameter import TOPIC, Parameter, check_all
from v2w.parameters.planner import PLANNER, check_horizon, goal_costs

__all__ = [
    "PLANNER",
    "SIMULATOR",
    "TABLES",
    "TOPIC",
    "WATCHDOG",
    "WORLD_MODEL",
    "Parameter",
    "check_all",
    "check_horizon",
    "declare",
    "goal_costs",
    "values",
]

#: The table of each node.
TABLES = {
    "world_model_node": WORLD_MODEL,
    "planner_node": PLANNER,
    "simulator_node": SIMULATOR,
    "watchdog_node": WATCHDOG,
}
