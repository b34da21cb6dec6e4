"""Causal action guidance (Vid2World section 4.2): only the latest action is masked."""

from __future__ import annotations

from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    """u + scale (c - u), its standard deviation pulled back towards that of c.

    Args:
        conditional, unconditional: predictions [B, ...] with and without the latest action.
        scale: guidance scale; 1 is no guidance.
        rescale: 0 keeps the guided prediction, 1 gives it c's standard deviation per sample.
    """
    guided = unconditional + scale * (conditional - unconditional)
    if rescale == 0.0:
        return guided
    dims = tuple(range(1, guided.ndim))
    ratio = conditional.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
    return rescale * guided * ratio + (1 - rescale) * guided
