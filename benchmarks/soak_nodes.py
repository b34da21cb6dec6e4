"""The soak's nodes, the base that they drive, and the peer that sends requests to them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage

from driven_robot import PLANNER_VALUES, BaseRobot, Driver, Nodes, tiny_checkpoint, wait_for
from soak_peer import MODEL, PLANNER, Peer
from soak_watch import Watch
from v2w.messages import images
from v2w.parameters import TABLES

#: Both nodes refuse what would take longer, so that no request holds up the others [s].
LONGEST_S = 5.0


class SoakNodes:
    """Both nodes with a tiny model, in processes of their own, watched.

    planner_node takes the raw images of the base's camera, world_model_node the compressed ones.

    Args:
        folder: for the model and the logs.
        domain: ROS domain of the nodes.
        deadline: by ``time.monotonic`` [s]; phases end then.
        period_s: time between two looks at the processes [s].

    Attributes:
        phase, done: what is being done, and how much of it is.
        result: what is known so far.
    """

    def __init__(
        self, folder: Path, domain: int, deadline: float = float("inf"), period_s: float = 1.0
    ) -> None:
        self.folder, self.domain, self.deadline = folder, domain, deadline
        self.result: dict[str, Any] = {"complete": False, "phases": {}}
        self.phase, self.done = "start", 0
        checkpoint = tiny_checkpoint(folder / "tiny")
        model = {"checkpoint": str(checkpoint), "max_request_time": LONGEST_S}
        planner = PLANNER_VALUES | model | {"image_transport": "raw"}
        imagines = model | {
            "device": "cpu", "image_transport": "compressed", "warm_up_candidates": 4,
            "status_period": 0.2,
        }  # fmt: skip
        self.values: dict[str, dict[str, Any]] = {MODEL: imagines, PLANNER: planner}
        self.nodes = Nodes(domain, folder)
        self.nodes.start([MODEL, PLANNER], self.values)
        self.robot = BaseRobot(domain)
        self.driver = Driver(self.robot)
        node = rclpy.create_node("soak_peer", context=self.robot.context)
        self.robot.executor.add_node(node)
        self.peer = Peer(node, lambda: self.robot.true_pose)
        self.show_pictures()
        self.robot.ready()
        wait_for(self._model_is_active, 100.0, MODEL)
        processes = {name: process.pid for name, process in self.nodes.processes.items()}
        self.watch = Watch(processes, lambda: (self.phase, self.done), period_s)
        self.watch.start()

    def _model_is_active(self) -> bool:
        answer = self.peer.call(GetState, f"{MODEL}/get_state", GetState.Request())
        return bool(answer.current_state.id == State.PRIMARY_STATE_ACTIVE)

    def show_pictures(self) -> None:
        """The camera sends its pictures, raw and compressed."""

        def also_compressed(message: Any) -> None:
            packed = images.compressed_message(images.rgb_from_image(message), message.header)
            self.peer.send(CompressedImage, "image_raw/compressed", packed)

        self.robot.change_image = also_compressed

    @property
    def over(self) -> bool:
        """Whether time is up, or a node is gone."""
        return time.monotonic() > self.deadline or not all(self.alive().values())

    def alive(self) -> dict[str, bool]:
        """Whether each process runs, by name."""
        return {name: p.poll() is None for name, p in self.nodes.processes.items()}

    def begin(self, phase: str, number: int) -> dict[str, Any]:
        """Begin a phase; returns where its results belong."""
        self.phase, self.done = phase, 0
        print(f"{phase}: {number}", flush=True)
        found: dict[str, Any] = {"asked_for": number}
        self.result["phases"][phase] = found
        return found

    def set_back(self) -> None:
        """Parameters become what they were: a request may have left another value."""
        for node, given in self.values.items():
            values = {p.name: p.default for p in TABLES[node] if not p.fixed}
            values |= {name: value for name, value in given.items() if name in values}
            self.peer.restore(
                node, [Parameter(n, value=v).to_parameter_msg() for n, v in values.items()]
            )

    def end(self) -> None:
        """Note how the nodes are, and end them."""
        alive, logs = self.alive(), {name: self.nodes.log(name) for name in self.nodes.processes}
        self.result["alive"] = alive
        self.result["errors_in_callbacks"] = {
            name: log.count("error in a callback") for name, log in logs.items()
        }
        self.result["log_mib"] = {name: round(len(log) / 2**20, 2) for name, log in logs.items()}
        self.watch.stop()
        self.result["exit_codes"] = self.nodes.stop()
        self.robot.close()
