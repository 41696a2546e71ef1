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
    about = {"format": _FORMAT, "step": step, "digest": digest(workdir, step)}
    logs.write_json(target, {**about, **values})
    return target


def read_json(workdir: Path | str, step: int, name: str) -> dict[str, Any] | None:
    """What `write_json` wrote, as JSON types, unchecked; None if there is nothing.

    Raises:
      InputError: the file is no JSON object, of another checkpoint, or of another version.
    """
    source = path(workdir, step, name)
    try:
        values = json.loads(logs.read_text(source, _MOST_BYTES), parse_constant=_refuse)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{source} can't be read ({error}); {_ADVICE}") from None
    if not isinstance(values, dict):
        raise InputError(f"{source} holds a {type(values).__name__}, no object; {_ADVICE}")
    about = {"format": _FORMAT, "step": step, "digest": digest(workdir, step)}
    for key, expected in about.items():
        if values.get(key) != expected:
            raise InputError(
                f"{source} has {key} {values.get(key)!r}, expected {expected}; {_ADVICE}"
            )
    return {key: value for key, value in values.items() if key not in about}


def digest(workdir: Path | str, step: int) -> str:
    """What tells a checkpoint from another of the same step (`checkpoint_contents`); '' if not."""
    description = Path(workdir) / "checkpoints" / str(step) / "description" / "metadata"
    try:
        values = json.loads(logs.read_text(description, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(values.get("digest", "")) if isinstance(values, dict) else ""


_ADVICE = "delete it, and fit it again"


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
