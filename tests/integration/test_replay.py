"""``v2w replay`` of bags and episodes with an untrained checkpoint."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from bagmaker import BagMaker, pose_at
from imagine_toys import files, save_checkpoint, save_episode, video

from v2w_core.cli import main
from v2w_core.errors import V2WError
from v2w_core.geometry import relative_motion
from v2w_core.replay.recording import read_recording
from v2w_core.replay.replay import choose_moments
from v2w_core.testing import geometric_config, tiny_config
from v2w_core.world_model import WorldModel

CONFIG = tiny_config()
SHARED = Path(os.environ.get("V2W_SHARED_DIR", Path(__file__).parents[2].parent / "shared"))
KITTI = SHARED / "data" / "kitti_bag_mcap" / "bag"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("replay")
    save_checkpoint(folder / "checkpoint")
    save_episode(folder / "episode.h5")
    save_episode(folder / "fast.h5", rate_hz=10.0)
    BagMaker(folder / "drive").drive(5.0).close()
    BagMaker(folder / "cut").drive(6.0, gap=(2.0, 2.9)).close()
    BagMaker(folder / "blind").drive(4.0, camera=None).close()
    BagMaker(folder / "lost").drive(4.0, odom=None).close()
    two = BagMaker(folder / "two").drive(2.0)
    two.drive(2.0, camera="/rear/image_raw", odom=None).close()
    pedals = ("throttle", "brake", "steer")
    other = dataclasses.replace(CONFIG.action, names=pedals)
    WorldModel.build(tiny_config(other)).save_pretrained(folder / "other")
    return folder


def replay(root, source, *arguments):
    return main(["replay", str(root / source), "--checkpoint", str(root / "checkpoint"),
                 *arguments])  # fmt: skip


@pytest.mark.slow
def test_a_bag_is_replayed(root, tmp_path, capsys):
    out = tmp_path / "out"
    result = tmp_path / "result.json"
    code = replay(root, "drive", "--every", "0.5", "--horizon", "6", "--out", str(out),
                  "--json", str(result))  # fmt: skip
    assert code == 0
    printed = capsys.readouterr()
    assert "copy dB" in printed.out
    assert "warning" not in printed.err  # the drive is within the bounds
    assert files(out) == ["metrics.json", "replay.mp4", "report.html"]
    numbers = json.loads(result.read_text())
    assert numbers == json.loads((out / "metrics.json").read_text())
    for name in ("psnr_per_step", "psnr_copy_per_step", "ssim_per_step"):
        assert len(numbers[name]) == 6
        assert np.isfinite(numbers[name]).all()
    times = [item["time_s"] for item in numbers["rollouts"]]
    np.testing.assert_allclose(np.diff(times), 0.5, atol=0.06)
    assert numbers["num_rollouts"] == len(times) == 6
    assert len(video(out / "replay.mp4")) == 6 * (4 + 6)
    page = (out / "report.html").read_text()
    assert page.count("<img") >= 3 + 6
    assert "data:video/mp4;base64" in page
    assert 'src="http' not in page


def test_actions_come_from_the_odometry(root):
    recording = read_recording(root / "drive", CONFIG.action, CONFIG.observation)
    (track,) = recording.tracks
    assert track.frames.shape[1:] == (32, 32, 3)
    step = relative_motion((0, 0, 0), pose_at(0.25))
    np.testing.assert_allclose(track.actions, np.tile(step, (len(track) - 1, 1)), atol=1e-3)
    np.testing.assert_allclose(np.diff(track.times_s), 0.25, atol=0.06)
    assert recording.share_outside == 0
    tight = dataclasses.replace(CONFIG.action, high=(0.01, 0.25, 0.5))
    assert read_recording(root / "drive", tight, CONFIG.observation).share_outside == 1


def test_rollouts_never_cross_a_gap(root):
    recording = read_recording(root / "cut", CONFIG.action, CONFIG.observation)
    assert len(recording.tracks) == 2
    moments = choose_moments(recording, 4, 3, every_s=0.25)
    assert {moment.track for moment in moments} == {0, 1}
    for moment in moments:
        assert 3 <= moment.index < len(recording.tracks[moment.track]) - 3
        assert not 1.3 < moment.time_s < 2.9 + 0.7
    few = choose_moments(recording, 4, 3, every_s=0.25, max_rollouts=3)
    assert len(few) == 3
    assert few[0] == moments[0]
    assert few[-1] == moments[-1]
    (named,) = choose_moments(recording, 4, 3, times_s=[4.02])
    assert abs(named.time_s - 4.02) <= 0.13
    with pytest.raises(V2WError, match="--times"):
        choose_moments(recording, 4, 3, times_s=[2.4])


def test_times_count_from_the_bags_first_image(root):
    spec, observation = CONFIG.action, CONFIG.observation
    recording = read_recording(root / "drive", spec, observation, start_s=2.0, end_s=4.0)
    (track,) = recording.tracks
    assert track.times_s[0] == pytest.approx(2.0, abs=0.01)
    assert track.times_s[-1] < 4.0


def test_an_episode_is_replayed_and_ends_can_be_left_out(root, tmp_path):
    out = tmp_path / "out"
    code = replay(root, "episode.h5", "--times", "1.5,1.75", "--start-s", "0.5", "--horizon", "4",
                  "--out", str(out))  # fmt: skip
    assert code == 0
    numbers = json.loads((out / "metrics.json").read_text())
    assert [item["time_s"] for item in numbers["rollouts"]] == [1.5, 1.75]
    assert numbers["num_frames"] == 14


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("drive", ("--rate-hz", "10"), "leave --rate-hz out"),
        ("drive", ("--horizon", "9"), "--horizon"),
        ("drive", ("--times", "0.1"), "--times"),
        ("drive", ("--times", "soon"), "--times"),
        ("drive", ("--times", "nan"), "--times"),
        ("drive", ("--every", "0"), "--every"),
        ("drive", ("--max-rollouts", "0"), "--max-rollouts"),
        ("drive", ("--end-s", "1.0"), "in a row"),
        ("drive", ("--start-s", "-1"), "--start-s"),
        ("drive", ("--start-s", "3", "--end-s", "2"), "--end-s"),
        ("drive", ("--image-topic", "/nowhere"), "/nowhere"),
        ("drive", ("--checkpoint", "{root}/other"), "checkpoint: action"),
        ("two", (), "/rear/image_raw"),
        ("blind", (), "camera"),
        ("lost", (), "odometry"),
        ("fast.h5", (), "rate_hz"),
        ("missing", (), "no such file"),
    ],
)
def test_bad_input_exits_with_2_and_writes_nothing(
    root, tmp_path, capsys, source, arguments, message
):
    filled = [item.format(root=root) for item in arguments]
    outputs = ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "result.json")]
    assert replay(root, source, *filled, *outputs) == 2
    assert message in capsys.readouterr().err
    assert files(tmp_path) == []


def test_the_spec_s_own_rate_may_be_named(root):
    spec = CONFIG.action
    read_recording(root / "drive", spec, CONFIG.observation, rate_hz=spec.rate_hz)


@pytest.mark.slow
@pytest.mark.skipif(not KITTI.exists(), reason=f"no {KITTI} (set V2W_SHARED_DIR)")
def test_a_real_recording_is_replayed_with_a_warning(root, tmp_path, capsys):
    result = tmp_path / "result.json"
    code = replay(root, KITTI, "--max-rollouts", "2", "--out", str(tmp_path / "out"),
                  "--json", str(result))  # fmt: skip
    assert code == 0
    assert "100% of the recorded actions are far outside" in capsys.readouterr().err
    assert json.loads(result.read_text())["num_rollouts"] == 2


def test_a_bag_that_needs_repair_is_replayed_as_it_is_converted(root, tmp_path, capsys):
    maker = BagMaker(tmp_path / "turned").drive(5.0, odom=None)
    for number in range(-2, 260):
        x, y, yaw = pose_at(number / 50)
        maker.odometry(1_700_000_000_000_000_000 + number * 20_000_000, (x, y, yaw - np.pi / 2))
    bag = maker.close()
    action, observation = CONFIG.action, CONFIG.observation
    told = read_recording(bag, action, observation)
    assert [notice.code for notice in told.notices] == ["sideways"]
    mended = read_recording(bag, action, observation, repairs={"yaw_offset_deg": 90.0})
    assert not mended.notices
    moved = relative_motion(pose_at(0.0), pose_at(1 / action.rate_hz))
    assert np.abs(mended.tracks[0].actions - moved).max() < 5e-3
    assert replay(root, "episode.h5", "--yaw-offset", "90", "--out", str(tmp_path / "x")) == 2
    assert "only for a bag" in capsys.readouterr().err


def test_a_model_with_a_motion_head_is_held_to_the_odometry(root, tmp_path, capsys):
    checkpoint = WorldModel.build(geometric_config()).save_pretrained(tmp_path / "geometric")
    result = tmp_path / "result.json"
    arguments = ["--checkpoint", str(checkpoint), "--horizon", "3", "--max-rollouts", "2",
                 "--out", str(tmp_path / "out"), "--json", str(result)]  # fmt: skip
    assert main(["replay", str(root / "drive"), *arguments]) == 0
    assert "displacement of a step is off by 0.0 cm" in capsys.readouterr().out
    numbers = json.loads(result.read_text())  # untrained: it believes the command, which is it
    assert numbers["motion_m"] == pytest.approx(0, abs=1e-6)
    assert len(numbers["motion_rad_per_step"]) == 3
