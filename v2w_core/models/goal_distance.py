"""Goal distance: a network that estimates how far a view is from the goal image's pose.

Two views half a metre apart may look alike, and a view turned by a few degrees may look like
another place, so that differences of pixels or latents are poor distances. This small network is
trained on pairs of views with known poses from odometry. Many of the views are imagined by the
world model, so that its estimates for blurred views are calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from v2w_core.errors import V2WError


@dataclass(frozen=True)
class GoalDistanceConfig:
    """Sizes of the network and units of the distance.

    Attributes:
        channels: width of the network.
        metres, radians: unit of the position error and of the heading error.
    """

    channels: int = 64
    metres: float = 0.4
    radians: float = 0.35

    def __post_init__(self) -> None:
        for name in ("channels", "metres", "radians"):
            if getattr(self, name) <= 0:
                raise V2WError(f"goal_distance.{name}", "a positive number", getattr(self, name))

    def between(self, metres: Tensor, radians: Tensor) -> Tensor:
        """Distance that the network learns: log(1 + |metres| / unit + |radians| / unit)."""
        return torch.log1p(metres.abs() / self.metres + radians.abs() / self.radians)


class GoalDistance(nn.Module):
    """Views [N, C, h, w] and goals [N or 1, C, h, w] -> expected distance [N] (see ``between``)."""

    def __init__(self, latent_shape: tuple[int, int, int], config: GoalDistanceConfig) -> None:
        super().__init__()
        self.config = config
        channels, height, width = latent_shape
        c = config.channels
        cells = -(-height // 4) * -(-width // 4)
        self.layers = nn.Sequential(
            nn.Conv2d(3 * channels, c, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(c, c, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(c, c, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(c, 2 * c, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * c * cells, 2 * c),
            nn.SiLU(),
            nn.Linear(2 * c, 1),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, views: Tensor, goals: Tensor) -> Tensor:
        goals = goals.expand_as(views)
        both = torch.cat([views, goals, views - goals], dim=1)
        out: Tensor = self.layers(both)[:, 0]
        return out
