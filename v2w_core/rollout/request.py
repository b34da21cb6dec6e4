"""What a call of ``imagine`` asks for, checked and with nothing left open."""

from __future__ import annotations

from typing import NamedTuple

from numpy.typing import ArrayLike
from torch import Tensor

from v2w_core.errors import V2WError
from v2w_core.rollout.interfaces import History


class Asked(NamedTuple):
    """Actions [K, horizon, A] normalised, and how to sample; nothing is None any more."""

    actions: Tensor
    num_steps: int
    guidance_scale: float
    seed: int


def asked_for(
    session: History,
    candidates: ArrayLike,
    num_sampling_steps: int | None,
    guidance_scale: float | None,
    seed: int | None,
    bounds: bool,
    longest: int,
) -> Asked:
    """Checks a call of ``imagine`` and fills in the configuration's values.

    Args:
        longest: horizon.

    Raises:
        V2WError: see :meth:`Session.imagine`.
    """
    model = session.model
    spec, sampling = model.config.action, model.config.sampling
    actions = spec.validate(candidates, field="candidates", bounds=bounds)
    if actions.ndim != 3 or actions.shape[0] == 0:
        raise V2WError("candidates", "shape [K, horizon, A] with K >= 1", list(actions.shape))
    if actions.shape[1] > longest:
        rule = f"at most {longest} steps after {session.num_history} history frames"
        raise V2WError("candidates", rule, f"{actions.shape[1]} steps")
    return Asked(
        model.tensor(spec.normalise(actions)),
        sampling.num_steps if num_sampling_steps is None else num_sampling_steps,
        sampling.guidance_scale if guidance_scale is None else guidance_scale,
        session.seed if seed is None else seed,
    )
