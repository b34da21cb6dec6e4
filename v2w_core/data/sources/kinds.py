"""Kinds of recordings that ``v2w convert`` reads, and their recognition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v2w_core.data.bags.files import LOOKS_LIKE
from v2w_core.data.sources.bag_recordings import is_bag, open_bag_recordings
from v2w_core.data.sources.csgo import is_csgo, open_csgo
from v2w_core.data.sources.recon import is_recon, open_recon
from v2w_core.data.sources.recording import RecordingSet
from v2w_core.data.sources.rlds import is_rlds, open_rlds
from v2w_core.errors import DataError


@dataclass(frozen=True)
class SourceKind:
    """One kind of recording.

    Attributes:
        looks_like: description of the files, for error messages.
        recognises: cheap test of a file or folder.
        open: opens the source; takes ``options`` as keyword arguments.
        options: names of the options that only this kind has.
    """

    looks_like: str
    recognises: Callable[[Path], bool]
    open: Callable[..., RecordingSet]
    options: tuple[str, ...] = ()


_BAG_OPTIONS = (
    "image_topic", "odom_topic", "rate_hz", "max_gap_s", "start_s", "end_s", "action_low",
    "action_high", "stamps", "camera_offset_s", "motion_from", "tf_frames", "axes",
    "yaw_offset_deg", "commands",
)  # fmt: skip

KINDS: dict[str, SourceKind] = {
    "bag": SourceKind(
        LOOKS_LIKE,
        is_bag, open_bag_recordings, _BAG_OPTIONS,
    ),
    "rlds": SourceKind(
        "a folder with dataset_info.json and features.json",
        is_rlds, open_rlds, ("split", "image_key", "rate_hz"),
    ),
    "recon": SourceKind(
        "folders with traj_data.pkl, or HDF5 with images/rgb_left",
        is_recon, open_recon, ("rate_hz",),
    ),
    "csgo": SourceKind("HDF5 with frame_0_x", is_csgo, open_csgo),
}  # fmt: skip


def find_kind(source: Path) -> str:
    """Name of the only kind that recognises the source.

    Raises:
        DataError: the source does not exist, no kind or several kinds recognise it, or an HDF5
            file is damaged.
    """
    if not source.exists():
        raise DataError(str(source), "an existing file or folder", "no such file")
    found = [name for name, kind in KINDS.items() if kind.recognises(source)]
    if len(found) > 1:
        rule = f"recordings of one kind; choose with --kind {' or --kind '.join(found)}"
        raise DataError(str(source), rule, f"{len(found)} kinds")
    if not found:
        kinds = "; ".join(f"{name}: {kind.looks_like}" for name, kind in KINDS.items())
        what = "a folder without any of these" if source.is_dir() else f"the file {source.name}"
        raise DataError(str(source), f"a recording of a known kind ({kinds})", what)
    return found[0]
