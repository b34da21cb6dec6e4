"""v2w train from episodes to a checkpoint, in small."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import torch

from training.dataset import open_episodes
from v2w_core.cli import main
from v2w_core.data.episode import write_episode
from v2w_core.errors import DataError
from v2w_core.testing import PLANAR_4HZ
from v2w_core.world_model import WorldModel

QUICK = [
    "model=tiny",
    "observation.height=16",
    "observation.width=16",
    "autoencoder_loop.num_steps=3",
    "autoencoder_loop.batch_size=4",
    "world_model_loop.num_steps=3",
    "world_model_loop.batch_size=2",
    "goal_distance_loop.num_steps=3",
    "goal_distance_loop.batch_size=4",
    "goal_distance.num_windows=2",
    "threads=1",
]


#: How much farther the robot of the episodes moves than it is told, in metres and radians.
DRIFT = np.array([0.1, -0.05, 0.2], np.float32)


@pytest.fixture
def episodes(tmp_path: pathlib.Path) -> pathlib.Path:
    rng = np.random.default_rng(0)
    for number in range(3):
        frames = rng.integers(0, 255, (20, 24, 32, 3), dtype=np.uint8)
        actions = rng.uniform(-0.2, 0.2, (19, 3)).astype(np.float32)
        write_episode(
            tmp_path / "episodes" / f"{number}.h5",
            frames=frames,
            actions=actions,
            motion=actions + DRIFT,
            poses=np.zeros((20, 4)),
            stamps_ns=np.arange(20) * 250_000_000,
            action_spec=PLANAR_4HZ,
            source="test",
        )
    return tmp_path / "episodes"


@pytest.mark.slow
def test_train_writes_a_checkpoint_that_loads_and_fine_tunes(
    tmp_path: pathlib.Path, episodes: pathlib.Path
) -> None:
    out = tmp_path / "run"
    data = [f"data.train={episodes}", "data.val=null"]
    assert main(["train", *QUICK, *data, f"out={out}"]) == 0
    model = WorldModel.from_pretrained(out / "checkpoint")
    assert model.config.action == PLANAR_4HZ
    assert float(model.autoencoder.latent_std.min()) > 0
    card = (out / "checkpoint" / "README.md").read_text()
    for words in ("v2w train model=tiny", "seed", "psnr", "minutes"):
        assert words in card

    assert "goal_distance" in card and model.goal_distance is not None

    tuned = tmp_path / "tuned"
    extra = [f"init_from={out / 'checkpoint'}", f"out={tuned}"]
    assert main(["train", *QUICK, *data, *extra]) == 0
    assert WorldModel.from_pretrained(tuned / "checkpoint").config.unet == model.config.unet


def test_several_folders_are_read_as_one(tmp_path: pathlib.Path, episodes: pathlib.Path) -> None:
    one = open_episodes(episodes)
    both = open_episodes([episodes, str(episodes)])
    assert [e.path for e in both.episodes] == 2 * [e.path for e in one.episodes]
    (tmp_path / "empty").mkdir()
    for folders in ([], [episodes, tmp_path / "empty"]):
        with pytest.raises(DataError, match="episodes"):
            open_episodes(folders)


GEOMETRIC = [
    "+model.condition={kind: warped_previous, planes: [null, 1.0]}",
    "+model.motion_head=true",
    "observation.fov_rad=[1.5, 1.2]",
    "objective.forced_probability=1",
    "objective.imagined_past_probability=1",
    "objective.imagined_past_after=0",
    "objective.self_rollout_depth=3",
    "objective.self_rollout_gradient_passes=1",
    "objective.displacement_probability=0.5",
]


@pytest.mark.slow
def test_a_model_that_uses_geometry_is_trained_to_a_checkpoint(
    tmp_path: pathlib.Path, episodes: pathlib.Path
) -> None:
    out = tmp_path / "run"
    data = [f"data.train={episodes}", "data.val=null", f"out={out}"]
    assert main(["train", *QUICK, *data, *GEOMETRIC]) == 0
    model = WorldModel.from_pretrained(out / "checkpoint")
    assert model.condition is not None and model.motion_head is not None
    assert model.config.unet.in_channels == 4 + 2 * 5 and model.config.unet.out_channels == 4 + 6
    assert "motion_m" in (out / "checkpoint" / "README.md").read_text()


@pytest.mark.slow
def test_the_motion_head_learns_the_displacement_and_not_the_command(
    episodes: pathlib.Path,
) -> None:
    from training.dataset import load_clips
    from training.tasks import WorldModelTask, measured_actions
    from v2w_core.diffusion.objective import ObjectiveConfig
    from v2w_core.testing import geometric_config

    model = WorldModel.build(geometric_config(size=16))
    clips = load_clips(episodes, model.config.observation)
    inside = np.delete(np.arange(len(clips.frames)), clips.starts[1:] - 1)
    moved = measured_actions(clips) - clips.actions
    np.testing.assert_allclose(moved[inside], np.tile(DRIFT, (len(inside), 1)), atol=1e-6)
    objective = ObjectiveConfig(forced_probability=1, motion_weight=1.0, action_dropout=0.0)
    task = WorldModelTask(model, clips, clips, 8, objective)
    before = task.validate(num_windows=8)
    optimizer = torch.optim.Adam(model.unet.parameters(), lr=1e-2)
    for step in range(40):
        optimizer.zero_grad()
        task.loss(torch.Generator().manual_seed(step), 0.0)[0].backward()
        optimizer.step()
    after = task.validate(num_windows=8)
    assert before["motion_rad"] == pytest.approx(DRIFT[2], rel=1e-3)
    assert after["motion_m"] < 0.5 * before["motion_m"]
    assert after["motion_rad"] < 0.5 * before["motion_rad"]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("no_such_key=1", "no_such_key"),
        ("world_model_loop.precision=float8", "precision"),
        ("stages=[dance]", "stages"),
        ("data.train=/nowhere", "/nowhere"),
        ("world_model_loop.nonsense=1", "nonsense"),
        ("+model.condition={kind: warped_previous}", "observation.fov_rad"),
        ("objective.self_rollout_depth=0", "self_rollout_depth"),
    ],
)
def test_bad_settings_exit_with_2_and_name_the_key(
    tmp_path: pathlib.Path,
    episodes: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    override: str,
    named: str,
) -> None:
    base = [*QUICK, f"data.train={episodes}", "data.val=null", f"out={tmp_path / 'run'}"]
    assert main(["train", *base, override]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.parametrize(("given", "chosen"), [([], []), (["threads=3"], [3])])
def test_threads_are_those_of_the_settings_or_the_environment(given, chosen, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert main(["train", "data.train=no/such/folder", *given]) == 2
    assert asked == chosen
