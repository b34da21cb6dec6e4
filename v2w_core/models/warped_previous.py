"""The frame before, moved as the action will move the camera: condition channels of the U-Net.

A turn of a pinhole camera about its centre moves the picture by a homography, whatever is in it. A
translation moves what is near more than what is far; with the scene as a plane in parallel to the
picture, at an assumed depth, it moves the picture by a homography as well. Several depths give the
network several pictures to choose from, as a plane sweep does (Collins, "A space-sweep approach to
true multi-image matching", CVPR 1996).

The camera is taken to sit above the robot's centre of rotation and to look along its x axis
(REP 103: x forward, y left, yaw counter-clockwise), without distortion. As it turns about the
vertical and moves in the plane only, its vertical field of view does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from v2w_core.errors import V2WError
from v2w_core.spec import ActionSpec, ObservationSpec

#: Smallest depth, as a share of the plane's, at which a point is in front of the camera.
IN_FRONT = 1e-3
#: A position that is outside of every picture, in halves of its width.
OUTSIDE = 10.0


@dataclass(frozen=True)
class ConditionConfig:
    """Which channels the U-Net is given beside the noisy latents.

    Attributes:
        kind: "warped_previous": the clean latents of the frame before, moved as the frame's action
            will move the camera, and a mask of where they show something.
        planes: assumed depths of the scene in metres; None is infinity, where the turn alone moves
            the picture. Each gives all latent channels and a mask.
    """

    kind: Literal["warped_previous"] = "warped_previous"
    planes: tuple[float | None, ...] = (None, 1.0, 3.0)

    def __post_init__(self) -> None:
        if self.kind != "warped_previous":
            raise V2WError("condition.kind", "warped_previous", self.kind)
        if not self.planes or len(set(self.planes)) != len(self.planes):
            raise V2WError("condition.planes", "at least one depth, none twice", self.planes)
        for depth in self.planes:
            if depth is not None and not (math.isfinite(depth) and depth > 0):
                rule = "depths above 0 m, or null for infinity"
                raise V2WError("condition.planes", rule, depth)

    def num_channels(self, latent_channels: int) -> int:
        """Channels of the condition of a frame with this many latent channels."""
        return len(self.planes) * (latent_channels + 1)


class WarpedPrevious:
    """Moves latents as actions move the camera.

    Raises:
        V2WError: the observation has no field of view, or the actions are not planar.
    """

    def __init__(
        self, config: ConditionConfig, observation: ObservationSpec, action: ActionSpec
    ) -> None:
        check_geometry(observation, action)
        assert observation.fov_rad is not None
        self._inverse_depths = [0.0 if d is None else 1.0 / d for d in config.planes]
        self._tangent = math.tan(observation.fov_rad[0] / 2)
        self._columns = list(action.planar_indices())
        self._offset = [action.offset[i] for i in self._columns]
        self._scale = [action.scale[i] for i in self._columns]

    def __call__(self, before: Tensor, actions: Tensor) -> Tensor:
        """The condition of frames.

        Args:
            before: [B, T, C, h, w], the clean latents of the frame before each of them.
            actions: [B, T, A], normalised; each leads from that frame to the frame itself.

        Returns:
            [B, T, P * (C + 1), h, w], for each plane the moved latents and the share of each cell
            that they cover, 0 to 1; zeros where nothing is known.
        """
        lead, (height, width) = before.shape[:2], before.shape[-2:]
        latents = before.flatten(0, 1)
        shown = torch.cat([latents, torch.ones_like(latents[:, :1])], dim=1)
        planar = actions[..., self._columns].flatten(0, 1).float()
        dx, dy, dyaw = (
            planar[:, i, None, None] * self._scale[i] + self._offset[i] for i in range(3)
        )
        moved = []
        for inverse_depth in self._inverse_depths:
            grid = self._sources(dx * inverse_depth, dy * inverse_depth, dyaw, height, width)
            moved.append(F.grid_sample(shown, grid.to(shown.dtype), align_corners=False))
        return torch.cat(moved, dim=1).unflatten(0, lead)

    def _sources(self, dx: Tensor, dy: Tensor, dyaw: Tensor, height: int, width: int) -> Tensor:
        """Where each cell of the new picture was in the old one.

        Args:
            dx, dy: [N, 1, 1], displacement as a share of the plane's depth.
            dyaw: [N, 1, 1], in radians.

        Returns:
            [N, height, width, 2], -1 to 1 from the left to the right edge and from the upper to
            the lower.
        """
        left = -self._tangent * _centres(width, dx)[None, None, :]
        row = _centres(height, dx)[None, :, None]
        # points (1, left) of the plane in the frame of the new pose, and in that of the old one
        cos, sin = dyaw.cos(), dyaw.sin()
        forward, leftward = cos - sin * left + dx, sin + cos * left + dy
        visible = forward > IN_FRONT
        depth = torch.where(visible, forward, torch.ones_like(forward))
        grid = torch.broadcast_tensors(-leftward / depth / self._tangent, row / depth)
        return torch.where(visible[..., None], torch.stack(grid, dim=-1), OUTSIDE)


def check_geometry(observation: ObservationSpec, action: ActionSpec) -> None:
    """Raises V2WError where a frame cannot be moved: no field of view, or no planar actions."""
    if observation.fov_rad is None:
        rule = (
            "the camera's (horizontal, vertical) field of view in radians, which the condition "
            "warped_previous needs"
        )
        raise V2WError("observation.fov_rad", rule, "none")
    if not action.is_planar:
        rule = "dx, dy and dyaw among them, which the condition warped_previous needs"
        raise V2WError("action.names", rule, action.names)


def frames_before(latents: Tensor) -> Tensor:
    """The frame before each frame of clips [B, T, C, h, w]; zeros before the first."""
    return torch.cat([torch.zeros_like(latents[:, :1]), latents[:, :-1]], dim=1)


def _centres(number: int, like: Tensor) -> Tensor:
    """Centres of cells in a row from -1 to 1."""
    cells = torch.arange(number, device=like.device, dtype=like.dtype)
    return (2 * cells + 1) / number - 1
