"""RLDS data sets (RT-1's fractal20220817_data, Bridge and their like) through tensorflow-datasets.

A prepared data set is a folder with ``dataset_info.json``, ``features.json`` and record files. An
episode is a sequence of steps: ``observation`` with one or more cameras, and ``action``. The action
has one of two layouts: RT-1's dict, concatenated in the released model's order, or a flat vector,
whose entries the files do not name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from v2w_core.data.domains import RT1_ACTION, RT1_FIELDS
from v2w_core.data.sources.recording import (
    NO_POSES,
    Recording,
    RecordingSet,
    steady_stamps,
    unknown_poses,
)
from v2w_core.errors import DataError, V2WError
from v2w_core.images import ImageArray
from v2w_core.spec import ActionSpec, FloatArray

#: A decoded step: a dict of NumPy arrays, possibly nested.
Step = Mapping[str, Any]

_INFO, _FEATURES = "dataset_info.json", "features.json"


def is_rlds(source: Path) -> bool:
    """Whether the source is a prepared data set, or a folder of its versions or of data sets."""
    return bool(_prepared(source))


def open_rlds(
    source: Path,
    *,
    split: str = "train",
    image_key: str | None = None,
    rate_hz: float | None = None,
) -> RecordingSet:
    """One recording for each episode of a split.

    Args:
        source: the folder of a prepared data set, or a folder that holds a single one.
        split: split in the syntax of tensorflow-datasets, e.g. "train" or "train[:100]".
        image_key, rate_hz: see :func:`open_episodes`.

    Raises:
        DataError: there is no data set or several, tensorflow is not installed, the split does not
            exist, a record is damaged, or as for :func:`open_episodes`.
    """
    found = _prepared(source)
    if len(found) != 1:
        rule = f"one folder with {_INFO} and {_FEATURES}"
        raise DataError(str(source), rule, [str(item.relative_to(source)) for item in found])
    folder = found[0]
    episodes, count = _read_split(folder, split)
    # Prepared data sets lie in NAME/VERSION.
    name = folder.resolve().parent.name
    return open_episodes(
        episodes, count, name=name, split=split, image_key=image_key, rate_hz=rate_hz
    )


def open_episodes(
    episodes: Iterable[Sequence[Step]],
    num_episodes: int,
    *,
    name: str,
    split: str,
    image_key: str | None = None,
    rate_hz: float | None = None,
) -> RecordingSet:
    """Recordings of decoded episodes; the very first step determines the layout.

    Args:
        episodes: the steps of each episode, read lazily.
        num_episodes: number of episodes.
        name, split: name and split of the data set.
        image_key: name of the camera among the observations; None finds the only one. Episodes in
            which it is black throughout lack this camera; they are left out and counted.
        rate_hz: steps per second, required for flat actions; RT-1 always has 3 Hz.

    Raises:
        DataError: there is no episode, no camera, or several cameras and none named; the action has
            neither layout; the rate is missing or not allowed; or, while recordings are read, steps
            differ from the first.
    """
    title = f"rlds {name} {split}"
    stream = iter(episodes)
    first = next(stream, [])
    if not first:
        raise DataError(title, "at least one episode with steps", "nothing")
    spec = _action_spec(_entry(first[0], "action", title), rate_hz)
    camera = _find_camera(_entry(first[0], "observation", title), image_key)
    facts: dict[str, Any] = {"split": split, "camera": camera, "no_picture": 0}

    def recordings() -> Iterator[Recording]:
        number = -1
        for number, steps in enumerate(chain([first], stream)):
            recording = _recording(f"episode {number}", steps, spec, camera)
            if any(frame is not None and frame.any() for frame in recording.frames):
                yield recording
            else:
                facts["no_picture"] += 1
        if facts["no_picture"] == number + 1:
            raise DataError("--image-key", "a camera that is not black in all episodes", camera)

    return RecordingSet(
        title=title,
        name=name,
        action_spec=spec,
        recordings=recordings(),
        num_recordings=num_episodes,
        fit_bounds=spec != RT1_ACTION,
        facts=facts,
    )


def _recording(name: str, steps: Sequence[Step], spec: ActionSpec, camera: str) -> Recording:
    frames: list[ImageArray] = []
    actions = np.zeros((len(steps), spec.dim), dtype=np.float32)
    for index, step in enumerate(steps):
        where = f"{name}, step {index}"
        frame = np.asarray(_entry(_entry(step, "observation", where), camera, where))
        if not _is_picture(frame):
            found = f"{frame.dtype} {list(frame.shape)}"
            raise DataError(f"{where}: {camera}", "uint8 RGB [H, W, 3]", found)
        frames.append(frame)
        actions[index] = _vector(_entry(step, "action", where), spec.dim, where)
    return Recording(
        name=name,
        frames=frames,
        actions=actions[:-1],  # the last step's action leads nowhere
        poses=unknown_poses(len(steps)),
        stamps_ns=steady_stamps(len(steps), spec.rate_hz),
        attributes=dict(NO_POSES),
    )


def _action_spec(action: Any, rate_hz: float | None) -> ActionSpec:
    if isinstance(action, Mapping):
        if rate_hz is not None:
            raise DataError("--rate-hz", "not given for RT-1's actions: they have 3 Hz", rate_hz)
        return RT1_ACTION
    if rate_hz is None:
        rule = "given for flat actions: the files do not say how many steps a second there are"
        raise DataError("--rate-hz", rule, "none")
    dim = int(np.asarray(action).size)
    return ActionSpec(
        names=tuple(f"action_{index}" for index in range(dim)),
        units=("unknown",) * dim,
        low=(-1.0,) * dim,
        high=(1.0,) * dim,
        rate_hz=rate_hz,
    )


def _vector(action: Any, dim: int, where: str) -> FloatArray:
    """The action as one vector [dim]; RT-1's dict in the order of :data:`RT1_FIELDS`."""
    if not isinstance(action, Mapping):
        return _numbers(action, dim, f"{where}: action")
    if set(action) != set(RT1_FIELDS):
        raise DataError(f"{where}: action", f"RT-1's fields {list(RT1_FIELDS)}", sorted(action))
    parts = [
        _numbers(action[key], len(names), f"{where}: action.{key}")
        for key, (names, _, _) in RT1_FIELDS.items()
    ]
    return np.concatenate(parts)


