"""The episode store: round trip, rules, damaged files, and writers that are killed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from v2w_core.data.episode import (
    Episode,
    EpisodeWriter,
    list_episodes,
    read_episode,
    require_commands_alike,
    write_episode,
)
from v2w_core.data.windows import Window, WindowIndex, split_episodes
from v2w_core.errors import DataError
from v2w_core.spec import ActionSpec

SPEC = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-1, -1, -1), (1, 1, 1), 4.0)


def content(num_frames: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "frames": rng.integers(0, 255, (num_frames, 16, 24, 3), dtype=np.uint8),
        "actions": rng.uniform(-1, 1, (num_frames - 1, 3)).astype(np.float32),
        "poses": rng.normal(size=(num_frames, 4)),
        "stamps_ns": 1_700_000_000_000_000_000 + 250_000_000 * np.arange(num_frames),
        "action_spec": SPEC,
        "source": "a test",
    }


def same(episode: Episode, data: dict[str, Any]) -> bool:
    return (
        len(episode) == len(data["frames"])
        and np.array_equal(episode.actions, data["actions"])
        and np.array_equal(episode.poses, data["poses"])
        and np.array_equal(episode.stamps_ns, data["stamps_ns"])
    )


def test_round_trip_is_exact(tmp_path: Path) -> None:
    data = content()
    path = write_episode(tmp_path / "a.h5", **data, attributes={"maze_seed": 3}, image_format="png")
    episode = read_episode(path)
    assert same(episode, data)
    assert episode.action_spec == SPEC
    assert episode.attributes == {"maze_seed": 3}
    assert episode.source == "a test"
    assert episode.duration_s == pytest.approx(1.25)
    assert (episode.frames() == data["frames"]).all()
    assert (episode.frames(2, 4) == data["frames"][2:4]).all()
    assert (episode.frames(-2) == data["frames"][-2:]).all()
    assert episode.frames(4, 4).shape == (0, 16, 24, 3)
    assert list_episodes(tmp_path) == [path]


def test_streaming_writer_equals_write_episode(tmp_path: Path) -> None:
    data = content()
    with EpisodeWriter(tmp_path / "b.h5", action_spec=SPEC, source="a test") as writer:
        for index, frame in enumerate(data["frames"]):
            action = data["actions"][index - 1] if index else None
            writer.add(frame, data["poses"][index], data["stamps_ns"][index], action)
            assert list_episodes(tmp_path) == []
    assert same(read_episode(tmp_path / "b.h5"), data)


def told(num_frames: int = 6) -> dict[str, Any]:
    """Commands that were not all followed."""
    data = content(num_frames)
    contact = np.arange(num_frames - 1) % 2 == 1
    motion = np.where(contact[:, None], 0.5 * data["actions"], data["actions"])
    return {**data, "motion": motion, "contact": contact}


def test_commands_motion_and_contact_are_kept_apart(tmp_path: Path) -> None:
    data = told()
    episode = read_episode(write_episode(tmp_path / "a.h5", **data))
    assert episode.has_commands
    assert same(episode, data)
    assert episode.motion is not None and episode.motion.dtype == np.float32
    assert np.array_equal(episode.motion, data["motion"])
    assert episode.contact is not None and episode.contact.dtype == np.bool_
    assert np.array_equal(episode.contact, data["contact"])


def test_without_commands_the_displacement_stands_for_both(tmp_path: Path) -> None:
    episode = read_episode(write_episode(tmp_path / "a.h5", **content()))
    assert not episode.has_commands and episode.contact is None
    assert np.array_equal(episode.motion, episode.actions)
    turned = ActionSpec(
        ("dyaw", "grip", "dx", "dy"), ("rad", "1", "m", "m"), (-1,) * 4, (1,) * 4, 4
    )
    rows = np.arange(20, dtype=np.float32).reshape(5, 4) / 20
    data = {**content(), "action_spec": turned, "actions": rows}
    planar = read_episode(write_episode(tmp_path / "b.h5", **data))
    assert np.array_equal(planar.motion, rows[:, [2, 3, 0]])
    arm = ActionSpec(("lift",), ("1",), (-1,), (1,), 4)
    data = {**content(), "action_spec": arm, "actions": rows[:, :1]}
    assert read_episode(write_episode(tmp_path / "c.h5", **data)).motion is None


def test_episodes_of_version_1_are_read(tmp_path: Path) -> None:
    data = content()
    path = write_episode(tmp_path / "a.h5", **data)
    with h5py.File(path, "r+") as file:
        assert file.attrs["format_version"] == 2
        file.attrs["format_version"] = 1
    episode = read_episode(path)
    assert same(episode, data)
    assert not episode.has_commands and episode.contact is None
    assert np.array_equal(episode.motion, episode.actions)


def test_frames_are_whole_at_every_length(tmp_path: Path) -> None:
    """They are written in parts; equal and unequal ones."""
    for length in (2, 63, 64, 65, 128, 130):
        data = content(length)
        data["frames"][length // 2 :] = 0
        path = write_episode(tmp_path / "a.h5", **data, image_format="png")
        assert np.array_equal(read_episode(path).frames(), data["frames"])


def test_a_mixture_with_and_without_commands_is_refused(tmp_path: Path) -> None:
    one = read_episode(write_episode(tmp_path / "told.h5", **told()))
    other = read_episode(write_episode(tmp_path / "did.h5", **content()))
    require_commands_alike([one, one])
    require_commands_alike([other])
    require_commands_alike([])
    with pytest.raises(DataError, match=r"told\.h5 has commands.*did\.h5 has none.*separate"):
        require_commands_alike([other, one, other])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"motion": np.zeros((6, 3))}, r"motion.*\[5, 3\]"),
        ({"motion": np.zeros((5, 2))}, "motion"),
        ({"motion": np.full((5, 3), np.nan)}, "motion.*finite"),
        ({"motion": np.full((5, 3), 1e9)}, "motion.*finite numbers up to"),
        ({"motion": [["a", "b", "c"]] * 5}, "motion.*numbers"),
        ({"contact": np.zeros(6, bool)}, "contact"),
        ({"contact": np.full(5, 2)}, "contact.*0 or 1"),
        ({"contact": np.full(5, 0.5)}, "contact.*0 or 1"),
        ({"actions": np.zeros((6, 3))}, "exactly 5 steps"),
        ({"actions": np.zeros((5, 2))}, "for dx, dy, dyaw"),
        ({"actions": np.full((5, 3), np.nan)}, "actions.*finite"),
        ({"actions": np.zeros((1, 5, 3))}, "actions"),
        ({"poses": np.zeros((6, 3))}, "poses"),
        ({"poses": np.full((6, 4), np.inf)}, "poses.*finite"),
        ({"stamps_ns": np.arange(6)[::-1]}, r"stamps_ns\[1\].*increasing"),
        ({"stamps_ns": np.zeros(6, dtype=int)}, "increasing"),
        ({"stamps_ns": np.arange(5)}, "stamps_ns"),
        ({"stamps_ns": np.arange(6) * 0.25}, "integer"),
        ({"frames": np.zeros((6, 16, 24, 3))}, "uint8"),
        ({"frames": np.zeros((6, 16, 24), dtype=np.uint8)}, "frame"),
        ({"frames": [np.zeros((16, 24 + (i == 3), 3), np.uint8) for i in range(6)]}, "size"),
        ({"frames": np.zeros((1, 16, 24, 3), dtype=np.uint8)}, "at least 2"),
        ({"attributes": {"x": object()}}, "JSON"),
    ],
)
def test_bad_content_writes_nothing(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    good = content()
    write_episode(tmp_path / "a.h5", **good)
    with pytest.raises(DataError, match=message):
        write_episode(tmp_path / "a.h5", **{**good, **change})
    assert [item.name for item in tmp_path.iterdir()] == ["a.h5"]
    assert same(read_episode(tmp_path / "a.h5"), good)


def test_an_error_while_streaming_aborts(tmp_path: Path) -> None:
    def record() -> None:
        with EpisodeWriter(tmp_path / "a.h5", action_spec=SPEC, source="") as writer:
            writer.add(content()["frames"][0], np.zeros(4), 0)
            raise RuntimeError("the simulator died")

    with pytest.raises(RuntimeError, match="died"):
        record()
    assert list(tmp_path.iterdir()) == []


def damage(path: Path, kind: str) -> None:
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(_Owned()))
    elif kind == "other hdf5":
        with h5py.File(path, "w") as file:
            file["images"] = np.zeros(3)
    else:
        with h5py.File(path, "r+") as file:
            if kind == "newer":
                file.attrs["format_version"] = 99
            elif kind == "nan":
                file["actions"][2, 1] = np.nan
            elif kind == "stamps":
                file["stamps_ns"][3] = 0
            elif kind == "spec":
                file.attrs["action_spec"] = '{"names": ["dx"]}'
            elif kind == "json":
                file.attrs["action_spec"] = "{"
            elif kind == "huge":
                file.attrs["height"] = 10**9
            elif kind == "lengths":
                del file["poses"]
                file["poses"] = np.zeros((3, 4))
            elif kind == "missing":
                del file["frames"]
            elif kind == "motion":
                file["motion"] = np.full((5, 3), np.nan, np.float32)
            elif kind == "motion elsewhere":
                file["motion"] = h5py.ExternalLink("other.h5", "motion")
            elif kind == "contact":
                file["contact"] = np.full(5, 7, np.uint8)
            elif kind == "text":
                del file["actions"]
                file["actions"] = np.array([b"x"] * 5)


class _Owned:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "truncated"),
        ("empty", "HDF5"),
        ("pickle", "HDF5"),
        ("other hdf5", "format_version"),
        ("newer", "newer"),
        ("nan", "finite"),
        ("stamps", "increasing"),
        ("spec", "action_spec"),
        ("json", "JSON"),
        ("huge", "pixels"),
        ("lengths", "poses"),
        ("motion", "motion.*finite"),
        ("motion elsewhere", "motion"),
        ("contact", "contact.*0 or 1"),
        ("missing", "frames"),
        ("text", "actions"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_episode(tmp_path / "a.h5", **content())
    damage(path, kind)
    with pytest.raises(DataError, match=message) as caught:
        read_episode(path)
    assert "a.h5" in str(caught.value)
    assert not Path("owned").exists()


def test_missing_files_and_wrong_suffix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_episode(tmp_path / "a.h5")
    with pytest.raises(DataError, match="no such folder"):
        list_episodes(tmp_path / "none")
    with pytest.raises(DataError, match=r"\.h5"):
        write_episode(tmp_path / "a.npz", **content())


def test_damaged_frame_is_named(tmp_path: Path) -> None:
    path = write_episode(tmp_path / "a.h5", **content())
    with h5py.File(path, "r+") as file:
        file["frames"][3] = np.frombuffer(b"not a picture", dtype=np.uint8)
    episode = read_episode(path)
    assert len(episode.frames(0, 3)) == 3
    with pytest.raises(DataError, match="image"):
        episode.frames()


_WRITE_FOREVER = """
import sys
import numpy as np
from v2w_core.data.episode import write_episode
from v2w_core.spec import ActionSpec
spec = ActionSpec(("dx", "dy", "dyaw"), ("m", "m", "rad"), (-1, -1, -1), (1, 1, 1), 4.0)
frames = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
print("ready", flush=True)
for number in range(100000):
    write_episode(sys.argv[1] + f"/{number % 7}.h5", frames=frames, actions=np.zeros((7, 3)),
                  poses=np.zeros((8, 4)), stamps_ns=np.arange(8), action_spec=spec, source="")
