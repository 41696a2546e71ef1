"""What an export says of itself: classes, preprocessing, calibration and so on, as JSON."""

import importlib.metadata
import json
from collections.abc import Callable
from typing import Any

from skinjax.calibration import Calibration
from skinjax.data import labels
from skinjax.errors import InputError
from skinjax.export.network import OUTPUTS
from skinjax.plots.style import DISCLAIMER
from skinjax.trained import TrainedModel

FORMAT = 1
KEY = "skinjax"  # under which ONNX and safetensors files have it
MAX_BYTES = 4 << 20

_LARGEST = 1e9  # of an encoded value of patient metadata

Description = dict[str, Any]


def describe(
    model: TrainedModel,
    calibration: Calibration,
    threshold: tuple[tuple[str, ...], float] | None,
    dtype: str,
) -> Description:
    """Everything that who predicts from the export has to know, as JSON types.

    Args:
      model: that is exported.
      calibration: that is inside.
      threshold: the positive classes, and the least sum of their probabilities to decide for them.
      dtype: of the weights.
    """
    outside = outside_steps(model)
    size = model.image_size
    if outside:
        image = (
            f"uint8 RGB (batch, {size}, {size}, 3), after {', '.join(outside)} and the resizing of"
            " skinjax.data.preprocess: these are OpenCV's and not inside"
        )
    else:
        image = "uint8 RGB (batch, height, width, 3), any height and width"
    described: Description = {
        "format": FORMAT,
        "skinjax": importlib.metadata.version("skinjax"),
        "disclaimer": DISCLAIMER,
        "network": model.config.model.name,
        "step": model.step,
        "epoch": model.epoch,
        "classes": list(model.classes),
        "descriptions": [labels.description(name, model.classes) for name in model.classes],
        "image": image,
        "image_size": size,
        "preprocess": model.preprocess.settings(),
        "outside": outside,
        "normalize": {
            "mean": [float(value) for value in model.config.normalize.mean],
            "std": [float(value) for value in model.config.normalize.std],
        },
        "calibration": calibration.to_json(),
        "temperature": calibration.temperature,
        "threshold": None,
        "patient_metadata": None,
        "dtype": dtype,
        "outputs": list(OUTPUTS),
    }
    if threshold is not None:
        described["threshold"] = {"positive": list(threshold[0]), "threshold": threshold[1]}
    if model.encoder is not None:
        missing = model.encoder.encode([{"age": None, "sex": "", "site": ""}])[0]
        described["patient_metadata"] = {
            "columns": list(model.encoder.names),
            "missing": missing.tolist(),
            "encoder": json.loads(model.encoder.to_json()),
        }
    return described


def outside_steps(model: TrainedModel) -> list[str]:
    """Steps of the recipe that only OpenCV does; with any, the export takes what comes of them."""
    return list(model.preprocess.steps())


def to_text(described: Description) -> str:
    """As JSON, for `parse`."""
    return json.dumps(described, allow_nan=False)


def parse(text: str | bytes | None, origin: object) -> Description:
    """Reads what `to_text` gave, from a file that may hold anything.

    Raises:
      InputError: it isn't there, isn't JSON, or lacks what is needed to use the file.
    """
    advice = "export the model again"
    if not text or len(text) > MAX_BYTES:
        raise InputError(f"{origin} says nothing of itself as exports do; {advice}")
    try:
        described = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{origin}: its description isn't JSON ({error}); {advice}") from None
    match described:
        case {
            "format": int(number), "classes": [str(), str(), *_] as classes,
            "image_size": int(size), "outside": [*outside], "descriptions": [*descriptions],
        } if (
            all(isinstance(name, str) for name in [*classes, *descriptions, *outside])
            and len(set(classes)) == len(classes) == len(descriptions)
            and 1 < size <= 4096
        ):  # fmt: skip
            pass
        case _:
            raise InputError(
                f"{origin}: its description lacks classes, descriptions, image_size or outside, or"
                f" has others than expected; {advice}"
            )
    if number != FORMAT:
        raise InputError(
            f"{origin} is an export of format {number}, expected {FORMAT}; use the version of"
            f" skinjax that wrote it, or {advice}"
        )
    wrong = [name for name, is_valid in _CHECKS.items() if not is_valid(described)]
    if wrong:
        raise InputError(
            f"{origin}: {', '.join(wrong)} of its description is missing or has no value that an"
            f" export has; {advice}"
        )
    found: Description = described
    return found


def _has_threshold(described: Description) -> bool:
    match described.get("threshold", ""):
        case None:
            return True
        case {"positive": [_, *_] as positive, "threshold": float() | int() as value}:
            return 0 <= value <= 1 and all(name in described["classes"] for name in positive)
    return False


def _has_metadata(described: Description) -> bool:
    match described.get("patient_metadata", ""):
        case None:
            return True
        case {"columns": [_, *_] as columns, "missing": [*missing]}:
            return len(columns) == len(missing) and all(
                type(value) in (int, float) and abs(value) < _LARGEST for value in missing
            )
    return False


_CHECKS: dict[str, Callable[[Description], bool]] = {
    "outputs": lambda described: described.get("outputs") == list(OUTPUTS),
    "disclaimer": lambda described: isinstance(described.get("disclaimer"), str),
    "threshold": _has_threshold,
    "patient_metadata": _has_metadata,
}


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
