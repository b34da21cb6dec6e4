"""Which files are a recording: bags as recorders, copies and hands leave them behind.

``metadata.yaml`` only says which files of its folder belong together. Everything else in it is in
the files as well, and theirs is right where the two disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

from v2w_core.data.bags.compression import PACKERS
from v2w_core.data.notices import Notice
from v2w_core.errors import DataError
from v2w_core.yaml_files import YAMLError, read_yaml

#: Endings of the formats, and of whole files that were packed.
SUFFIXES = (".bag", ".mcap", ".db3", ".bag.active")
PACKED = tuple(PACKERS)
LOOKS_LIKE = (
    "a rosbag2 folder, .mcap, .db3 or ROS 1 .bag (also .zst, .gz, .bz2, .xz, .lz4, .active), or a "
    "folder of them"
)
#: Folders inside each other that are looked into.
MAX_DEPTH = 4
_PART = re.compile(r"(.*?)[_-](\d+)$")


@dataclass(frozen=True)
class BagFiles:
    """The files of one recording.

    Attributes:
        path: the file, or the folder of several.
        name: what it is called: the path from the folder in which it was looked for.
        files: all files that there are, in the order of their names.
        notices: what was odd about them.
    """

    path: Path
    name: str
    files: tuple[Path, ...]
    notices: tuple[Notice, ...] = ()


def format_of(path: Path) -> str | None:
    """ ".mcap", ".db3" or ".bag" of a file of a bag, packed or not; None for any other name."""
    name = _plain(path.name.lower())
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return ".bag" if suffix == ".bag.active" else suffix
    return None


def is_packed(path: Path) -> bool:
    """Whether the whole file is packed."""
    return path.suffix.lower() in PACKED


def holds_bags(source: Path) -> bool:
    """Whether the source is a bag, or a folder with bags in it or in the folders below."""
    if not source.is_dir():
        return format_of(source) is not None
    return any(_inside(folder) or _listed(folder) for folder in _folders(source))


def find_bags(source: Path) -> list[BagFiles]:
    """The recordings of a file, a rosbag2 folder, or a folder of either.

    Files of one folder that are called NAME_0, NAME_1, ... are parts of one recording.

    Raises:
        DataError: ``source`` does not exist or holds no bag.
    """
    if not source.exists():
        raise DataError(str(source), f"an existing bag: {LOOKS_LIKE}", "no such file")
    if not source.is_dir():
        if format_of(source) is None or not source.is_file():
            raise DataError(str(source), LOOKS_LIKE, f"a file called {source.name}")
        return [BagFiles(source, source.name, (source,))]
    found = _of_folder(source)
    if (source / "metadata.yaml").is_file() and found:
        return found
    found = [item for folder in _folders(source) for item in _of_folder(folder)]
    if not found:
        raise DataError(str(source), LOOKS_LIKE, "a folder without a bag")
    return [
        replace(item, name=str(item.path.relative_to(source))) if item.path != source else item
        for item in found
    ]


def find_bag(source: Path) -> BagFiles:
    """The only recording of ``source``.

    Raises:
        DataError: there are several; or as for :func:`find_bags`.
    """
    found = find_bags(source)
    if len(found) > 1:
        names = ", ".join(item.name for item in found)
        raise DataError(str(source), f"one bag, choose one of {names}", f"{len(found)} bags")
    return found[0]


def _of_folder(folder: Path) -> list[BagFiles]:
    """The recordings whose files lie in this folder."""
    files = _inside(folder)
    if (folder / "metadata.yaml").is_file():
        return _by_metadata(folder, files)
    groups: dict[str, dict[int, Path]] = {}
    for path in files:
        stem = path.name[: path.name.lower().index(format_of(path) or "")]
        part = _PART.fullmatch(stem)
        group = groups.setdefault(part.group(1) if part else stem, {})
        group[int(part.group(2)) if part else -1 - len(group)] = path
    found = []
    for name, group in sorted(groups.items()):
        paths = tuple(group.values())
        path = paths[0] if len(paths) == 1 else folder if len(groups) == 1 else folder / name
        found.append(BagFiles(path, path.name, paths, _missing_parts(folder, group)))
    return found


def _by_metadata(folder: Path, files: list[Path]) -> list[BagFiles]:
    """The recording of a folder with metadata.yaml, which lists its files."""
    listed = _listed(folder)
    # A file is packed or unpacked after its name was written down.
    present = {_plain(path.name): path for path in files} | {path.name: path for path in files}
    named = [present.get(name) or present.get(_plain(name)) for name in listed]
    missing = [name for name, path in zip(listed, named, strict=True) if path is None]
    kept = tuple(path for path in named if path is not None) or tuple(files)
    notices: tuple[Notice, ...] = ()
    if missing and (len(missing) < len(listed) or not files):
        notices = (_missing(folder, len(missing), len(listed), missing[0]),)
    return [BagFiles(folder, folder.name, kept, notices)] if kept or notices else []


def _missing_parts(folder: Path, group: Mapping[int, Path]) -> tuple[Notice, ...]:
    """What is to be said where of NAME_0, NAME_2 there is no NAME_1."""
    low, high = min(group), max(group)
    holes = sorted(set(range(low, high + 1)) - set(group)) if high - low < 10 * len(group) else []
    if low < 0 or not holes:
        return ()
    first = group[low].name.replace(str(low), str(holes[0]))
    return (_missing(folder, len(holes), high - low + 1, first),)


def _missing(folder: Path, missing: int, total: int, first: str) -> Notice:
    text = f"{missing} of {total} files of {folder.name} are missing: {first}"
    remedy = "copy them into the folder; what they hold is a gap"
    return Notice("missing_files", text, remedy, {"files": missing})


def _inside(folder: Path) -> list[Path]:
    """The files of bags in a folder, in the order of their numbers."""
    try:
        items = [item for item in folder.iterdir() if item.is_file() and format_of(item)]
    except OSError:
        return []
    names = {item.name for item in items}
    kept = (item for item in items if not item.name.startswith(".") and not _is_copy(item, names))
    return sorted(kept, key=_natural)


def _is_copy(path: Path, names: Set[str]) -> bool:
    """Whether the file is beside its original: packed, or kept by rosbag reindex or compress."""
    plain = _plain(path.name)
    return (plain != path.name and plain in names) or (
        plain.endswith(".orig.bag") and plain.removesuffix(".orig.bag") + ".bag" in names
    )


def _folders(source: Path, depth: int = MAX_DEPTH, seen: Set[Path] = frozenset()) -> Iterator[Path]:
    """The folder and those below it, each once, in the order of their names."""
    yield source
    try:
        inside = [item for item in source.iterdir() if item.is_dir()]
    except OSError as error:
        if depth < MAX_DEPTH:
            return
        raise DataError(str(source), "a folder that can be read", str(error)) from error
    above = {*seen, source.resolve()}
    for item in sorted((item for item in inside if not item.name.startswith(".")), key=_natural):
        if depth and item.resolve() not in above:  # a link to where it lies in
            yield from _folders(item, depth - 1, above)


def _natural(path: Path) -> list[tuple[int, str]]:
    """drive_2 before drive_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _plain(name: str) -> str:
    """The name without the ending of a packed file."""
    ending = next((item for item in PACKED if name.lower().endswith(item)), "")
    return name[: len(name) - len(ending)]


def _listed(folder: Path) -> list[str]:
    """Names of the files that rosbag2's metadata.yaml lists; none where it is damaged."""
    try:
        paths = read_yaml(folder / "metadata.yaml")["rosbag2_bagfile_information"][
            "relative_file_paths"
        ]
        return [Path(item).name for item in paths if isinstance(item, str)]
    except (OSError, YAMLError, KeyError, TypeError):
        return []