"""


def test_killed_writers_leave_only_whole_episodes(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITE_FOREVER, str(tmp_path)], stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for number, writer in enumerate(writers):
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.15 + 0.037 * number)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    episodes = list_episodes(tmp_path)
    assert episodes
    for path in episodes:
        assert read_episode(path).frames().shape == (8, 48, 64, 3)


_WRITE_HALF = """
import sys, time
import numpy as np
from v2w_core.data.episode import EpisodeWriter
from v2w_core.spec import ActionSpec
spec = ActionSpec(("dx",), ("m",), (-1,), (1,), 4.0)
writer = EpisodeWriter(sys.argv[1] + "/a.h5", action_spec=spec, source="")
for number in range(5):
    writer.add(np.zeros((48, 64, 3), np.uint8), np.zeros(4), number)
print("ready", flush=True)
time.sleep(60)
"""


def test_killed_in_the_middle_of_an_episode(tmp_path: Path) -> None:
    write_episode(tmp_path / "a.h5", **content())
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_HALF, str(tmp_path)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.iterdir())) == 2  # the episode and the dead writer's temporary file
    assert list_episodes(tmp_path) == [tmp_path / "a.h5"]
    assert same(read_episode(tmp_path / "a.h5"), content())


def test_windows() -> None:
    index = WindowIndex([5, 2, 4], window=3)
    assert list(index) == [
        Window(0, 0, 3),
        Window(0, 1, 4),
        Window(0, 2, 5),
        Window(2, 0, 3),
        Window(2, 1, 4),
    ]
    assert index.skipped == 1
    assert index[-1] == Window(2, 1, 4)
    assert [w.start for w in WindowIndex([9], 3, stride=2)] == [0, 2, 4, 6]
    assert (index.shuffled(3) == index.shuffled(3)).all()
    assert sorted(index.shuffled(3)) == list(range(5))
    with pytest.raises(IndexError):
        index[5]
    with pytest.raises(DataError, match="longer episodes"):
        WindowIndex([2, 2], 3)
    with pytest.raises(DataError, match="at least 1"):
        WindowIndex([5], 3, 0)


def test_split_holds_out_whole_episodes() -> None:
    train, held_out = split_episodes(10, 0.2, seed=1)
    assert len(held_out) == 2
    assert sorted(train + held_out) == list(range(10))
    assert split_episodes(10, 0.2, seed=1) == (train, held_out)
    assert split_episodes(3, 0.0)[1] == []
    for bad in (1.0, -0.1):
        with pytest.raises(DataError):
            split_episodes(3, bad)
    with pytest.raises(DataError):
        split_episodes(1, 0.5)
