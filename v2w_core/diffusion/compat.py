"""Options that reproduce the sampling of the released code, for parity and for its checkpoints.

Where Vid2World's published code departs from its paper or from what we consider correct, the
departure is an option of :class:`CompatConfig`; docs/differences.md lists each with its measured
effect. As in that code, every denoising step computes the whole window; rollouts of our models use
a cache instead (:mod:`v2w_core.rollout.session`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CompatConfig:
    """Quirks of the released code. The defaults are ours; :data:`RELEASED` has theirs.

    Attributes:
        tokens_by_length: each frame gets its image tokens only if their number matches the clip's
            length (in training); otherwise every frame gets all tokens (short clips in sampling).
            Ours: a frame's tokens depend on its index alone.
        zero_first_action: frame 0 gets the embedding of a zero action vector. Ours: the null
            action.
        history_at_second_level: the history noise level is the second smallest sampling level
            (39 of 50 trailing steps; the paper says 20). Ours: ``history_level`` of the
            configuration.
        scaled_history: history is multiplied by the dynamic-rescale factor of its level, as in
            training. Theirs is not.
        clean_end: the last step ends at alpha-bar 1, without noise, and undoes dynamic rescale.
            Theirs ends at alpha-bar of level 0.
        rescale_over_history: guidance rescale matches the standard deviation of the whole window,
            history included. Ours: that of the frames being denoised.
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
