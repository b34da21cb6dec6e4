"""world_model_node: imagines futures from camera and odometry (~/imagine)."""

from __future__ import annotations

import time
from typing import Any

from v2w_msgs.srv import Imagine

from v2w import parameters
from v2w.errors import NodeError
from v2w.inference.request_cost import RequestCost
from v2w.messages import conversions
from v2w.messages.rollouts import FORMATS, JPEG, NONE, PNG, RAW, fill_frames, rollout_message
from v2w.nodes import lifecycle
from v2w.nodes.clients import REQUESTS, ClientWatch
from v2w.nodes.model_node import ModelNode, chosen_seed
from v2w_core.errors import Interrupted

#: Largest size of a pixel in an answer; JPEG of quality 90 takes about 1 bit a channel [bytes].
BYTES = {NONE: 0.0, JPEG: 0.4, PNG: 3.0, RAW: 3.0}
#: Frames that are decoded before the node looks whether the request is still wanted.
DECODED = 64


class WorldModelNode(ModelNode):
    """Answers ~/imagine, and reports its status on ~/status and /diagnostics."""

    def __init__(self) -> None:
        super().__init__("world_model_node", parameters.WORLD_MODEL)
        # For the node's life: a request that comes while the node is not active is answered so.
        self.create_service(
            Imagine, "~/imagine", self._on_imagine, qos_profile=REQUESTS,
            callback_group=self.request_group,
        )  # fmt: skip

    def serve(self) -> None:
        """Nothing to create: the service is there all the time."""

    def unserve(self) -> None:
        """Nothing to destroy."""

    def batch_sizes(self, values: dict[str, Any]) -> tuple[int, ...]:
        from v2w.inference.model_runtime import sizes_up_to

        return sizes_up_to(values["warm_up_candidates"])

    def horizon(self, values: dict[str, Any]) -> int:
        config = self.model.config
        return min(int(values["max_horizon"]), config.num_frames - config.num_history)

    def _on_imagine(self, request: Any, response: Any) -> Any:
        client = ClientWatch(self.graph, "~/imagine")
        return self.requests.respond(response, lambda: self._imagine(request, response), client)

    def _imagine(self, request: Any, response: Any) -> float:
        values = parameters.values(self, self.table)
        model = self.model
        assert model is not None
        spec = model.config.action
        if request.frame_format not in FORMATS:
            rule = "0 (none), 1 (JPEG), 2 (PNG) or 3 (raw)"
            raise NodeError("frame_format", rule, request.frame_format)
        if request.jpeg_quality > 100:
            raise NodeError("jpeg_quality", "from 1 to 100, or 0", request.jpeg_quality)
        candidates = conversions.candidates_from(
            request.candidates,
            spec,
            max_candidates=values["max_candidates"],
            max_horizon=values["max_horizon"],
        )
        cost = self._affordable(request, candidates.shape[0] * candidates.shape[1], values)
        snapshot = self.snapshot(conversions.stamp_ns(request.history_stamp) or None)
        began = time.perf_counter()
        seed = chosen_seed(request.seed)
        session = model.start(snapshot.frames, snapshot.actions, seed=seed)
        rollouts = session.imagine(
            candidates, num_sampling_steps=cost.num_sampling_steps, seed=seed,
            interrupt=self.requests.is_given_up,
        )  # fmt: skip
        frames = None
        if request.frame_format != NONE:
            frames = self._decoded(rollouts.latents)
        seconds = time.perf_counter() - began
        quality = request.jpeg_quality or values["jpeg_quality"]
        with model.timings.stage("answer"):
            for index, actions in enumerate(candidates):
                self._go_on()
                rollout = rollout_message(
                    spec, snapshot, actions, rollouts.poses[index],
                    odom_frame=self.odom_frame, base_frame=self.base_frame,
                )  # fmt: skip
                rollout.candidate_index = index
                if frames is not None:
                    fill_frames(
                        rollout, frames[index], spec, base_frame=self.base_frame,
                        frame_format=request.frame_format, quality=quality,
                    )  # fmt: skip
                response.rollouts.append(rollout)
        response.inference_time = conversions.duration_message(seconds)
        return seconds

    def _affordable(self, request: Any, num_frames: int, values: dict[str, Any]) -> RequestCost:
        """The size of a request.

        Raises:
            NodeError: INVALID_REQUEST; it would take too long, or its answer would be too large.
        """
        model = self.model
        assert model is not None
        cost = model.cost(num_frames, request.num_sampling_steps or None)
        decoded = request.frame_format != NONE
        cost.check_time(cost.seconds(model.pace, decoded=decoded), values["max_request_time"])
        size = model.config.observation
        frame_bytes = BYTES[request.frame_format] * size.height * size.width
        cost.check_answer(frame_bytes, values["max_answer_mib"])
        return cost

    def _decoded(self, latents: Any) -> list[Any]:
        """RGB uint8 [horizon, H, W, 3] of each candidate, a batch at a time."""
        frames: list[Any] = []
        size = max(1, DECODED // latents.shape[1])
        for start in range(0, len(latents), size):
            self._go_on()
            frames.extend(self.model.decode(latents[start : start + size]))
        return frames

    def _go_on(self) -> None:
        if self.requests.is_given_up():
            raise Interrupted


def main() -> None:
    """Entry point of the executable."""
    lifecycle.main(WorldModelNode)


if __name__ == "__main__":
    main()