def _numbers(value: Any, count: int, field: str) -> FloatArray:
    array = np.asarray(value)
    if array.shape != (count,) or array.dtype.kind not in "fiub":
        raise DataError(field, f"{count} numbers", f"{array.dtype} {list(array.shape)}")
    if not np.isfinite(array).all():
        raise DataError(field, "finite numbers", array.tolist())
    return array.astype(np.float32)


def _entry(mapping: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in mapping:
        raise DataError(f"{where}: {key}", "an entry of this name", sorted(mapping))
    return mapping[key]


def _find_camera(observation: Mapping[str, Any], image_key: str | None) -> str:
    arrays = {key: np.asarray(item) for key, item in sorted(observation.items())}
    cameras = [key for key, item in arrays.items() if _is_picture(item)]
    others = {  # arrays with two long sides: pictures of another type or number of channels
        key: f"{key}: {item.dtype} {list(item.shape)}"
        for key, item in arrays.items()
        if key not in cameras and item.ndim in (2, 3) and min(item.shape[:2]) > 4
    }
    if image_key is not None:
        if image_key not in cameras:
            rule = f"a camera of the steps: {', '.join(cameras) or 'none is uint8 RGB [H, W, 3]'}"
            raise DataError("--image-key", rule, others.get(image_key, image_key))
        return image_key
    if not cameras:
        rule = "a camera, uint8 RGB [H, W, 3], in the steps"
        raise DataError("observation", rule, ", ".join(others.values()) or sorted(arrays))
    if len(cameras) > 1:
        rule = f"one camera in the steps; choose with --image-key: {', '.join(cameras)}"
        raise DataError("observation", rule, f"{len(cameras)} cameras")
    return cameras[0]


def _is_picture(array: np.ndarray[Any, Any]) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 3


def _prepared(source: Path) -> list[Path]:
    """Folders of prepared data sets: the source, its subfolders (versions) or their subfolders."""
    for pattern in (_INFO, f"*/{_INFO}", f"*/*/{_INFO}"):
        found = sorted(item.parent for item in source.glob(pattern))
        if found:
            return [folder for folder in found if (folder / _FEATURES).is_file()]
    return []


def _read_split(folder: Path, split: str) -> tuple[Iterator[list[Step]], int]:
    """The decoded steps of each episode, and the number of episodes."""
    try:
        # tensorflow-datasets reads these record files with TensorFlow only, which it does not
        # install itself and imports late.
        import tensorflow  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        rule = "needs TensorFlow and tensorflow-datasets: pip install 'v2w[rlds]'"
        raise DataError("rlds", rule, str(error)) from error
    with _guard(folder):
        builder = tfds.builder_from_directory(str(folder))
        splits = builder.info.splits
    try:
        count = int(splits[split].num_examples)
    except Exception as error:  # its kind depends on the version
        rule = f"one of {', '.join(sorted(splits))}, or a part such as train[:100]"
        raise DataError("--split", rule, split) from error
    with _guard(folder):
        config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        data = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    return _numpy_episodes(data, folder), count


def _numpy_episodes(data: Any, folder: Path) -> Iterator[list[Step]]:
    stream = iter(data)
    while True:
        with _guard(folder):
            episode = next(stream, None)
            if episode is None:
                return
            steps = list(episode["steps"].as_numpy_iterator())
        yield steps


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Turns any exception of TensorFlow into a DataError."""
    try:
        yield
    except V2WError:
        raise
    except Exception as error:
        rule = "a complete RLDS data set; this one is damaged or truncated"
        raise DataError(str(folder), rule, f"{type(error).__name__}: {error}") from error
