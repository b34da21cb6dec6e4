"""A planner whose callbacks fail while a file is there; a process of the tests.

node_with_faults.py FILE --ros-args ...
"""

from __future__ import annotations

import sys
from pathlib import Path

from v2w.navigation.plan_follower import PlanFollower
from v2w.nodes import planner_node

if __name__ == "__main__":
    broken = Path(sys.argv.pop(1))
    tick = PlanFollower.tick

    def fails_now_and_then(self: PlanFollower, *given: object, **options: object) -> None:
        if broken.exists():
            raise RuntimeError("a bug\nin two lines")
        tick(self, *given, **options)  # type: ignore[arg-type]

    PlanFollower.tick = fails_now_and_then  # type: ignore[method-assign]
    planner_node.main()
