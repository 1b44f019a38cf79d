"""Where downloaded and derived files lie: outside the checkout, shared by all checkouts of a user."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def cache_dir() -> Path:
    """METERSTREAM_CACHE_DIR, else the user's cache directory; created when absent."""
    explicit = os.environ.get("METERSTREAM_CACHE_DIR")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meterstream"
    path = Path(explicit).expanduser().absolute() if explicit else base
    path.mkdir(parents=True, exist_ok=True)
    return path


def content_key(parts: Iterable[bytes]) -> str:
    """A short name for what was made from these bytes; length-prefixed, so parts cannot run together."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Make directory `target` by `build(scratch)` unless it exists.

    Safe to repeat and to race: the scratch directory is renamed into place as a whole, the first one wins,
    so a directory that exists is complete.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        build(scratch)
        scratch.chmod(0o755)  # mkdtemp makes it private; another user may have to read it (postgres.py)
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def others_may_reach(path: Path) -> bool:
    """Whether a user without rights of ours can traverse every directory down to `path`."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in [path, *path.parents])


def shared_cache_dir() -> Path:
    """A cache that an unprivileged user can read too: for root, whose own cache usually is private."""
    candidates = (cache_dir(), Path("/var/cache/meterstream"), Path(tempfile.gettempdir()) / "meterstream-cache")
    for candidate in candidates:
        try:
            candidate.mkdir(parents=True, exist_ok=True)
            info = candidate.stat()
        except OSError:
            continue
        # What somebody else could have put there is not run.
        private = info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if private and os.access(candidate, os.W_OK) and others_may_reach(candidate):
            return candidate
    raise PermissionError("no cache directory that another user can read; set METERSTREAM_CACHE_DIR to one")
