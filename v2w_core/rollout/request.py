"""The request behind a rollout, checked, with the configuration's values filled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import Session


class RolloutRequest(NamedTuple):
    """Actions [K, horizon, A], normalised, and how frames are sampled from them."""

    actions: Tensor
    num_steps: int
    guidance_scale: float
    seed: int
    interrupt: Callable[[], bool] | None


def resolve_request(
    session: Session,
    candidates: ArrayLike,
    max_horizon: int,
    *,
    num_sampling_steps: int | None,
    guidance_scale: float | None,
    seed: int | None,
    batch_size: int | None,
    bounds: bool,
    interrupt: Callable[[], bool] | None,
) -> RolloutRequest:
    """Checks the arguments of ``rollout`` and replaces None; see ``Session.rollout``."""
    spec, sampling = session.model.config.action, session.model.config.sampling
    actions = spec.validate(candidates, field="candidates", bounds=bounds)
    if actions.ndim != 3 or actions.shape[0] == 0:
        raise V2WError("candidates", "shape [K, horizon, A] with K >= 1", list(actions.shape))
    if actions.shape[1] > max_horizon:
        rule = f"at most {max_horizon} steps after {session.num_history} history frames"
        raise V2WError("candidates", rule, f"{actions.shape[1]} steps")
    if batch_size is not None and batch_size < 1:
        raise V2WError("batch_size", "at least 1", batch_size)
    return RolloutRequest(
        session.model.tensor(spec.normalise(actions)),
        sampling.num_steps if num_sampling_steps is None else num_sampling_steps,
        sampling.guidance_scale if guidance_scale is None else guidance_scale,
        session.seed if seed is None else seed,
        interrupt,
    )
