"""The terms of a plan's cost by name, with their weights and settings.

Commands, node parameters and goals all choose from these tables; ``planners.costs.compose`` makes
costs of them. A new term is a class here, an entry in the table of the goals that it serves, and a
function there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import ClassVar

from v2w_core.errors import V2WError

#: The largest weight of a term.
LARGEST_WEIGHT = 1000.0


@dataclass(frozen=True)
class Setting:
    """What is known of a number beside its value: unit, inclusive range, meaning."""

    unit: str
    low: float
    high: float
    text: str


def setting(default: float, unit: str, low: float, high: float, text: str) -> float:
    """A field of a term's settings."""
    number: float = field(default=default, metadata={"setting": Setting(unit, low, high, text)})
    return number


def weight(default: float, text: str) -> float:
    """The field ``weight`` of a term's settings."""
    return setting(default, "", 0.0, LARGEST_WEIGHT, f"{text}; 0 = off.")


def temperature(default: float, unit: str = "") -> float:
    """The field ``temperature`` of a term that is a distance at each step (see ``SoftMinimum``)."""
    text = "Small: only the nearest step of a sequence counts; large: the mean of all."
    return setting(default, unit, 1e-4, 100.0, text)


def final_weight(default: float) -> float:
    """The field ``final_weight`` of a term that is a distance at each step."""
    return setting(default, "", 0.0, 1.0, "Share that the last step has beside that.")


@dataclass(frozen=True)
class TermSettings:
    """The weight of a term (0 leaves it out without computing it) and its other settings.

    Raises:
        V2WError: a number out of the range that its field names.
    """

    name: ClassVar[str] = ""
    weight: float = weight(0.0, "Weight")

    def __post_init__(self) -> None:
        for name, about in self.settings().items():
            value = getattr(self, name)
            if not about.low <= value <= about.high:
                rule = f"within [{about.low:g}, {about.high:g}] {about.unit}".strip()
                raise V2WError(f"{self.name}.{name}", rule, value)

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """What is known of each field, by its name."""
        return {item.name: item.metadata["setting"] for item in fields(cls)}


@dataclass(frozen=True)
class GoalImageSettings(TermSettings):
    """Distance of imagined views to a goal image, as the model has learned it, or of latents."""

    name = "goal_image"
    weight: float = weight(
        1.0, "Learned distance to the goal image; of latents where none was learned"
    )
    temperature: float = temperature(0.1)
    final_weight: float = final_weight(0.0)


@dataclass(frozen=True)
class GoalImageLatentSettings(TermSettings):
    """Mean squared difference of imagined latents to those of a goal image."""

    name = "goal_image_latent"
    weight: float = weight(0.0, "Mean squared difference of latents to the goal image's")
    temperature: float = temperature(0.1)
    final_weight: float = final_weight(0.0)


@dataclass(frozen=True)
class GoalImagePixelSettings(TermSettings):
    """Difference of imagined frames to a goal image; every frame is decoded, which is slow."""

    name = "goal_image_pixel"
    weight: float = weight(0.0, "Difference of decoded pixels to the goal image's, slow")
    temperature: float = temperature(0.01)
    final_weight: float = final_weight(0.1)


@dataclass(frozen=True)
class GoalPoseSettings(TermSettings):
    """Distance of the poses that the actions lead to from a goal pose; nothing is imagined."""

    name = "goal_pose"
    weight: float = weight(1.0, "Distance to the goal pose")
    yaw_weight_m: float = setting(0.5, "m/rad", 0.0, 100.0, "Metres that a radian counts as.")
    temperature: float = temperature(0.2, "m")
    final_weight: float = final_weight(0.1)


@dataclass(frozen=True)
class SmoothnessSettings(TermSettings):
    """Mean squared change of the action from step to step, relative to half its range."""

    name = "smoothness"
    weight: float = weight(0.002, "Changes of the action from step to step")
    effort: float = setting(
        0.0, "", 0.0, 1000.0, "Weight in it of the mean squared distance of actions from zero."
    )


Terms = Mapping[str, TermSettings]


def _table(*terms: TermSettings) -> Terms:
    return MappingProxyType({term.name: term for term in terms})


#: The terms that a goal image's or a goal pose's cost can have, with the default settings.
IMAGE_GOAL_COSTS = _table(
    GoalImageSettings(), GoalImageLatentSettings(), GoalImagePixelSettings(), SmoothnessSettings()
)
POSE_GOAL_COSTS = _table(GoalPoseSettings(), SmoothnessSettings(weight=0.02))


def chosen_costs(words: Sequence[str], terms: Terms, field_name: str = "costs") -> Terms:
    """The named terms alone.

    Args:
        words: each NAME or NAME=WEIGHT; the weight without one is the table's, or 1 for a term
            that is off in the table.
        terms: what there is to choose from.
        field_name: of errors.

    Raises:
        V2WError: an unknown name, or a weight that is no number or out of range.
    """
    chosen: dict[str, TermSettings] = {}
    for word in words:
        name, _, given = word.partition("=")
        if name not in terms:
            raise V2WError(field_name, f"some of {', '.join(terms)}", name)
        number = terms[name].weight or 1.0
        if given:
            try:
                number = float(given)
            except ValueError as error:
                raise V2WError(field_name, "NAME or NAME=WEIGHT", word) from error
        chosen[name] = replace(terms[name], weight=number)
    return chosen
