"""Muon for the matrices of a network and AdamW for everything else, as one optimiser.

Muon (K. Jordan, 2024) steps along the orthogonalised momentum of each matrix, so that no direction
of it learns faster than another. Convolutions count as matrices [out, in * taps]. Steps have the
root mean square of AdamW's (Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982), so
that both share a learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
#: Coefficients of the quintic iteration of Newton and Schulz, and the number of iterations.
QUINTIC, NUM_ITERATIONS = (3.4445, -4.7750, 2.0315), 5
#: Root mean square of AdamW's steps, as a share of the learning rate.
ADAMW_RMS = 0.2
EPS = 1e-8


class MuonAdamW(torch.optim.Optimizer):
    """Parameters of two and more dimensions learn by Muon, the others by AdamW.

    Args:
        module: the network.
        lr, weight_decay: of both.
        betas: of AdamW.
        muon_scale: of Muon's steps, beside AdamW's.
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        muon_scale: float = 1.0,
    ) -> None:
        parameters = list(module.parameters())
        groups: Iterable[dict[str, Any]] = (
            {"params": [p for p in parameters if (p.ndim >= 2) == muon], "muon": muon}
            for muon in (True, False)
        )
        settings = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "scale": muon_scale}
        super().__init__(list(groups), settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    change = update(parameter.grad, self.state[parameter], group)
                    parameter.add_(change, alpha=-group["lr"])

    def _muon(self, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        matrix = gradient.lerp(momentum, MOMENTUM).flatten(1)
        size = group["scale"] * ADAMW_RMS * max(matrix.shape) ** 0.5
        return size * orthogonalised(matrix).view_as(gradient)

    def _adamw(self, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(gradient)}
            state["square"] = torch.zeros_like(gradient)
        state["step"] += 1
        first, second = group["betas"]
        mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first ** state["step"])
        square = state["square"].lerp_(gradient.square(), 1 - second)
        return mean / ((square / (1 - second ** state["step"])).sqrt() + EPS)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix [m, n] with all singular values near 1, by Newton and Schulz's iteration."""
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + EPS)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.t()
    for _ in range(NUM_ITERATIONS):
        square = x @ x.t()
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if wide else x.t()
