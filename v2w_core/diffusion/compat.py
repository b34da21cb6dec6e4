"""The released code's ways of sampling, for parity and for its checkpoints.

Where Vid2World's published code departs from its paper or from what we hold right, the departure
is an option of :class:`CompatConfig`; docs/differences.md lists each with its measured effect. The
whole window is computed anew for every denoising step, as there; our rollouts use a cache instead
(:mod:`v2w_core.rollout.session`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CompatConfig:
    """Quirks of the released code. The defaults are ours; :data:`RELEASED` has theirs.

    Attributes:
        tokens_by_length: image tokens go to their own frame only when there are just enough of
            them for the clip (training), else all of them to every frame (short clips while
            sampling). Ours: a frame's tokens depend on its index alone.
        zero_first_action: frame 0 is told the embedding of a zero action vector. Ours: none.
        history_at_second_level: history is held at the second smallest sampling level (39 of 50
            trailing steps; the paper says 20). Ours: ``history_level`` of the configuration.
        scaled_history: history is multiplied by the dynamic-rescale factor of its level, as in
            training. Theirs is not.
        clean_end: the last step ends at alpha-bar 1, without noise, and with dynamic rescale
            undone. Theirs ends at alpha-bar of level 0.
        rescale_over_history: guidance's rescaling restores the spread of the whole window, history
            included. Ours: that of the frames being denoised.
    """

    tokens_by_length: bool = False
    zero_first_action: bool = False
    history_at_second_level: bool = False
    scaled_history: bool = True
    clean_end: bool = True
    rescale_over_history: bool = False


RELEASED = CompatConfig(
    tokens_by_length=True,
    zero_first_action=True,
    history_at_second_level=True,
    scaled_history=False,
    clean_end=False,
    rescale_over_history=True,
)
