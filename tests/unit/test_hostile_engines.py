"""Engines are executed: what others can have written is refused, with what to do about it."""

from __future__ import annotations

import hashlib
import json
import os
import stat

import pytest

from v2w_core.backends.engine_cache import find_or_build
from v2w_core.errors import V2WError

KEY = {"weights": "abc"}


def build(folder):
    (folder / "engine.bin").write_bytes(b"mine")
    return {"parity": {}}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache" / "engines"


@pytest.fixture
def folder(root):
    before = os.umask(0)
    try:
        return find_or_build(root, KEY, build)
    finally:
        os.umask(before)


def refused(root, match="chmod"):
    def never(_):
        raise AssertionError("built")

    with pytest.raises(V2WError, match=match) as caught:
        find_or_build(root, KEY, never)
    assert caught.value.code == "MODEL_ERROR" and "V2W_ENGINES" in str(caught.value)


def test_engines_are_made_for_the_user_alone(root, folder):
    for path in (root, folder, *folder.iterdir(), *root.glob(".*.lock")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    assert find_or_build(root, KEY, None) == folder


def replaced(folder):
    """Another user's engine, whose manifest fits it."""
    (folder / "engine.bin").write_bytes(b"theirs")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["engine.bin"] = hashlib.sha256(b"theirs").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


WHERE = {
    "root": lambda folder: folder.parent,
    "engine": lambda folder: folder,
    "file": lambda folder: folder / "engine.bin",
    "manifest": lambda folder: folder / "manifest.json",
    "lock": lambda folder: folder.parent / f".{folder.name}.lock",
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_write_is_refused(root, folder, where, mode):
    replaced(folder)
    path = WHERE[where](folder)
    path.chmod(stat.S_IMODE(path.stat().st_mode) | mode)
    refused(root)


@pytest.mark.parametrize("where", WHERE)
def test_what_belongs_to_another_user_is_refused(root, folder, where, monkeypatch):
    path, lstat = WHERE[where](folder), type(folder).lstat

    def theirs(self):
        found = list(lstat(self))
        if self == path:
            found[stat.ST_UID] = os.getuid() + 4711
        return os.stat_result(found)

    monkeypatch.setattr(type(folder), "lstat", theirs)
    refused(root, str(os.getuid() + 4711))


@pytest.mark.parametrize("where", WHERE)
def test_links_are_refused(root, folder, where, tmp_path):
    path = WHERE[where](folder)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(root, "link")


def test_a_link_that_leads_nowhere_is_refused(root, folder, tmp_path):
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "nowhere")
    refused(root, "link")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "engines", "can be made")


@pytest.mark.parametrize("change", ["more", "fewer", "unlisted"])
def test_files_that_the_manifest_does_not_have_are_not_trusted(root, folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    if change == "more":
        (folder / "inductor.bin").write_bytes(b"theirs")
    elif change == "fewer":
        (folder / "engine.bin").unlink()
    else:
        manifest["files"] = {}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "engine.bin").write_bytes(b"theirs")
    assert find_or_build(root, KEY, build) == folder
    assert (folder / "engine.bin").read_bytes() == b"mine"
    assert len(list(folder.iterdir())) == 2


def test_a_system_without_owners_checks_nothing(root, folder, monkeypatch):
    monkeypatch.delattr(os, "getuid")
    root.chmod(0o777)
    assert find_or_build(root, KEY, None) == folder
