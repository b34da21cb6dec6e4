"""A stage of the U-Net: residual block, transformers, change of size, one after the other."""

from __future__ import annotations

from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from v2w_core.cache import CacheWalk
from v2w_core.models.attention import Context, SpatialTransformer
from v2w_core.models.blocks import ResBlock
from v2w_core.models.temporal import TemporalTransformer


class Stage(nn.Sequential):
    """Layers in a row; each is handed what it takes.

    ``recompute``: what lies inside is computed again in the backward pass instead of kept
    (gradient checkpointing), except where a cache is walked, which must be walked only once.
    """

    recompute = False

    def forward(  # type: ignore[override]
        self, x: Tensor, embedding: Tensor, context: Context | None, walk: CacheWalk | None
    ) -> Tensor:
        if self.recompute and walk is None and is_grad_enabled():
            out: Tensor = checkpoint(self._layers, x, embedding, context, None, use_reentrant=False)
            return out
        return self._layers(x, embedding, context, walk)

    def _layers(
        self, x: Tensor, embedding: Tensor, context: Context | None, walk: CacheWalk | None
    ) -> Tensor:
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, embedding, walk)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            elif isinstance(layer, TemporalTransformer):
                x = layer(x, walk)
            else:
                x = layer(x)
        return x
