"""Exponential moving average of a module's parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EMA:
    """Moving average of the parameters, with a warm-up of the decay for the first steps."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        names, live = zip(*module.named_parameters(), strict=True)
        torch._foreach_lerp_([self.shadow[n] for n in names], list(live), 1 - decay)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Swaps the average and the module's parameters; a second call swaps them back."""
        for name, parameter in module.named_parameters():
            current = parameter.detach().clone()
            parameter.copy_(self.shadow[name])
            self.shadow[name].copy_(current)

    def state_dict(self) -> dict[str, Tensor]:
        return self.shadow

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in self.shadow.items():
            value.copy_(state[name])
