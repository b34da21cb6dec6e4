"""How candidates are imagined, and what nodes and commands use unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from v2w_core.errors import V2WError

#: Screening: no less success than with all candidates imagined to the end, in little more than half
#: of the time (docs/performance.md).
SCREENING_FRACTION, SCREENING_HORIZON = 0.25, 2


@dataclass(frozen=True)
class ImaginationSettings:
    """How candidates are imagined.

    Args:
        num_sampling_steps: denoising steps a frame; None: the model's own default.
        guidance_scale: action guidance; None: the model's own default.
        screening_fraction: below 1, all candidates are first imagined coarsely, and only this share
            of them in full; the others rank behind those. Costs that imagine nothing are not
            screened.
        screening_horizon: steps of the coarse look; None: all.
        screening_steps: denoising steps a frame of the coarse look; None: as in full. Where they
            are the same, the chosen go on instead of starting again.
    """

    num_sampling_steps: int | None = None
    guidance_scale: float | None = None
    screening_fraction: float = 1.0
    screening_horizon: int | None = None
    screening_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_sampling_steps", "screening_horizon", "screening_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise V2WError(name, "at least 1", value)
        if not 0 < self.screening_fraction <= 1:
            raise V2WError("screening_fraction", "above 0, at most 1", self.screening_fraction)
        if (
            self.screening_fraction < 1
            and self.screening_horizon is None
            and self.screening_steps is None
        ):
            rule = "below 1 only with a screening_horizon or screening_steps"
            raise V2WError("screening_fraction", rule, self.screening_fraction)

    def screens(self, horizon: int) -> bool:
        """Whether plans of this horizon are looked at coarsely first."""
        shorter = self.screening_horizon is not None and self.screening_horizon < horizon
        return self.screening_fraction < 1 and (shorter or self.screening_steps is not None)


#: What nodes and commands use unless told otherwise.
SCREENED = ImaginationSettings(
    screening_fraction=SCREENING_FRACTION, screening_horizon=SCREENING_HORIZON
)
