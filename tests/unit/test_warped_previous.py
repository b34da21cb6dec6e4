"""The frame before, moved as the action moves the camera."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from core_toys import candidates, history, small_model

from v2w_core.config import WorldModelConfig
from v2w_core.errors import V2WError
from v2w_core.models.warped_previous import ConditionConfig, WarpedPrevious, frames_before
from v2w_core.spec import ActionSpec, ObservationSpec
from v2w_core.testing import PLANAR_4HZ, geometric_config, tiny_config
from v2w_core.world_model import WorldModel

FOV = (1.4, 1.1)
HEIGHT, WIDTH = 48, 64


def warp(picture, action, planes, spec=PLANAR_4HZ):
    """Channels [P, C + 1, h, w] of a picture [C, h, w] and a physical action [3]."""
    warped = WarpedPrevious(
        ConditionConfig(planes=planes), ObservationSpec(HEIGHT, WIDTH, fov_rad=FOV), spec
    )
    told = torch.from_numpy(spec.normalise(np.array(action)))[None, None]
    return warped(picture[None, None], told)[0, 0].unflatten(0, (len(planes), -1))


def rays():
    """Directions (1, left, up) of the picture's pixels, [h, w] each."""
    left = -math.tan(FOV[0] / 2) * ((2 * torch.arange(WIDTH) + 1) / WIDTH - 1)
    up = -math.tan(FOV[1] / 2) * ((2 * torch.arange(HEIGHT) + 1) / HEIGHT - 1)
    return torch.broadcast_tensors(left[None, :], up[:, None])


def far_away(yaw):
    """A smooth picture of what is infinitely far, seen by a camera of this heading."""
    left, up = rays()
    azimuth, elevation = yaw + torch.atan(left), up / (1 + left**2).sqrt()
    return torch.stack([torch.sin(5 * azimuth), torch.cos(7 * azimuth + 3 * elevation)])


def wall(x, y, yaw, distance, normal_yaw=0.0):
    """A wall with a smooth pattern, seen from a pose: its foot is ``distance`` along
    ``normal_yaw`` from the origin, and it faces the origin."""
    left, up = rays()
    cos, sin = math.cos(yaw), math.sin(yaw)
    east, north = cos - sin * left, sin + cos * left
    n = (math.cos(normal_yaw), math.sin(normal_yaw))
    depth = (distance - n[0] * x - n[1] * y) / (n[0] * east + n[1] * north)
    along = -n[1] * (x + depth * east) + n[0] * (y + depth * north)
    return torch.stack([torch.sin(2 * along), torch.cos(2.5 * depth * up + along)])


def compare(moved, expected):
    """Share that is covered, and largest difference where it is covered in full."""
    *latents, mask = moved
    full = mask > 0.999
    difference = (torch.stack(latents) - expected).abs().amax(dim=0)
    return float(full.float().mean()), float(difference[full].max())


@pytest.mark.parametrize("dyaw", [-0.4, 0.0, 0.25, 0.5])
def test_a_turn_moves_what_is_far_away_exactly(dyaw):
    moved = warp(far_away(0.3), (0.2, -0.1, dyaw), (None,))[0]
    covered, worst = compare(moved, far_away(0.3 + dyaw))
    assert worst < 0.02  # of interpolation between pixels
    assert covered > 0.9 - abs(dyaw) / FOV[0] * 1.4
    assert (dyaw == 0) == (covered > 0.99)


@pytest.mark.parametrize("action", [(0.4, 0.0, 0.0), (0.3, -0.2, 0.0), (0.3, 0.2, 0.3),
                                    (-0.2, 0.1, -0.4)])  # fmt: skip
def test_a_displacement_moves_a_wall_at_the_planes_depth_exactly(action):
    dx, dy, dyaw = action
    depth = 1.6  # in front of the new pose, in parallel to its picture
    facing = depth + math.cos(dyaw) * dx + math.sin(dyaw) * dy
    before, after = wall(0, 0, 0, facing, dyaw), wall(dx, dy, dyaw, facing, dyaw)
    right, wrong = (compare(warp(before, action, (d,))[0], after) for d in (depth, None))
    assert right[1] < 0.03 and right[0] > 0.4
    assert wrong[1] > 0.2


