"""Transfer of a video-diffusion model to a causal world model (Vid2World, 4.1 and 4.2)."""

from __future__ import annotations

import dataclasses

from v2w_core.config import WorldModelConfig
from v2w_core.errors import V2WError
from v2w_core.transfer.weight_transfer import TransferMode, transfer_weights
from v2w_core.world_model import WorldModel

#: Options of the U-Net that may differ from the base's: no weight of the base depends on them.
_FREE = frozenset(
    {"causal", "action_dim", "multi_hot_actions", "norm_scope", "height_causal_out",
     "frame_stride", "dropout"}
)  # fmt: skip


def causal_model(
    base: WorldModel,
    config: WorldModelConfig,
    mode: TransferMode,
    seed: int = 0,
    *,
    window: int = 2,
) -> WorldModel:
    """A causal model of ``config`` with the base's weights; only the action layers are new.

    Args:
        base: non-causal video-diffusion model without actions.
        config: configuration of the result, with the base's sizes.
        mode: how temporal convolutions become causal.
        seed: seed of the new action layers.
        window: number of frames that ``extrapolative`` fits a line to.

    Raises:
        V2WError: the base is already causal, ``config`` is not, or they differ in an option that
            the weights depend on.
    """
    check_transfer(base.config, config)
    model = WorldModel.build(config, seed)
    state = {k: v for k, v in base.state_dict().items() if not k.startswith("unet.")}
    height_too = config.unet.height_causal_out
    unet = transfer_weights(base.unet.state_dict(), mode, window=window, height_too=height_too)
    state.update({f"unet.{name}": weight for name, weight in unet.items()})
    missing, unexpected = model.load_state_dict(state, strict=False)
    added = [k for k in missing if not k.startswith(("unet.action_embed.", "goal_distance."))]
    assert not added and not unexpected, (added, unexpected)
    return model


def check_base(base: WorldModelConfig) -> None:
    """Raises V2WError if the model is already causal."""
    if base.unet.causal:
        rule = "a base that is not causal; this one is: fine-tune it without transfer"
        raise V2WError("transfer", rule, "unet.causal: True")


def check_transfer(base: WorldModelConfig, config: WorldModelConfig) -> None:
    """Raises V2WError unless the weights of ``base`` can become those of ``config``."""
    check_base(base)
    if not config.action_guided:
        rule = "True, with action_dim: a transfer makes a causal model with actions"
        raise V2WError("model.unet.causal", rule, (config.unet.causal, config.unet.action_dim))
    for part in ("autoencoder", "diffusion", "context"):
        if getattr(base, part) != getattr(config, part):
            raise V2WError(f"model.{part}", f"the base's {getattr(base, part)}",
                           getattr(config, part))  # fmt: skip
    for name in (f.name for f in dataclasses.fields(base.unet)):
        before, after = getattr(base.unet, name), getattr(config.unet, name)
        if name not in _FREE and before != after:
            raise V2WError(f"model.unet.{name}", f"the base's {before}", after)
    if (base.unet.frame_stride is None) != (config.unet.frame_stride is None):
        rule = "set exactly when the base's is (any value)"
        raise V2WError("model.unet.frame_stride", rule, config.unet.frame_stride)
