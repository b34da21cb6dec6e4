"""The request behind a rollout, checked, with the configuration's values filled in."""

from __future__ import annotations

from typing import NamedTuple

from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import Session


class RolloutRequest(NamedTuple):
    """Actions [K, horizon, A], normalised, and how frames are sampled."""

    actions: Tensor
    num_steps: int
    guidance_scale: float
    seed: int


def resolve_request(
    session: Session,
    candidates: ArrayLike,
    *,
    num_sampling_steps: int | None,
    guidance_scale: float | None,
    seed: int | None,
    bounds: bool,
    max_horizon: int,
) -> RolloutRequest:
    """Checks the arguments of ``Session.rollout`` and replaces None by the configuration's values.

    Args:
        max_horizon: the longest horizon that this session can imagine.

    Raises:
        V2WError: see :meth:`v2w_core.rollout.session.Session.rollout`.
    """
    model = session.model
    spec, sampling = model.config.action, model.config.sampling
    actions = spec.validate(candidates, field="candidates", bounds=bounds)
    if actions.ndim != 3 or actions.shape[0] == 0:
        raise V2WError("candidates", "shape [K, horizon, A] with K >= 1", list(actions.shape))
    if actions.shape[1] > max_horizon:
        rule = f"at most {max_horizon} steps after {session.num_history} history frames"
        raise V2WError("candidates", rule, f"{actions.shape[1]} steps")
    return RolloutRequest(
        model.tensor(spec.normalise(actions)),
        sampling.num_steps if num_sampling_steps is None else num_sampling_steps,
        sampling.guidance_scale if guidance_scale is None else guidance_scale,
        session.seed if seed is None else seed,
    )
