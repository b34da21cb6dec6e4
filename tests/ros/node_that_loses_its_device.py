"""world_model_node with a back end whose device is gone after some steps; a process of the tests.

It stands in the place of "onnx": node_that_loses_its_device.py STEPS --ros-args -p backend:=onnx
"""

from __future__ import annotations

import sys
from typing import Any

from v2w_core.backends import base
from v2w_core.backends.eager import Eager


class Dying(Eager):
    name = "dying"
    steps_left = 0

    def step(self, *given: Any, **options: Any) -> Any:
        if not Dying.steps_left:
            raise RuntimeError("CUDA error: unspecified launch failure")
        Dying.steps_left -= 1
        return super().step(*given, **options)


if __name__ == "__main__":
    Dying.steps_left = int(sys.argv.pop(1))
    sys.modules["dying_back_end"] = sys.modules[__name__]
    base.BACKENDS["onnx"] = "dying_back_end:Dying"
    from v2w.world_model_node import main

    main()
