"""Folders of files that are executed, as built engines are: only the user may write there.

Who can write into such a folder can have this process run anything, and hashes in the same folder
say nothing then. On Windows, whose folders of a user are the user's own, nothing is checked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from v2w_core.errors import V2WError
from v2w_core.files import lock

_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make_private_folder(path: Path, remedy: str) -> None:
    """Makes the folder, for the user alone, or checks the one that is there.

    Raises:
        V2WError: as :func:`require_private`; MODEL_ERROR, with ``remedy``, also where the folder
            cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise V2WError("engines", f"a folder that can be made; {remedy}", str(error),
                       code="MODEL_ERROR") from error  # fmt: skip
    require_private(path, remedy)


def require_private(path: Path, remedy: str) -> None:
    """Checks that only the user can have written a file or folder, and for a folder what is in it.

    Args:
        path: the file or folder; its parents may be anybody's.
        remedy: what to do about it, for the error.

    Raises:
        V2WError: MODEL_ERROR; a symbolic link, something that is neither a file nor a folder, an
            owner other than the user and root, or permission to write for a group or for others.
    """
    if not hasattr(os, "getuid"):
        return
    found = path.lstat()
    kind = stat.S_IFMT(found.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "no plain file"
    elif found.st_uid not in (0, os.getuid()):
        what = f"of user {found.st_uid}"
    elif found.st_mode & _OTHERS:
        what = f"writable by others, mode {stat.S_IMODE(found.st_mode):o}"
    else:
        return
    rule = f"files that nobody else can write (what is there is executed); {remedy}"
    raise V2WError("engines", rule, f"{path} is {what}", code="MODEL_ERROR")


def require_all_private(folder: Path, remedy: str) -> None:
    """Raises V2WError unless a folder and all in it are private (:func:`require_private`)."""
    require_private(folder, remedy)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            require_private(Path(parent, name), remedy)


def keep_private(folder: Path) -> None:
    """Takes the permissions of groups and others from the files in a folder of the user's."""
    for file in folder.iterdir():
        file.chmod(stat.S_IMODE(file.stat().st_mode) & 0o700)


@contextmanager
def locked(path: Path, remedy: str) -> Iterator[None]:
    """No other process that asks for this lock file is in the block meanwhile.

    Raises:
        V2WError: the file is not the user's own.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        rule = f"a lock file that the user can open; {remedy}"
        raise V2WError("engines", rule, str(error), code="MODEL_ERROR") from error
    try:
        require_private(path, remedy)
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)
