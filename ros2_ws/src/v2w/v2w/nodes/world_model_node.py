"""world_model_node: imagines futures from camera and odometry (~/imagine)."""

from __future__ import annotations

import time
from typing import Any

from v2w_msgs.srv import Imagine

from v2w import parameters
from v2w.errors import NodeError
from v2w.messages import conversions
from v2w.messages.rollouts import FORMATS, NONE, fill_frames, rollout_message
from v2w.nodes import lifecycle
from v2w.nodes.model_node import ModelNode, chosen_seed
from v2w_core.errors import Interrupted


class WorldModelNode(ModelNode):
    """Answers ~/imagine, and reports its status on ~/status and /diagnostics."""

    def __init__(self) -> None:
        super().__init__("world_model_node", parameters.WORLD_MODEL)
        self._service: Any = None

    def serve(self) -> None:
        self._service = self.create_service(
            Imagine, "~/imagine", self._on_imagine, callback_group=self.request_group
        )

    def unserve(self) -> None:
        if self._service is not None:
            self.destroy_service(self._service)
            self._service = None

    def batch_sizes(self, values: dict[str, Any]) -> tuple[int, ...]:
        from v2w.inference.model_runtime import sizes_up_to

        return sizes_up_to(values["warm_up_candidates"])

    def horizon(self, values: dict[str, Any]) -> int:
        config = self.model.config
        return min(int(values["max_horizon"]), config.num_frames - config.num_history)

    def _on_imagine(self, request: Any, response: Any) -> Any:
        return self.respond(response, lambda: self._imagine(request, response))

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
        snapshot = self.snapshot(conversions.stamp_ns(request.history_stamp) or None)
        began = time.perf_counter()
        seed = chosen_seed(request.seed)
        session = model.start(snapshot.frames, snapshot.actions, seed=seed)
        steps = request.num_sampling_steps or None
        try:
            rollouts = session.imagine(
                candidates, num_sampling_steps=steps, seed=seed, interrupt=lambda: self.stopping
            )
        except Interrupted as error:
            raise NodeError("node", "active", "deactivated", code="NOT_READY") from error
        frames = None if request.frame_format == NONE else model.decode(rollouts.latents)
        seconds = time.perf_counter() - began
        quality = request.jpeg_quality or values["jpeg_quality"]
        with model.timings.stage("answer"):
            for index, actions in enumerate(candidates):
                rollout = rollout_message(
                    spec, snapshot, actions, odom_frame=self.odom_frame, base_frame=self.base_frame
                )
                rollout.candidate_index = index
                if frames is not None:
                    fill_frames(
                        rollout, frames[index], spec, base_frame=self.base_frame,
                        frame_format=request.frame_format, quality=quality,
                    )  # fmt: skip
                response.rollouts.append(rollout)
        response.inference_time = conversions.duration_message(seconds)
        return seconds


def main() -> None:
    """Entry point of the executable."""
    lifecycle.main(WorldModelNode)


if __name__ == "__main__":
    main()