def test_left_is_left():
    """REP 103: a turn to the left moves the picture to the right; so does a step to the left."""
    picture = torch.zeros(1, HEIGHT, WIDTH)
    picture[:, :, WIDTH // 2 : WIDTH // 2 + 2] = 1
    turned = warp(picture, (0, 0, 0.2), (None,))[0]
    stepped = warp(picture, (0, 0.3, 0), (2.0,))[0]
    for moved in (turned, stepped):
        assert int(moved[0, HEIGHT // 2].argmax()) > WIDTH // 2 + 4
        assert moved[1, HEIGHT // 2, 0] == 0 and moved[1, HEIGHT // 2, -1] == 1
    ahead = warp(picture, (0.5, 0, 0), (1.0,))[0]
    assert ahead[1].min() > 0.999  # what comes nearer is seen whole


def test_channels_are_planes_of_latents_and_masks_and_zeros_where_nothing_is_known():
    planes = (None, 0.5, 4.0)
    picture = torch.randn(5, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    moved = warp(picture, (-0.25, 0.25, 0.5), planes)
    assert moved.shape == (3, 6, HEIGHT, WIDTH)
    assert ((moved[:, -1] >= 0) & (moved[:, -1] <= 1)).all()
    assert (moved[:, :-1] * (moved[:, -1:] == 0)).abs().max() == 0
    assert not torch.equal(moved[1], moved[2])
    behind = warp(picture, (-0.25, 0.0, math.pi), (None,))[0]
    assert behind.abs().max() == 0
    unmoved = warp(picture, (0.3, 0.1, 0.0), (None,))[0, :-1]
    torch.testing.assert_close(unmoved, picture, atol=1e-4, rtol=0)


def test_actions_are_taken_in_physical_units_and_by_their_names():
    picture = far_away(0.0)
    other = ActionSpec(
        names=("dyaw", "gripper", "dx", "dy"), units=("rad", "1", "m", "m"), rate_hz=4.0,
        low=(-1, 0, -1, -1), high=(1, 1, 1, 1), offset=(0.1, 0.5, 0.2, -0.3), scale=(0.3, 1, 2, 3),
    )  # fmt: skip
    plain = warp(picture, (0.3, -0.1, 0.2), (1.0,))
    torch.testing.assert_close(warp(picture, (0.2, 0.7, 0.3, -0.1), (1.0,), other), plain,
                               atol=1e-4, rtol=1e-4)  # fmt: skip


def test_before_the_first_frame_there_is_nothing():
    clips = torch.randn(2, 4, 3, 2, 2)
    before = frames_before(clips)
    assert before[:, 0].abs().max() == 0 and torch.equal(before[:, 1:], clips[:, :-1])


@torch.inference_mode()
def test_a_masked_action_takes_its_condition_along():
    model = small_model(geometric_config)
    x = torch.randn(2, 3, *model.config.input_shape)
    level, actions = torch.full((2, 3), 400), torch.randn(2, 3, 3)
    mask = torch.tensor([[False, True, False], [True, True, True]])
    changed = x.clone()
    changed[:, :, 4:] += 1
    before, after = (model.unet(given, level, actions, mask)[0] for given in (x, changed))
    assert torch.equal(before[0, 0], after[0, 0])  # nothing is known of the first two frames
    assert not torch.allclose(before[0, 1], after[0, 1])
    zeros = x.clone()
    zeros[0, [0, 2], 4:] = 0
    torch.testing.assert_close(model.unet(zeros, level, actions, mask)[0], before)


@torch.inference_mode()
def test_every_imagined_frame_is_given_the_one_before_it():
    """The newest frame of the history is seen by its condition alone: other latents of it, with
    the cache left as it is, change the first imagined frame."""
    model = small_model(geometric_config)
    session = model.start(*history(), seed=3)
    actions = candidates(2, 3)
    expected = session.imagine(actions).latents
    session.history = dataclasses.replace(session.history, latents=session.history.latents + 0.5)
    changed = session.imagine(actions).latents
    assert all(not torch.allclose(changed[:, t], expected[:, t], atol=1e-3) for t in range(3))


def test_a_camera_without_a_field_of_view_is_refused():
    config = geometric_config(size=16)
    with pytest.raises(V2WError, match=r"observation\.fov_rad: the camera's .* \(got none\)"):
        dataclasses.replace(config, observation=ObservationSpec(16, 16))
    for wrong in ((1.5,), (1.5, 0.0), (math.pi, 1.0), (float("nan"), 1.0)):
        with pytest.raises(V2WError, match="fov_rad"):
            ObservationSpec(16, 16, fov_rad=wrong)


@pytest.mark.parametrize(("changes", "field"), [
    ({"condition": None}, "unet.condition_channels"),
    ({"motion_head": False}, "unet.out_channels"),
    ({"condition": ConditionConfig(planes=(None,))}, "unet.condition_channels"),
])  # fmt: skip
def test_channels_that_do_not_fit_are_named(changes, field):
    with pytest.raises(V2WError, match=field):
        dataclasses.replace(geometric_config(size=16), **changes)


def test_planes_are_depths():
    for wrong in ((), (None, None), (0.0,), (-1.0, 2.0), (float("inf"),)):
        with pytest.raises(V2WError, match=r"condition\.planes"):
            ConditionConfig(planes=wrong)
    with pytest.raises(V2WError, match=r"condition\.kind"):
        ConditionConfig(kind="flow")


def test_actions_that_are_not_planar_move_no_camera():
    arm = ActionSpec(("a", "b", "c"), ("m",) * 3, (-1,) * 3, (1,) * 3, 5.0)
    with pytest.raises(V2WError, match=r"action\.names"):
        geometric_config(arm, 16)


def test_a_model_with_a_condition_is_saved_and_read(tmp_path):
    model = small_model(geometric_config)
    again = WorldModel.from_pretrained(model.save_pretrained(tmp_path / "model"))
    assert again.config == model.config
    assert again.config.condition.planes == (None, 2.0)
    expected, ours = (
        m.start(*history(), seed=1).imagine(candidates(2, 3)).latents for m in (model, again)
    )
    assert torch.equal(ours, expected)


def test_a_checkpoint_from_before_has_no_condition():
    old = tiny_config(size=16).to_dict()
    for name in ("condition", "motion_head"):
        del old[name]
    del old["unet"]["condition_channels"], old["observation"]["fov_rad"]
    assert WorldModelConfig.from_dict(old) == tiny_config(size=16)
