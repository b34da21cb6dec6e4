"""Conditioning of each frame: embeddings of its noise level, action and frame stride."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from v2w_core.models.layers import sinusoidal_embedding


def embedding_mlp(in_dim: int, hidden: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, hidden), nn.SiLU(), nn.Linear(hidden, out_dim))


class ActionEmbedding(nn.Module):
    """Continuous actions [B, T, A] -> [B, T, E]; masked actions become the zero embedding.

    Frame t is conditioned on the action that leads to it, a_{t-1} (Vid2World section 4.2). The
    action mask [B, T] multiplies the embedding: 0 is the null action of guidance and dropout.
    """

    def __init__(self, action_dim: int, hidden: int, out_dim: int) -> None:
        super().__init__()
        self.action_emb_proj = nn.Sequential(
            nn.Linear(action_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, out_dim),
            nn.SiLU(),
            nn.Linear(out_dim, out_dim),
        )

    def forward(self, actions: Tensor, action_mask: Tensor | None = None) -> Tensor:
        return _masked(self.action_emb_proj(actions), action_mask)


class MultiHotActionEmbedding(nn.Module):
    """Multi-hot actions [B, T, A] (keys, buttons): a learned vector for each bit, summed."""

    def __init__(self, action_dim: int, hidden: int, out_dim: int) -> None:
        super().__init__()
        self.action_emb_preprocess = nn.Embedding(action_dim, hidden)
        self.action_emb_proj = embedding_mlp(hidden, out_dim, out_dim)

    def forward(self, actions: Tensor, action_mask: Tensor | None = None) -> Tensor:
        summed = actions.to(self.action_emb_preprocess.weight.dtype)
        summed = summed @ self.action_emb_preprocess.weight
        return _masked(self.action_emb_proj(summed), action_mask)


def _masked(embedding: Tensor, action_mask: Tensor | None) -> Tensor:
    return (
        embedding if action_mask is None else embedding * action_mask[..., None].to(embedding.dtype)
    )


class NoiseLevelEmbedding(nn.Module):
    """Noise level (diffusion timestep) [B, T] -> [B, T, E]; also used for the frame stride."""

    def __init__(self, channels: int, out_dim: int, *, zero_last: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.mlp = embedding_mlp(channels, out_dim, out_dim)
        if zero_last:
            nn.init.zeros_(self.mlp[2].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.mlp[2].bias)  # type: ignore[arg-type]

    def forward(self, level: Tensor) -> Tensor:
        weight = self.mlp[0].weight
        assert isinstance(weight, Tensor)
        embedded: Tensor = self.mlp(sinusoidal_embedding(level, self.channels).to(weight.dtype))
        return embedded


def concat_first_frame(latents: Tensor, first: Tensor) -> Tensor:
    """Latents [B, T, C, H, W] -> [B, T, C + C', H, W]: every frame with the clean first frame.

    Args:
        latents: [B, T, C, H, W].
        first: [B or 1, 1, C', H, W], concatenated along the channels.
    """
    return torch.cat([latents, first.expand(*latents.shape[:2], *first.shape[2:])], dim=2)


def shift_actions(actions: Tensor) -> Tensor:
    """Recorded actions [B, T, A], a_t leading from frame t to t+1 -> actions aligned with frames.

    The result holds the action that leads to each frame; for frame 0, which has none, zeros that
    the action mask must hide.
    """
    return torch.cat([torch.zeros_like(actions[:, :1]), actions[:, :-1]], dim=1)
