"""An ablation that takes seconds."""

from __future__ import annotations

import dataclasses

from training.ablation.run import AblationConfig
from v2w_core.testing import tiny_config

CONFIG = tiny_config(size=16)
TINY = AblationConfig(
    pretrain_steps=4, finetune_steps=6, curve_every=2, batch_size=2, warmup_steps=2,
    curve_windows=4, choice_windows=4, score_windows=4, scales=(1.5, 2.0), model_channels=8,
    channel_mult=(1, 2), unlabelled=0.5, choice_episodes=0.5,
    sampling=dataclasses.replace(CONFIG.sampling, num_steps=2),
)  # fmt: skip
