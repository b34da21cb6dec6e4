"""A model node with a back end whose device is gone once a file is there; a process of the tests.

It stands in the place of "onnx":
node_that_loses_its_device.py NODE FILE --ros-args -p backend:=onnx
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from v2w_core.backends import names
from v2w_core.backends.eager import Eager


class Dying(Eager):
    name = "dying"
    lost = Path()

    def step(self, *given: Any, **options: Any) -> Any:
        if Dying.lost.exists():
            raise RuntimeError("CUDA error: unspecified launch failure")
        return super().step(*given, **options)


if __name__ == "__main__":
    node = sys.argv.pop(1)
    Dying.lost = Path(sys.argv.pop(1))
    sys.modules["dying_back_end"] = sys.modules[__name__]
    names.BACKENDS["onnx"] = "dying_back_end:Dying"
    import_module(f"v2w.nodes.{node}").main()
