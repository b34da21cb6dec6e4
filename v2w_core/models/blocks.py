"""Residual block: two spatial convolutions, conditioned in between, and a temporal block."""

from __future__ import annotations

from torch import Tensor, nn

from v2w_core.models.layers import Conv, Norm, zero_init
from v2w_core.models.prepacked import Linear
from v2w_core.models.temporal import NormScope, TemporalConvBlock
from v2w_core.models.temporal_cache import CachePass


class ResBlock(nn.Module):
    """GN-SiLU-conv, + Linear(SiLU(emb)), GN-SiLU-dropout-conv, + skip, then TemporalConvBlock.

    Feature maps are [B, T, H, W, C]; the embedding has one vector per frame, [B, T, E]. Spatial
    norms always use statistics of each frame; ``norm_scope`` applies to the temporal block only.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding_dim: int,
        *,
        dropout: float,
        causal: bool,
        kernel: int,
        norm_scope: NormScope,
        norm_groups: int,
        num_temporal_convs: int,
    ) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            Norm(norm_groups, channels), nn.SiLU(), Conv(channels, out_channels)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), Linear(embedding_dim, out_channels))
        self.out_layers = nn.Sequential(
            Norm(norm_groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_init(Conv(out_channels, out_channels)),
        )
        self.skip_connection = (
            nn.Identity() if channels == out_channels else Conv(channels, out_channels, 1)
        )
        self.temporal_conv = TemporalConvBlock(
            out_channels,
            kernel=kernel,
            causal=causal,
            norm_scope=norm_scope,
            norm_groups=norm_groups,
            dropout=dropout,
            num_convs=num_temporal_convs,
        )

    def forward(self, x: Tensor, embedding: Tensor, cache_pass: CachePass | None = None) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None, :]
        h = self.skip_connection(x) + self.out_layers(h)
        return self.temporal_conv(h, cache_pass)
