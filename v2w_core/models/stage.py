"""A stage of the U-Net: residual block, transformers and resampling in sequence."""

from __future__ import annotations

from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from v2w_core.models.attention import Context, SpatialTransformer
from v2w_core.models.blocks import ResBlock
from v2w_core.models.temporal import TemporalTransformer
from v2w_core.models.temporal_cache import CachePass


class Stage(nn.Sequential):
    """A sequence of layers; each gets the inputs that its type takes.

    ``recompute`` turns on gradient checkpointing for passes without a cache: activations inside
    the stage are computed again in the backward pass instead of stored.
    """

    recompute = False

    def forward(  # type: ignore[override]
        self, x: Tensor, embedding: Tensor, context: Context | None, cache_pass: CachePass
    ) -> Tensor:
        if not self.recompute or cache_pass.cache is not None or not is_grad_enabled():
            return self._layers(x, embedding, context, cache_pass)
        cache_passes = iter([cache_pass])  # the recomputation gets a pass that is discarded

        def layers(x: Tensor, embedding: Tensor) -> Tensor:
            return self._layers(x, embedding, context, next(cache_passes, cache_pass.restarted()))

        out: Tensor = checkpoint(layers, x, embedding, use_reentrant=False)
        return out

    def _layers(
        self, x: Tensor, embedding: Tensor, context: Context | None, cache_pass: CachePass
    ) -> Tensor:
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, embedding, cache_pass)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            elif isinstance(layer, TemporalTransformer):
                x = layer(x, cache_pass)
            else:
                x = layer(x)
        return x
