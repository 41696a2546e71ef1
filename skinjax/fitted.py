"""What is fitted to a checkpoint after training, kept beside it: calibration, threshold and so on.

Each checkpoint has a folder of its own, `checkpoints/fitted/<step>/`, so that nothing that was
fitted to one is ever used with another.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skinjax import logs
from skinjax.errors import InputError

CALIBRATION = "calibration.json"
THRESHOLD = "threshold.json"
UNKNOWN = "unknown.safetensors"

_FORMAT = 1
_MOST_BYTES = 1 << 20


def path(workdir: Path | str, step: int, name: str) -> Path:
    """Where a checkpoint's `name` lies, or would lie."""
    return Path(workdir) / "checkpoints" / "fitted" / str(step) / name


def write_json(workdir: Path | str, step: int, name: str, values: Mapping[str, Any]) -> Path:
    """Writes `values` atomically; returns the path."""
    target = path(workdir, step, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    logs.write_json(target, {"format": _FORMAT, "step": step, **values})
    return target


def read_json(workdir: Path | str, step: int, name: str) -> dict[str, Any] | None:
    """What `write_json` wrote, as JSON types, unchecked; None if there is nothing.

    Raises:
      InputError: the file is no JSON object, of another checkpoint, or of another version.
    """
    source = path(workdir, step, name)
    try:
        if source.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {source.stat().st_size} bytes")
        values = json.loads(source.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{source} can't be read ({error}); {_ADVICE}") from None
    if not isinstance(values, dict):
        raise InputError(f"{source} holds a {type(values).__name__}, no object; {_ADVICE}")
    for key, expected in {"format": _FORMAT, "step": step}.items():
        if values.get(key) != expected:
            raise InputError(
                f"{source} has {key} {values.get(key)!r}, expected {expected}; {_ADVICE}"
            )
    return {key: value for key, value in values.items() if key not in ("format", "step")}


_ADVICE = "delete it, and fit it again"


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
