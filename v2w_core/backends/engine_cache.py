"""Built engines on disk: found by what they were built from, whole or not there at all.

An artifact is a folder named by its key, the hash of everything that the engine depends on. Its
``manifest.json`` says what that was, the hashes of the files, and how fast and how exact it is.
Engines are executed: a folder or a file that others can write is refused, as its manifest could be
theirs as well.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from v2w_core.files import replaced_folder, write_text
from v2w_core.private_files import (
    keep_private,
    locked,
    make_private_folder,
    require_all_private,
)

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
PACKAGE = Path(__file__).resolve().parents[1]

log = logging.getLogger(__name__)

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: Writes an engine's files into a folder; returns its figures (parity, latency).
Builder = Callable[[Path], dict[str, Any]]


def engines_folder(named: Path | None = None) -> Path:
    """The folder of built engines: ``named``, $V2W_ENGINES, or the one in the user's cache."""
    if named is not None:
        return named
    variable = os.environ.get("V2W_ENGINES")
    if variable:
        return Path(variable)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "v2w" / "engines"


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of a module's weights: names, shapes, types and numbers."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def source_hash(*modules: str | Path) -> str:
    """SHA-256 of the code in source files; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for file in modules:
        tree = ast.parse(Path(file).read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()


def network_hash(package: Path = PACKAGE) -> str:
    """SHA-256 of the code that every engine depends on: the network, how its steps are given the
    cache and the unconditional branch, and the gate that an engine had to pass.

    Args:
        package: the folder of v2w_core.
    """
    files = ["backends/onnx_step/graph_cache.py", "backends/parity.py", "rollout/interfaces.py"]
    return source_hash(*sorted((package / "models").rglob("*.py")), *(package / f for f in files))


def device_name(device: torch.device) -> str:
    """The device that an engine is built for and was measured on."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        name = torch.cuda.get_device_name(device)
        return f"{name} (SM {major}.{minor}, driver {_driver()})"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} {names[0] if names else platform.processor()}".strip()


def _driver() -> str:
    """The version of NVIDIA's kernel driver."""
    try:
        line = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return f"for CUDA {torch._C._cuda_getDriverVersion()}"  # type: ignore[attr-defined]
    return next((word for word in line.split() if word[0].isdigit() and "." in word), line)


def find_or_build(root: Path, built_from: dict[str, Any], build: Builder) -> Path:
    """The folder of the engine that is built from this; builds it where there is none.

    Processes that ask for the same engine at the same time build it once. An engine whose files
    are not those of its manifest is built again.

    Raises:
        V2WError: of ``build``; nothing is left behind then. MODEL_ERROR: the folder, the engine or
            one of its files belongs to another user, can be written by others, or is a link.
    """
    text = json.dumps(built_from, sort_keys=True)
    built_from = json.loads(text)  # as the manifest will hold it: lists, not tuples
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:32]
    remedy = f"chmod -R go-w {root}, or name your own folder in $V2W_ENGINES"
    make_private_folder(root, remedy)
    with locked(root / f".{folder.name}.lock", remedy):
        if os.path.lexists(folder):
            require_all_private(folder, remedy)
            damage = _damage(folder, built_from)
            if damage is None:
                log.info("found engine %s", folder)
                return folder
            log.warning("engine %s is built again: %s", folder, damage)
            shutil.rmtree(folder)
        with replaced_folder(folder) as temporary:
            figures = build(temporary)
            files = {file.name: _file_hash(file) for file in sorted(temporary.iterdir())}
            manifest = {
                "format_version": FORMAT_VERSION,
                "built_from": built_from,
                "files": files,
                **figures,
            }
            write_text(temporary / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            keep_private(temporary)
        folder.chmod(0o700)
    return folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an engine of :func:`find_or_build`."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def _damage(folder: Path, built_from: dict[str, Any]) -> str | None:
    """Says what is wrong with a folder; None: nothing."""
    try:
        manifest = read_manifest(folder)
        if manifest["built_from"] != built_from:
            return "its manifest is of another engine"
        there = {file.name for file in folder.iterdir()} - {MANIFEST}
        if there != set(manifest["files"]):
            return "its files are not those of its manifest"
        for name, digest in manifest["files"].items():
            if _file_hash(folder / name) != digest:
                return f"{name} has changed"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
