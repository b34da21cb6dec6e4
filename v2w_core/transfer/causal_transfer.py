"""A causal, action-guided model from video diffusion (Vid2World sections 4.1 and 4.2)."""

from __future__ import annotations

import dataclasses

from v2w_core.config import WorldModelConfig
from v2w_core.errors import V2WError
from v2w_core.transfer.weight_transfer import TransferMode, transfer_weights
from v2w_core.world_model import WorldModel

#: What a transferred U-Net may have otherwise than its base: no weight of the base depends on it.
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
    """The base's weights in a model of ``config``; only the action layers are new.

    Args:
        base: video diffusion that is not causal and knows no actions.
        config: of the result, of the same sizes as the base.
        mode: how temporal convolutions become causal.
        seed: of the action layers.
        window: frames that an extrapolation looks at.

    Raises:
        V2WError: the base is causal already, the result is not, or they differ in anything that
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
    """Raises V2WError for a model that is causal already."""
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
