"""Episodes in memory for training: actions, motion and contact of each frame, mixtures refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.dataset import Clips, load_clips, open_episodes
from training.evaluation.prediction import read_episodes
from training.goal_distance import episode_poses
from training.train import open_data
from v2w_core.data.episode import write_episode
from v2w_core.errors import DataError
from v2w_core.geometry import integrate_actions
from v2w_core.spec import ActionSpec, ObservationSpec

SPEC = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-1,) * 3, (1,) * 3, 4.0)
ARM = ActionSpec(("lift",), ("1",), (-1,), (1,), 4.0)


def write(
    folder: Path, name: str, length: int = 5, spec: ActionSpec = SPEC, **more: object
) -> None:
    rng = np.random.default_rng(length)
    write_episode(
        folder / f"{name}.h5", frames=np.zeros((length, 16, 16, 3), np.uint8),
        actions=rng.uniform(-1, 1, (length - 1, spec.dim)), poses=np.zeros((length, 4)),
        stamps_ns=np.arange(length), action_spec=spec, source="test", **more,
    )  # fmt: skip


def clips(folder: Path) -> Clips:
    return load_clips(folder, ObservationSpec(16, 16))


def test_each_frame_has_the_motion_and_the_contact_that_follow(tmp_path: Path) -> None:
    for name, length in (("a", 5), ("b", 3)):
        motion = np.full((length - 1, 3), length / 10)
        write(tmp_path, name, length, motion=motion, contact=np.ones(length - 1, bool))
    found = clips(tmp_path)
    assert found.has_commands
    assert found.motion is not None and found.contact is not None
    assert found.motion.dtype == np.float32 and found.contact.dtype == np.bool_
    assert found.motion[:, 0].tolist() == pytest.approx([0.5] * 4 + [0.0] + [0.3] * 2 + [0.0])
    assert found.contact.tolist() == [True] * 4 + [False] + [True] * 2 + [False]
    assert not np.allclose(found.actions[:4], found.motion[:4])


def test_without_commands_motion_is_the_action_and_contact_is_unknown(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", contact=np.zeros(4, bool))
    found = clips(tmp_path)
    assert not found.has_commands and found.contact is None
    assert np.array_equal(found.motion, found.actions)


def test_actions_that_are_not_planar_have_no_motion(tmp_path: Path) -> None:
    write(tmp_path, "a", spec=ARM)
    assert clips(tmp_path).motion is None


def test_poses_for_goal_distances_come_from_the_motion(tmp_path: Path) -> None:
    motion = np.tile([0.1, 0.0, 0.2], (4, 1))
    write(tmp_path, "a", motion=motion)
    assert np.allclose(episode_poses(clips(tmp_path)), integrate_actions(motion, (0.0, 0.0, 0.0)))


def test_mixtures_are_refused_wherever_episodes_are_read(tmp_path: Path) -> None:
    write(tmp_path / "told", "a", motion=np.zeros((4, 3)))
    write(tmp_path / "did", "b")
    for name in ("a", "b"):
        write(tmp_path / "both", name, **({"motion": np.zeros((4, 3))} if name == "a" else {}))
    mixture = r"a\.h5 has commands.*b\.h5 has none"
    with pytest.raises(DataError, match=mixture):
        open_episodes(tmp_path / "both")
    with pytest.raises(DataError, match=mixture):
        read_episodes(tmp_path / "both", SPEC)
    with pytest.raises(DataError, match=mixture):
        open_data({"train": tmp_path / "told", "val": tmp_path / "did"})
    assert len(open_episodes(tmp_path / "told").episodes) == 1
