"""Files and folders that appear whole or not at all, and how their paths are shown."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its name when the block succeeds.

    An earlier folder of that name waits beside it while the names change; where the process is
    killed right then, :func:`restore_folder` puts it back.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        with _names_locked(target.parent):
            aside = _aside(target)
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)
                target.rename(aside)
            temporary.rename(target)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def restore_folder(path: str | os.PathLike[str]) -> None:
    """Puts back the folder of a :func:`replaced_folder` that was killed between its renames.

    Waits for one that is at work: only the folder of a dead process is put back.
    """
    target = Path(path)
    if target.exists() or not _aside(target).is_dir():
        return
    with _names_locked(target.parent):
        if not target.exists() and _aside(target).is_dir():
            _aside(target).rename(target)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Writes text (UTF-8) in one piece; for JSON and HTML results."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for a result that others read: relative where it lies in the working directory."""
    absolute, here = Path(path).resolve(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def lock(descriptor: int) -> None:
    """Waits for the only lock on an open file; nothing on a system without such locks."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _aside(folder: Path) -> Path:
    """Where a folder waits while its successor takes its place."""
    return folder.with_name(f".{folder.name}.old")


@contextmanager
def _names_locked(parent: Path) -> Iterator[None]:
    """No other process that asks for this lock renames folders in ``parent`` meanwhile."""
    if fcntl is None:  # where folders cannot be opened either
        yield
        return
    descriptor = os.open(parent, os.O_RDONLY)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)
