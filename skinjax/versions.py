"""What this package is running with: installed versions and the git commit of its checkout."""

import importlib.metadata
import os
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("skinjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"),
    *("tensorflow-datasets", "array-record", "ml-collections", "scikit-learn", "matplotlib"),
    *("opencv-python-headless", "opencv-python", "tensorboardX"),
)


def installed() -> dict[str, str]:
    """Version by distribution name, of those that are installed; imports none of them."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state(root: Path) -> dict[str, Any] | None:
    """`commit` and `dirty` of the checkout at `root`; None outside one, or without git."""
    if not (root / ".git").exists():
        return None
    # A hook's GIT_DIR would point elsewhere; without the lock nothing is written to the index.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
