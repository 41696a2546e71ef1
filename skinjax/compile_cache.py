"""What was compiled, kept on the disk for the next process."""

import contextlib
import os
from pathlib import Path

import jax

_MOST_BYTES = 1 << 30
_LEAST_SECONDS = 0.5  # of compiling, below which it isn't worth a file


def enable() -> None:
    """Has JAX keep what it compiles: in JAX_COMPILATION_CACHE_DIR, else under ~/.cache/skinjax.

    The second is a folder of this user alone (what is in it is run), in XDG_CACHE_HOME if that is
    set. Where it takes more than 1 GiB, what is oldest is removed. Where it can't be made, nothing
    is kept.

    JAX doesn't write whole files at once: one cut short (by SIGKILL or a full disk) stays, and each
    later run warns of it and compiles again, until the folder (~/.cache/skinjax/compiled) is
    deleted.
    """
    if jax.config.values["jax_compilation_cache_dir"]:  # the variable's, or the program's own
        return
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = caches / "skinjax" / "compiled"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or no home
        return
    with contextlib.suppress(OSError):  # too large a cache is better than none
        _prune(directory)
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _prune(directory: Path) -> None:
    """Removes the oldest files while there are more than `_MOST_BYTES`."""
    files = []
    for path in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process may prune, too
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= _MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size
