"""Action spaces and frame formats of the released models' three domains.

Converters write episodes with these action spaces, and imported checkpoints have them, so that an
episode fits its model without an option. Each domain resizes images to 320x512 differently.
"""

from __future__ import annotations

import math

from v2w_core.data.csgo_actions import KEYS, MOUSE_X_BINS, MOUSE_Y_BINS
from v2w_core.spec import ActionSpec, ObservationSpec

#: RT-1's action: fields of the recorded dict in alphabetical order, as in the released model, with
#: the names, the unit and the largest magnitude of their entries.
RT1_FIELDS: dict[str, tuple[tuple[str, ...], str, float]] = {
    "base_displacement_vector": (("base_dx", "base_dy"), "m", 1.0),
    "base_displacement_vertical_rotation": (("base_dyaw",), "rad", math.pi),
    "gripper_closedness_action": (("gripper_closedness",), "1", 1.0),
    "rotation_delta": (("rotation_x", "rotation_y", "rotation_z"), "rad", math.pi / 2),
    "terminate_episode": (("terminate_0", "terminate_1", "terminate_2"), "1", 1.0),
    "world_vector": (("world_x", "world_y", "world_z"), "m", 2.0),
}

_RT1 = tuple((name, unit, bound) for names, unit, bound in RT1_FIELDS.values() for name in names)
#: 13 numbers at 3 Hz, not normalised.
RT1_ACTION = ActionSpec(
    names=tuple(name for name, _, _ in _RT1),
    units=tuple(unit for _, unit, _ in _RT1),
    low=tuple(-bound for _, _, bound in _RT1),
    high=tuple(bound for _, _, bound in _RT1),
    rate_hz=3.0,
    scale=(1.0,) * len(_RT1),
)

_CSGO = (
    *(f"key_{key}" for key in KEYS),
    *(f"mouse_x_{i}" for i in range(MOUSE_X_BINS)),
    *(f"mouse_y_{i}" for i in range(MOUSE_Y_BINS)),
)
#: 51 numbers, 0 or 1, at 16 Hz (:mod:`v2w_core.data.csgo_actions`).
CSGO_ACTION = ActionSpec(
    names=_CSGO,
    units=("1",) * len(_CSGO),
    low=(0.0,) * len(_CSGO),
    high=(1.0,) * len(_CSGO),
    rate_hz=16.0,
    scale=(1.0,) * len(_CSGO),
)

#: The released RECON model measures displacements in waypoints, normalised to -1..1.
WAYPOINT_SPACING_M = 0.25
_LOW, _HIGH = (-2.5, -4.0), (5.0, 4.0)
_PAIRS = tuple(zip(_LOW, _HIGH, strict=True))
#: (dx m, dy m, dyaw rad) at 4 Hz; dyaw is not normalised.
RECON_ACTION = ActionSpec(
    names=("dx", "dy", "dyaw"),
    units=("m", "m", "rad"),
    low=(*(a * WAYPOINT_SPACING_M for a in _LOW), -math.pi),
    high=(*(b * WAYPOINT_SPACING_M for b in _HIGH), math.pi),
    rate_hz=4.0,
    offset=(*((b + a) / 2 * WAYPOINT_SPACING_M for a, b in _PAIRS), 0.0),
    scale=(*((b - a) / 2 * WAYPOINT_SPACING_M for a, b in _PAIRS), 1.0),
)

#: 256x320 -> 320x400, black bars of 56 pixels left and right.
RT1_OBSERVATION = ObservationSpec(320, 512, "pad")
#: 150x280 -> 275x512 (a little narrower), black bars of 22 and 23 pixels above and below.
CSGO_OBSERVATION = ObservationSpec(320, 512, "pad", inner_size=(275, 512))
#: The centre of 4:3 -> 320x320, black bars of 96 pixels left and right.
RECON_OBSERVATION = ObservationSpec(320, 512, "pad", inner_size=(320, 320), crop_aspect=4 / 3)
