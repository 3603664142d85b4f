"""Source archives from the package index, checked against their sha256 and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PATIENCE = 180


def locate_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asyncflask-tests"


def fetch(name: str, version: str, sha256: str) -> Path:
    """The path of a release's source archive, downloaded if it is not there. RuntimeError if it is another file."""
    folder = locate_cache() / "archives"
    kept = folder / f"{name}-{version}.tar.gz"
    if kept.is_file() and hash_file(kept) == sha256:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        found = download(name, version, Path(scratch))
        if hash_file(found) != sha256:
            raise RuntimeError(f"{found.name} has sha256 {hash_file(found)} instead of {sha256}")
        found.replace(kept)
    return kept


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download(name: str, version: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name]
    done = subprocess.run(
        [*command, "--dest", str(folder), f"{name}=={version}"], capture_output=True, text=True, timeout=PATIENCE
    )
    if done.returncode:
        raise RuntimeError(f"pip could not download {name} {version}:\n{done.stderr}")
    return next(folder.iterdir())


def unpack(archive: Path, folder: Path) -> Path:
    """Extract into `folder`; returns the one directory at the archive's top."""
    if sys.version_info >= (3, 12):
        shutil.unpack_archive(archive, folder, filter="data")
    else:
        shutil.unpack_archive(archive, folder)
    return next(path for path in folder.iterdir() if path.is_dir())
