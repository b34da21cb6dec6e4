"""v2w convert and v2w data: bags of every container, every bad input, and real recordings."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from bagmaker import HEIGHT, START_NS, WIDTH, BagMaker, picture, pose_at
from convert_toys import SHARED, converted, fails

from v2w_core.cli import main
from v2w_core.data.convert import convert
from v2w_core.data.episode import list_episodes, read_episode
from v2w_core.data.sources.bag import read_bag, scan_bag
from v2w_core.data.sources.kinds import KINDS
from v2w_core.errors import DataError
from v2w_core.geometry import integrate_actions, planar, relative_motion
from v2w_core.metrics.image import psnr
from v2w_core.spec import ObservationSpec

KITTI = SHARED / "data" / "kitti_bag_mcap" / "bag"
NAV2 = SHARED / "data" / "nav2_turtlebot_odom_mcap"


def shown(frame: np.ndarray) -> int:
    """The number that a picture shows."""
    return round((float(frame[4:-4, WIDTH // 2 + 8 : -4, 1].mean()) - 10) / 4)


@pytest.mark.parametrize("kind", ["sqlite3", "mcap", "ros1"])
@pytest.mark.parametrize("encoding", ["rgb8", "jpeg"])
def test_every_container_raw_and_compressed(tmp_path: Path, kind: str, encoding: str) -> None:
    bag = BagMaker(tmp_path / "drive", kind).drive(encoding=encoding).close()
    out = tmp_path / "out"
    assert main(["convert", str(bag), str(out), "--json", str(tmp_path / "s.json")]) == 0
    (path,) = list_episodes(out)
    episode = read_episode(path)
    assert episode.action_spec.names == ("dx", "dy", "dyaw")
    assert episode.action_spec.rate_hz == 4.0
    assert episode.image_size == (HEIGHT, WIDTH)
    assert len(episode) == 12
    # 20 Hz camera at 4 Hz: every fifth image, and its own stamp.
    assert [shown(frame) for frame in episode.frames()] == list(range(0, 60, 5))
    assert (np.diff(episode.stamps_ns) == 250_000_000).all()
    exact = [pose_at(i / 4) for i in range(12)]
    assert np.abs(planar(episode.poses) - exact).max() < 1e-3
    assert episode.poses[:, 2] == pytest.approx(0.25)
    assert episode.actions[3] == pytest.approx(relative_motion(exact[3], exact[4]), abs=2e-3)
    path_again = integrate_actions(episode.actions, planar(episode.poses)[0])
    assert path_again == pytest.approx(planar(episode.poses), abs=1e-5)
    assert (episode.actions > episode.action_spec.low).all()
    assert (episode.actions < episode.action_spec.high).all()
    assert json.loads((tmp_path / "s.json").read_text())["frames"] == [12]


@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_bare_file_without_metadata(tmp_path: Path, kind: str) -> None:
    bag = BagMaker(tmp_path / "drive", kind).drive().close()
    (bag / "metadata.yaml").unlink()
    (bare,) = (item for item in bag.iterdir() if item.suffix in (".mcap", ".db3"))
    assert len(read_bag(bare)) == 12
    assert len(read_bag(bag)) == 12  # a folder with only that file in it


def test_read_bag_resizes_and_keeps_colours(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(encoding="png").close()
    recording = read_bag(bag, rate_hz=10.0, observation=ObservationSpec(16, 24))
    assert recording.frames.shape == (30, 16, 24, 3)
    assert recording.actions.shape == (29, 3)
    assert recording.image_topic == "/camera/image_raw"
    assert recording.action_spec.is_planar
    assert tuple(recording.frames[0, 8, 3]) == (200, 0, 0)


def _bayer(red: int, green: int, blue: int) -> np.ndarray:
    pattern = np.empty((HEIGHT, WIDTH), dtype=np.uint8)
    pattern[0::2, 0::2], pattern[1::2, 1::2] = red, blue
    pattern[0::2, 1::2] = pattern[1::2, 0::2] = green
    return pattern


_COLOUR = np.full((HEIGHT, WIDTH, 3), (200, 120, 40), dtype=np.uint8)
_ALPHA = np.full((HEIGHT, WIDTH, 1), 255, dtype=np.uint8)


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        ("rgb8", _COLOUR, (200, 120, 40)),
        ("bgr8", _COLOUR[..., ::-1], (200, 120, 40)),
        ("rgba8", np.concatenate([_COLOUR, _ALPHA], axis=2), (200, 120, 40)),
        ("bgra8", np.concatenate([_COLOUR[..., ::-1], _ALPHA], axis=2), (200, 120, 40)),
        ("mono8", _COLOUR[..., 0], (200, 200, 200)),
        ("mono16", np.full((HEIGHT, WIDTH), 200 * 257 + 17, dtype="<u2"), (200, 200, 200)),
        ("bayer_rggb8", _bayer(200, 120, 40), (200, 120, 40)),
        ("bayer_bggr8", _bayer(40, 120, 200), (200, 120, 40)),
        ("bayer_gbrg8", np.roll(_bayer(200, 120, 40), 1, axis=0), (200, 120, 40)),
        ("bayer_grbg8", np.roll(_bayer(200, 120, 40), 1, axis=1), (200, 120, 40)),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, data: np.ndarray, expected: tuple) -> None:
    maker = BagMaker(tmp_path / "drive").drive(seconds=1.0, camera=None)
    for number in range(4):
        maker.image(START_NS + number * 250_000_000, encoding=encoding, data=data)
    frame = read_bag(maker.close()).frames[0]
    assert tuple(frame[HEIGHT // 2, WIDTH // 2]) == expected


def test_gaps_cut_the_recording(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(seconds=6.0, gap=(2.0, 3.0)).close()
    out = tmp_path / "out"
    assert main(["convert", str(bag), str(out)]) == 0
    first, second = (read_episode(path) for path in list_episodes(out))
    assert (len(first), len(second)) == (8, 12)
    assert shown(second.frames(0, 1)[0]) == 0  # image 60 shows 60 % 60
    assert first.action_spec == second.action_spec
    bridged = scan_bag(bag, max_gap_s=2.0)
    assert [len(part) for part in bridged.segments] == [21]
    assert np.abs(bridged.segments[0].actions).max() > 0.6  # one long step across the gap


def test_silent_odometry_cuts_the_recording(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(seconds=6.0, odom_gap=(2.0, 4.0)).close()
    lengths = [len(part) for part in scan_bag(bag).segments]
    assert lengths == [8, 8]


def test_native_rate_with_jitter_keeps_every_image(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(image_hz=10.0, jitter_s=0.03).close()
    (part,) = scan_bag(bag, rate_hz=10.0).segments
    assert list(part.indices) == list(range(30))


def test_start_and_end(tmp_path: Path) -> None:
    bag = BagMaker(tmp_path / "drive").drive(image_hz=10.0).close()
    head = scan_bag(bag, rate_hz=10.0, end_s=1.95).segments[0]
    tail = scan_bag(bag, rate_hz=10.0, start_s=1.95).segments[0]
    assert [len(head), len(tail)] == [20, 10]
    assert head.stamps_ns[-1] < tail.stamps_ns[0]


def test_raw_and_compressed_of_one_camera_is_no_ambiguity(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive()
    maker.drive(camera="/camera/image_raw/compressed", encoding="jpeg", odom=None)
    assert scan_bag(maker.close()).image_topic == "/camera/image_raw"


def test_two_cameras_none_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = BagMaker(tmp_path / "drive").drive().drive(camera="/rear/image_raw", odom=None).close()
    out = tmp_path / "out"
    message = fails(capsys, str(bag), str(out))
    assert "/camera/image_raw" in message
    assert "/rear/image_raw" in message
    assert "--image-topic" in message
    assert main(["convert", str(bag), str(out), "--image-topic", "/rear/image_raw"]) == 0
    assert "/nothing" in fails(capsys, bag, tmp_path / "no", "--image-topic", "/nothing")


def test_poses_must_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = BagMaker(tmp_path / "drive").drive(odom=None)
    for number in range(160):
        at = number / 50
        maker.odometry(START_NS + round(at * 1e9), pose_at(at), topic="/pose", as_pose=True)
    bag, out = maker.close(), tmp_path / "out"
    assert "no odometry topic" in fails(capsys, str(bag), str(out))
    assert len(read_bag(bag, odom_topic="/pose")) == 12


def test_no_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag, out = BagMaker(tmp_path / "drive").drive(camera=None).close(), tmp_path / "out"
    message = fails(capsys, str(bag), str(out))
    assert "no camera topic" in message
    assert "/odom" in message


@pytest.mark.parametrize("kind", ["mcap", "ros1"])
def test_of_a_file_that_is_cut_off_what_is_there_is_read(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = BagMaker(tmp_path / "drive", kind).drive(seconds=12.0).close()
    file = bag if kind == "ros1" else next(i for i in bag.iterdir() if i.suffix != ".yaml")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    out = tmp_path / "out"
    assert main(["convert", str(bag), str(out)]) == 0
    assert "ends in the middle" in capsys.readouterr().err
    episode = read_episode(list_episodes(out)[0])
    assert 18 <= len(episode) <= 26
    assert episode.attributes["warnings"][0]["code"] == "file_cut"


def test_of_a_database_that_is_cut_off_what_is_there_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = BagMaker(tmp_path / "drive", "sqlite3").drive(seconds=12.0).close()
    file = next(i for i in bag.iterdir() if i.suffix != ".yaml")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    (episode,) = converted(bag, tmp_path / "out")
    assert 20 <= len(episode) <= 26
    assert "damaged or cut off" in capsys.readouterr().err
    file.write_bytes(whole[: len(whole) // 200])
    message = fails(capsys, str(bag), str(tmp_path / "none"))
    assert "complete bag" in message and ".recover" in message


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "octopus", ""])
def test_unknown_encoding(
    tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = BagMaker(tmp_path / "drive").drive(encoding=encoding).close(), tmp_path / "out"
    message = fails(capsys, str(bag), str(out))
    assert "encoding" in message
    assert ("depth" in message) == encoding.endswith("C1")


def test_image_size_that_does_not_fit(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive(camera=None)
    for number in range(4):
        maker.image(START_NS + number * 250_000_000, encoding="rgb8", data=picture(0)[..., 0])
    with pytest.raises(DataError, match="step"):
        read_bag(maker.close())


def test_damaged_jpeg_is_a_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = BagMaker(tmp_path / "drive").drive(seconds=2.0, encoding="jpeg", image_hz=4.0)
    stamp, topic, raw = maker.pending[5]
    maker.pending[5] = (stamp, topic, raw[:-40] + bytes(40))
    bag, out = maker.close(), tmp_path / "out"
    assert main(["convert", str(bag), str(out)]) == 0
    assert "1 of 8 images are left out: cut off at 1.25 s" in capsys.readouterr().err
    assert [len(read_episode(path)) for path in list_episodes(out)] == [5, 2]


@pytest.mark.parametrize("topic", ["images", "odometry"])
def test_a_late_message_is_sorted_in(
    tmp_path: Path, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / topic).drive()
    if topic == "images":
        maker.image(START_NS + 10**9, delay_ns=5 * 10**9)
    else:
        maker.odometry(START_NS + 10**9, (0.0, 0.0, 0.0), delay_ns=5 * 10**9)
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert np.abs(planar(episode.poses) - [pose_at(i / 4) for i in range(12)]).max() < 1e-3
    message = capsys.readouterr().err
    assert "out of order" in message
    assert ("/odom" if topic == "odometry" else "/camera") in message


@pytest.mark.parametrize("pose", [(1e200, 0.0, 0.0), (0.0, -2e6, 0.0), (0.0, math.nan, 0.0)])
def test_a_pose_of_no_use_is_left_out(
    tmp_path: Path, pose, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BagMaker(tmp_path / "drive").drive()
    maker.odometry(START_NS + 1_010_000_000, pose)
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert np.abs(planar(episode.poses) - [pose_at(i / 4) for i in range(12)]).max() < 1e-3
    assert "1 with numbers that are not finite or far too large" in capsys.readouterr().err


def test_a_stamp_that_is_none_costs_its_message_only(tmp_path: Path) -> None:
    maker = BagMaker(tmp_path / "drive").drive()
    stamp, topic, raw = maker.pending[-1]
    maker.pending[-1] = (stamp, topic, raw[:8] + bytes([255] * 4) + raw[12:])
    (episode,) = converted(maker.close(), tmp_path / "out")
    assert np.abs(planar(episode.poses) - [pose_at(i / 4) for i in range(12)]).max() < 1e-3


def test_no_time_in_common(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = BagMaker(tmp_path / "drive").drive(odom=None)
    for number in range(20):
        maker.odometry(START_NS + (600 + number) * 10**9, (0.0, 0.0, 0.0))
    bag, out = maker.close(), tmp_path / "out"
    assert "same clock" in fails(capsys, str(bag), str(out))


def test_stamps_never_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = BagMaker(tmp_path / "drive").drive(camera=None)
    for number in range(40):
        maker.image(0, number, delay_ns=START_NS + number * 50_000_000)
    bag, out = maker.close(), tmp_path / "out"
    message = fails(capsys, str(bag), str(out), "--stamps", "header")
    assert "--stamps receive" in message
    (episode,) = converted(bag, out)
    assert [shown(frame) for frame in episode.frames()] == list(range(0, 40, 5))
    assert "receive stamps are used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate-hz", "50"], "rate_hz"),
        (["--rate-hz", "nan"], "rate_hz"),
        (["--rate-hz", "-1"], "rate_hz"),
        (["--image-size", "64"], "image-size"),
        (["--max-gap-s", "0"], "max_gap_s"),
        (["--quality", "0"], "quality"),
        (["--min-frames", "99"], "at most 12 in a row"),
        (["--start-s", "100"], "start_s"),
        (["--action-low", "1", "1", "1", "--action-high", "0", "2", "2"], "low"),
    ],
)
def test_bad_options(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out = BagMaker(tmp_path / "drive").drive().close(), tmp_path / "out"
    assert message in fails(capsys, str(bag), str(out), *options)


def test_not_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    notes = tmp_path / "notes.mcap"
    notes.write_bytes(b"\x80\x04\x95cposix\nsystem\n(S'touch owned'\ntR.")
    assert "complete bag" in fails(capsys, str(notes), str(out))
    assert "no such file" in fails(capsys, str(tmp_path / "absent"), str(out))
    (tmp_path / "empty").mkdir()
    assert "without any of these" in fails(capsys, str(tmp_path / "empty"), str(out))
    assert not Path("owned").exists()


def test_existing_episodes_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag, out = BagMaker(tmp_path / "drive").drive().close(), tmp_path / "out"
    assert main(["convert", str(bag), str(out)]) == 0
    before = list_episodes(out)[0].read_bytes()
    assert main(["convert", str(bag), str(out), "--rate-hz", "10"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert list_episodes(out)[0].read_bytes() == before
    assert main(["convert", str(bag), str(out), "--rate-hz", "10", "--overwrite"]) == 0
    assert len(read_episode(list_episodes(out)[0])) == 30
    assert [item.name for item in out.iterdir()] == ["drive_000.h5"]


def two_then_one(root: Path) -> tuple[Path, Path, dict[str, bytes]]:
    """A bag of one episode, and a folder where one of two was converted; what is in the folder."""
    bag, out = (
        BagMaker(root / "two" / "drive").drive(seconds=6.0, gap=(2.0, 3.0)).close(),
        root / "out",
    )
    assert main(["convert", str(bag), str(out)]) == 0
    assert main(["convert", str(bag), str(out), "--name", "drive_1"]) == 0
    bag = BagMaker(root / "one" / "drive").drive().close()
    return bag, out, {item.name: item.read_bytes() for item in out.iterdir()}


def test_overwriting_leaves_no_old_episodes_behind(tmp_path: Path) -> None:
    bag, out, before = two_then_one(tmp_path)
    assert main(["convert", str(bag), str(out), "--overwrite"]) == 0
    names = {item.name for item in out.iterdir()}
    assert names == {"drive_000.h5", "drive_1_000.h5", "drive_1_001.h5"}
    assert (out / "drive_000.h5").read_bytes() != before["drive_000.h5"]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_overwriting_that_fails_leaves_the_old_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    bag, out, before = two_then_one(tmp_path)
    replace, seen = os.replace, []

    def breaks(source: Path, target: Path) -> None:
        if out in (Path(source).parent, Path(target).parent):
            seen.append(target)
            if len(seen) == nth:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", breaks)
    with pytest.raises(KeyboardInterrupt):
        convert(KINDS["bag"].open(bag), out, "drive", overwrite=True)
    assert {item.name: item.read_bytes() for item in out.iterdir()} == before


def test_overwriting_touches_nothing_but_episodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, out, before = two_then_one(tmp_path)
    before["drive_007.h5"] = b"notes of somebody"
    (out / "drive_007.h5").write_bytes(before["drive_007.h5"])
    assert main(["convert", str(bag), str(out), "--overwrite"]) == 2
    assert "drive_007.h5" in capsys.readouterr().err
    assert {item.name: item.read_bytes() for item in out.iterdir()} == before


def test_given_bounds_and_data_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag, out = BagMaker(tmp_path / "drive").drive().close(), tmp_path / "out"
    low, high = ["-0.1", "-0.5", "-0.4"], ["0.5", "0.5", "0.4"]
    bounds = ["--action-low", *low, "--action-high", *high, "--image-size", "24x24"]
    assert main(["convert", str(bag), str(out), *bounds]) == 0
    assert read_episode(list_episodes(out)[0]).action_spec.high == (0.5, 0.5, 0.4)
    capsys.readouterr()
    assert main(["data", "info", str(out), "--json", str(tmp_path / "i.json")]) == 0
    table = capsys.readouterr().out
    assert "12" in table
    assert "24x24" in table
    summary = json.loads((tmp_path / "i.json").read_text())
    assert summary["frames"] == 12
    assert summary["episodes"][0]["names"] == ["dx", "dy", "dyaw"]
    assert main(["data", "preview", str(out), "--out", str(tmp_path / "p")]) == 0
    assert sorted(item.suffix for item in (tmp_path / "p").iterdir()) == [".mp4", ".png"]
    (out / "bad.h5").write_bytes(b"not an episode")
    assert main(["data", "info", str(out)]) == 2
    captured = capsys.readouterr()
    assert "drive_000.h5" in captured.out
    assert "bad.h5" in captured.err
    assert main(["data", "info", str(tmp_path / "p")]) == 2


@pytest.mark.skipif(not KITTI.is_dir(), reason=f"no {KITTI} (set V2W_SHARED_DIR)")
def test_real_camera_recording(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--rate-hz", "10", "--image-size", "48x160", "--image-format", "png"]
    assert main(["convert", str(KITTI), str(out), *options]) == 0
    (path,) = list_episodes(out)
    episode = read_episode(path)
    assert len(episode) == 51
    assert episode.action_spec.rate_hz == 10.0
    travelled = float(np.linalg.norm(episode.actions[:, :2], axis=1).sum())
    assert travelled == pytest.approx(59.8, abs=0.3)
    frames = episode.frames()
    assert frames.std() > 30
    assert float(psnr(frames[0], frames[1])) > float(psnr(frames[0], frames[20]))


@pytest.mark.skipif(not NAV2.is_dir(), reason=f"no {NAV2} (set V2W_SHARED_DIR)")
def test_real_recording_without_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    message = fails(capsys, str(NAV2), str(out))
    assert "no camera topic" in message
    assert "/odom" in message
