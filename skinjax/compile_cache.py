"""What was compiled, kept on the disk for the next process."""

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
    """
    if jax.config.values["jax_compilation_cache_dir"]:  # the variable's, or the program's own
        return
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = caches / "skinjax" / "compiled"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _prune(directory)
    except (OSError, RuntimeError):  # read-only, or no home
        return
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _prune(directory: Path) -> None:
    """Removes the oldest files while there are more than `_MOST_BYTES`."""
    files = [(path.stat().st_mtime, path.stat().st_size, path) for path in directory.iterdir()]
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= _MOST_BYTES:
            return
        path.unlink(missing_ok=True)  # another process may prune, too
        total -= size
