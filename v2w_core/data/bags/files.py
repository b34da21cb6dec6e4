"""Which files are a recording: bags as recorders, copies and hands leave them behind.

``metadata.yaml`` only says which files of its folder belong together. Everything else in it is in
the files as well, and theirs is right where the two disagree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from v2w_core.data.notices import Notice
from v2w_core.errors import DataError

#: Endings of the formats, and of the same packed with Zstandard.
SUFFIXES = (".bag", ".mcap", ".db3", ".bag.active")
PACKED = (".zst", ".zstd")
LOOKS_LIKE = (
    "a rosbag2 folder, .mcap, .db3 or ROS 1 .bag (also .zstd, .active), or a folder of them"
)
_PART = re.compile(r"(.*?)[_-](\d+)$")


@dataclass(frozen=True)
class BagFiles:
    """The files of one recording.

    Attributes:
        path: the file, or the folder of several.
        files: all files, in the order of their names.
        notices: what was odd about them.
    """

    path: Path
    files: tuple[Path, ...]
    notices: tuple[Notice, ...] = ()


def format_of(path: Path) -> str | None:
    """ ".mcap", ".db3" or ".bag" of a file of a bag, packed or not; None for any other name."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return ".bag" if suffix == ".bag.active" else suffix
    return None


def is_packed(path: Path) -> bool:
    """Whether the whole file is packed with Zstandard."""
    return path.name.lower().endswith(PACKED)


def holds_bags(source: Path) -> bool:
    """Whether the source is a bag, or a folder with bags in it or one level deeper."""
    if source.is_file():
        return format_of(source) is not None
    return any(_inside(folder) for folder in (source, *_folders(source)))


def find_bags(source: Path) -> list[BagFiles]:
    """The recordings of a file, a rosbag2 folder, or a folder of either.

    Files of one folder that are called NAME_0, NAME_1, ... are parts of one recording.

    Raises:
        DataError: ``source`` does not exist or holds no bag.
    """
    if not source.exists():
        raise DataError(str(source), f"an existing bag: {LOOKS_LIKE}", "no such file")
    if source.is_file():
        if format_of(source) is None:
            raise DataError(str(source), LOOKS_LIKE, f"a file called {source.name}")
        return [BagFiles(source, (source,))]
    found = _of_folder(source)
    if (source / "metadata.yaml").is_file() and found:
        return found
    for folder in _folders(source):
        found += _of_folder(folder)
    if not found:
        raise DataError(str(source), LOOKS_LIKE, "a folder without a bag")
    return found


def find_bag(source: Path) -> BagFiles:
    """The only recording of ``source``.

    Raises:
        DataError: there are several; or as for :func:`find_bags`.
    """
    found = find_bags(source)
    if len(found) > 1:
        names = ", ".join(item.path.name for item in found)
        raise DataError(str(source), f"one bag, choose one of {names}", f"{len(found)} bags")
    return found[0]


def _of_folder(folder: Path) -> list[BagFiles]:
    """The recordings whose files lie in this folder."""
    files = _inside(folder)
    if (folder / "metadata.yaml").is_file():
        listed = _listed(folder / "metadata.yaml")
        present = {path.name: path for path in files}
        # A file is packed or unpacked after its name was written down.
        plain = {name.removesuffix(".zstd").removesuffix(".zst"): p for name, p in present.items()}
        named = [present.get(name) or plain.get(_plain(name)) for name in listed]
        missing = [name for name, path in zip(listed, named, strict=True) if path is None]
        kept = tuple(path for path in named if path is not None) or tuple(files)
        if not kept:
            return []
        notices: tuple[Notice, ...] = ()
        if missing and len(missing) < len(listed):
            text = (
                f"{len(missing)} of {len(listed)} files of {folder.name} are missing: {missing[0]}"
            )
            remedy = "copy them into the folder; what they hold is a gap"
            notices = (Notice("missing_files", text, remedy, {"files": len(missing)}),)
        return [BagFiles(folder, kept, notices)]
    groups: dict[str, list[Path]] = {}
    for path in files:
        stem = path.name[: path.name.lower().index(format_of(path) or "")]
        part = _PART.fullmatch(stem)
        groups.setdefault(part.group(1) if part else stem, []).append(path)
    single = len(groups) == 1
    return [
        BagFiles(group[0] if len(group) == 1 else folder if single else folder / name, tuple(group))
        for name, group in sorted(groups.items())
    ]


def _inside(folder: Path) -> list[Path]:
    """The files of bags in a folder, in the order of their numbers."""
    try:
        items = [item for item in folder.iterdir() if item.is_file() and format_of(item)]
    except OSError:
        return []
    return sorted((item for item in items if not item.name.startswith(".")), key=_natural)


def _folders(source: Path) -> list[Path]:
    try:
        inside = [item for item in source.iterdir() if item.is_dir()]
    except OSError as error:
        raise DataError(str(source), "a folder that can be read", str(error)) from error
    return sorted((item for item in inside if not item.name.startswith(".")), key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    """drive_2 before drive_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _plain(name: str) -> str:
    return name.removesuffix(".zstd").removesuffix(".zst")


def _listed(metadata: Path) -> list[str]:
    """Names of the files that metadata.yaml lists; none where it is damaged."""
    try:
        about = yaml.safe_load(metadata.read_text(errors="replace"))
        paths = about["rosbag2_bagfile_information"]["relative_file_paths"]
        return [Path(str(item)).name for item in paths]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return []
