"""The 3-D U-Net in DynamiCrafter's structure, of any size, causal or not (Vid2World section 4.1).

The 3-million-parameter default model and the 1.4-billion-parameter Vid2World checkpoints are
configurations of this one class. Input and output are [B, T, C, H, W]; inside, feature maps are
[B, T, H, W, C]. Module names follow the released checkpoints, so that a key map stays short.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from v2w_core.errors import V2WError
from v2w_core.models.attention import Context, SpatialTransformer
from v2w_core.models.blocks import ResBlock
from v2w_core.models.conditioning import (
    ActionEmbedding,
    MultiHotActionEmbedding,
    NoiseLevelEmbedding,
)
from v2w_core.models.layers import Conv, Downsample, Norm, Upsample, zero_init
from v2w_core.models.stage import Stage
from v2w_core.models.teacher_forcing import TeacherForcingPass
from v2w_core.models.temporal import NormScope, TemporalTransformer
from v2w_core.models.temporal_cache import Cache, CachePass


@dataclass(frozen=True)
class UNetConfig:
    """Sizes and options of the U-Net. The defaults are ours; the released models differ.

    Attributes:
        in_channels, out_channels: channels of the input (latents, and those of the first frame or
            of a condition) and of the output (latents, and those of a motion head).
        condition_channels: how many of the input's last channels are a condition, which goes with
            the action: a frame whose action is masked is given zeros instead.
        model_channels, channel_mult: channels of level i are model_channels * channel_mult[i].
        attention_levels: levels (0 = full resolution) with spatial and temporal transformers.
        head_dim: channels of an attention head.
        norm_scope: "frame" (strictly causal) or "clip" (the released checkpoints).
        two_temporal_attentions: two temporal attentions in each transformer, as in DynamiCrafter.
        num_temporal_convs: convolutions in a temporal block (DynamiCrafter: 4).
        init_attention: a temporal transformer right after the first convolution.
        frame_stride: default frame stride (fs) of a model with an embedding of it, or None.
        height_causal_out: the last convolution is causal over the height, a quirk of the released
            checkpoints.
    """

    in_channels: int
    out_channels: int
    model_channels: int = 32
    channel_mult: tuple[int, ...] = (1, 2, 4)
    num_res_blocks: int = 1
    attention_levels: tuple[int, ...] = (1, 2)
    head_dim: int = 32
    ff_mult: int = 2
    norm_groups: int = 8
    norm_scope: NormScope = "frame"
    causal: bool = True
    temporal_kernel: int = 3
    num_temporal_convs: int = 4
    two_temporal_attentions: bool = True
    init_attention: bool = False
    dropout: float = 0.0
    action_dim: int | None = None
    multi_hot_actions: bool = False
    context_dim: int | None = None
    image_context: bool = False
    frame_stride: int | None = None
    height_causal_out: bool = False
    condition_channels: int = 0

    def __post_init__(self) -> None:
        if self.norm_scope not in ("frame", "clip"):
            raise V2WError("UNetConfig.norm_scope", "frame or clip", self.norm_scope)
        if self.temporal_kernel % 2 != 1:
            raise V2WError("UNetConfig.temporal_kernel", "an odd number", self.temporal_kernel)
        if not 0 <= self.condition_channels < self.in_channels:
            rule = "from 0 to below in_channels"
            raise V2WError("UNetConfig.condition_channels", rule, self.condition_channels)
        for mult in self.channel_mult:
            channels = mult * self.model_channels
            if channels % self.norm_groups or channels % self.head_dim:
                rule = f"multiples of norm_groups {self.norm_groups} and head_dim {self.head_dim}"
                raise V2WError("UNetConfig.channel_mult", rule, channels)


class UNet(nn.Module):
    """Predicts the velocity v of every frame from all frames up to it."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = c = config
        width = c.model_channels
        embedding_dim = 4 * width
        self.time_embed = NoiseLevelEmbedding(width, embedding_dim)
        if c.frame_stride is not None:
            self.fps_embedding = NoiseLevelEmbedding(width, embedding_dim, zero_last=True)
        if c.action_dim is not None:
            kind = MultiHotActionEmbedding if c.multi_hot_actions else ActionEmbedding
            self.action_embed: nn.Module = kind(c.action_dim, width, embedding_dim)

        self.input_blocks = nn.ModuleList([Stage(Conv(c.in_channels, width))])
        if c.init_attention:
            self.init_attn = Stage(self._temporal(width, heads=8, conv_projection=True))
        skips, channels = [width], width
        for level, mult in enumerate(c.channel_mult):
            for _ in range(c.num_res_blocks):
                self.input_blocks.append(self._stage(channels, mult * width, level))
                channels = mult * width
                skips.append(channels)
            if level + 1 < len(c.channel_mult):
                self.input_blocks.append(Stage(Downsample(channels)))
                skips.append(channels)

        self.middle_block = Stage(
            self._res(channels, channels),
            self._spatial(channels),
            self._temporal(channels),
            self._res(channels, channels),
        )

        self.output_blocks = nn.ModuleList()
        for level, mult in reversed(list(enumerate(c.channel_mult))):
            for index in range(c.num_res_blocks + 1):
                stage = self._stage(channels + skips.pop(), mult * width, level)
                channels = mult * width
                if level and index == c.num_res_blocks:
                    stage.append(Upsample(channels))
                self.output_blocks.append(stage)
        self.out = nn.Sequential(
            Norm(c.norm_groups, channels),
            nn.SiLU(),
            zero_init(Conv(channels, c.out_channels, height_causal=c.height_causal_out)),
        )
        for module in self.modules():
            if isinstance(module, Norm):
                module.precise = c.norm_scope == "clip"  # released weights: parity is checked

    def forward(
        self,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None = None,
        action_mask: Tensor | None = None,
        *,
        cache: Cache | None = None,
        context: Context | None = None,
        frame_stride: Tensor | None = None,
        num_uncached: int = 0,
        unconditional: bool = False,
    ) -> tuple[Tensor, Cache]:
        """One pass over the newest frames.

        Args:
            latents: [B, T, C_in, H, W] noisy latents of the newest T frames, and a condition.
            noise_level: [B, T] diffusion timestep of each frame, 0..999.
            actions: [B, T, A] normalised and aligned: actions[:, t] leads to frame t.
            action_mask: [B, T], 0 where the action is replaced by the null action. None: nowhere.
            cache: cache of the earlier frames; None when the first of the T frames starts a clip.
            context: text and image tokens, for models with ``context_dim``.
            frame_stride: [B], for models with a frame-stride embedding.
            num_uncached: number of newest frames that are not added to the returned cache (their
                denoising is not finished).
            unconditional: whether the last of the T frames is the unconditional branch of the frame
                before it; see :class:`CachePass`. It is never cached and does not count in
                ``num_uncached``. Needs a causal model with ``norm_scope`` "frame".

        Returns:
            velocity [B, T, C_out, H, W], and the cache with the T - ``num_uncached`` cached frames
            added.
        """
        assert not unconditional or (self.config.causal and self.config.norm_scope == "frame")
        cache_pass = CachePass(cache, num_uncached + unconditional, unconditional)
        v = self._run(latents, noise_level, actions, action_mask, cache_pass, context, frame_stride)
        return v, cache_pass.finish(latents.shape[1])

    def forward_teacher_forced(
        self,
        past: Tensor,
        past_noise_level: Tensor,
        targets: Tensor,
        target_noise_level: Tensor,
        actions: Tensor,
        action_mask: Tensor | None = None,
        past_actions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Teacher forcing: each target is denoised given the past frames before it.

        Args:
            past, targets: [B, T, C_in, H, W], the same frames nearly clean and with more noise.
            past_noise_level, target_noise_level: [B, T].
            actions, action_mask: as in :meth:`forward`, the same for past and targets.
            past_actions: of the past, where they are others.

        Returns:
            velocities of the past and of the targets, [B, T, C_out, H, W] each.

        Raises:
            V2WError: a model that is not causal, or whose ``norm_scope`` is not "frame".
        """
        self._check_strictly_causal()
        latents = torch.cat([past, targets])
        level = torch.cat([past_noise_level, target_noise_level])
        mask = None if action_mask is None else torch.cat([action_mask, action_mask])
        both = torch.cat([actions if past_actions is None else past_actions, actions])
        v = self._run(latents, level, both, mask, TeacherForcingPass(), None, None)
        v_past, v_targets = v.chunk(2)
        return v_past, v_targets

    def _run(
        self,
        latents: Tensor,
        noise_level: Tensor,
        actions: Tensor | None,
        action_mask: Tensor | None,
        cache_pass: CachePass,
        context: Context | None,
        frame_stride: Tensor | None,
    ) -> Tensor:
        self._check(latents, actions, context)
        if cache_pass.cache is not None:
            self._check_strictly_causal()
        embedding = self.time_embed(noise_level)
        if self.config.frame_stride is not None:
            if frame_stride is None:
                frame_stride = noise_level.new_full((latents.shape[0],), self.config.frame_stride)
            embedding = embedding + self.fps_embedding(frame_stride)[:, None]
        if actions is not None:
            embedding = embedding + self.action_embed(actions, action_mask)
        h = self._given(latents, action_mask).permute(0, 1, 3, 4, 2)
        skips: list[Tensor] = []
        for index, stage in enumerate(self.input_blocks):
            h = stage(h, embedding, context, cache_pass)
            if index == 0 and self.config.init_attention:
                h = self.init_attn(h, embedding, context, cache_pass)
            skips.append(h)
        h = self.middle_block(h, embedding, context, cache_pass)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=-1), embedding, context, cache_pass)
        v: Tensor = self.out(h).permute(0, 1, 4, 2, 3)
        return v

    def _given(self, latents: Tensor, action_mask: Tensor | None) -> Tensor:
        """The input, with zeros in place of the condition where the action is masked."""
        num_channels = self.config.condition_channels
        if num_channels == 0 or action_mask is None:
            return latents
        plain, condition = latents.tensor_split([-num_channels], dim=2)
        known = action_mask[..., None, None, None].to(latents.dtype)
        return torch.cat([plain, condition * known], dim=2)

    def _check_strictly_causal(self) -> None:
        """Raises V2WError for models whose frames depend on later ones: they cannot be cached."""
        if not self.config.causal:
            raise V2WError("UNetConfig.causal", "True; only causal models can be cached", False)
        if self.config.norm_scope != "frame":
            rule = "frame; with statistics of the clip, earlier frames depend on later ones"
            raise V2WError("UNetConfig.norm_scope", rule, self.config.norm_scope)

    def _check(self, latents: Tensor, actions: Tensor | None, context: Context | None) -> None:
        c = self.config
        shape = list(latents.shape)
        if latents.ndim != 5 or shape[2] != c.in_channels:
            raise V2WError("x", f"shape [B, T, {c.in_channels}, H, W]", shape)
        factor = 2 ** (len(c.channel_mult) - 1)
        if shape[3] % factor or shape[4] % factor:
            raise V2WError("x", f"height and width multiples of {factor}", shape)
        if actions is not None and (c.action_dim is None or actions.shape[-1] != c.action_dim):
            raise V2WError("actions", f"width {c.action_dim}", list(actions.shape))
        if c.context_dim is not None and context is None:
            raise V2WError("context", f"tokens of width {c.context_dim}, which this model needs")

    def _res(self, channels: int, out_channels: int) -> ResBlock:
        c = self.config
        return ResBlock(
            channels,
            out_channels,
            4 * c.model_channels,
            dropout=c.dropout,
            causal=c.causal,
            kernel=c.temporal_kernel,
            norm_scope=c.norm_scope,
            norm_groups=c.norm_groups,
            num_temporal_convs=c.num_temporal_convs,
        )

    def _spatial(self, channels: int) -> SpatialTransformer:
        c = self.config
        return SpatialTransformer(
            channels,
            channels // c.head_dim,
            c.head_dim,
            norm_groups=c.norm_groups,
            context_dim=c.context_dim,
            image_context=c.image_context,
            ff_mult=c.ff_mult,
        )

    def _temporal(
        self, channels: int, *, heads: int | None = None, conv_projection: bool = False
    ) -> TemporalTransformer:
        c = self.config
        return TemporalTransformer(
            channels,
            heads or channels // c.head_dim,
            c.head_dim,
            causal=c.causal,
            norm_scope=c.norm_scope,
            norm_groups=c.norm_groups,
            ff_mult=c.ff_mult,
            two_attentions=c.two_temporal_attentions,
            conv_projection=conv_projection,
        )

    def _stage(self, channels: int, out_channels: int, level: int) -> Stage:
        layers: list[nn.Module] = [self._res(channels, out_channels)]
        if level in self.config.attention_levels:
            layers += [self._spatial(out_channels), self._temporal(out_channels)]
        return Stage(*layers)
