"""Predicts from an ONNX file that `skinjax export --format=onnx` wrote, without JAX or skinjax.

    pip install onnxruntime numpy pillow
    python scripts/predict_onnx.py model.onnx lesion.jpg folder/ > predictions.csv

The file has everything inside: it resizes and normalises images of any size, and its
probabilities are calibrated. All that is left to do is to decode an image to RGB, upright. Files
in a folder are taken by their endings. A file that can't be read gets a row with the error.
"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

ENDINGS = (".jpg", ".jpeg", ".png")
DISCLAIMER = "For research and education, not for diagnosis."

# Under which ONNX Runtime looks for files that a model names: nothing is.
_EXTERNAL_FOLDER = ("session.model_external_initializers_file_folder_path", os.devnull)


def open_model(path: Path) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """The model, and what its file says of it; ends the program where it is no export."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says is in the exception
    options.add_session_config_entry(*_EXTERNAL_FOLDER)
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has a class for each fault, with no common one
        sys.exit(f"{path} can't be read as ONNX ({str(error).splitlines()[0][:200]})")
    try:
        about = json.loads(session.get_modelmeta().custom_metadata_map["skinjax"])
        check(about, [value.shape[-1] for value in session.get_outputs()])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        sys.exit(f"{path} is no export of skinjax, or is damaged ({error!r}); export it again")
    return session, about


def check(about: dict[str, Any], widths: list[Any]) -> None:
    """Raises one of many errors where what is used below is missing or of another kind."""
    classes, threshold, patient = (about[k] for k in ("classes", "threshold", "patient_metadata"))
    names = [*classes, *about["descriptions"], *about["outside"]]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names that are no text")
    if not len(classes) == len(about["descriptions"]) == len(set(classes)) == widths[0]:
        raise ValueError(f"{len(classes)} classes for outputs of the sizes {widths}")
    if threshold is not None:
        [classes.index(name) for name in threshold["positive"]]
        if not 0 <= threshold["threshold"] <= 1:
            raise ValueError(f"the threshold {threshold['threshold']}")
    if patient is not None:
        np.array([patient["missing"]], np.float32)


def decode(path: Path) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3), turned as its EXIF says."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F":
            raise ValueError("an image of floating-point numbers, which have no known range")
        if upright.mode.startswith("I"):
            return grey(np.asarray(upright).astype(np.int64))
        return np.asarray(upright.convert("RGB"))


def grey(value_HW: np.ndarray) -> np.ndarray:
    """16-bit grey as uint8 RGB: its upper 8 bits, where Pillow would clip it to 255."""
    if value_HW.min() < 0 or value_HW.max() > 65535:
        raise ValueError("an image of more than 16 bits")
    return np.repeat((value_HW >> 8).astype(np.uint8)[..., None], 3, axis=2)


def files(names: list[str]) -> Iterator[Path]:
    """The files named, and those of the folders named, in order."""
    for name in names:
        path = Path(name)
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.suffix.lower() in ENDINGS)
        else:
            yield path


def predict(session: onnxruntime.InferenceSession, about: dict[str, Any], path: Path) -> list[str]:
    """One row: the file, class, description, decision, error, and the probabilities."""
    classes = about["classes"]
    try:
        inputs = {"image": decode(path)[None]}
        if about["patient_metadata"]:  # a model that takes it: all is missing
            inputs["metadata"] = np.array([about["patient_metadata"]["missing"]], np.float32)
        probability_C = session.run(["probabilities"], inputs)[0][0]
    except Exception as error:  # whatever a broken file leads to: the others go on
        return [str(path), "", "", "", " ".join(str(error).split()), *[""] * len(classes)]
    best = int(probability_C.argmax())
    decision = ""
    if about["threshold"]:
        positive = about["threshold"]["positive"]
        score = float(sum(probability_C[classes.index(name)] for name in positive))
        decision = " or ".join(positive) if score >= about["threshold"]["threshold"] else "none"
    shares = [f"{share:.6f}" for share in probability_C]
    return [str(path), classes[best], about["descriptions"][best], decision, "", *shares]


def main() -> None:
    """Predicts what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="the .onnx file")
    parser.add_argument("images", nargs="+", help="image files and folders of them")
    arguments = parser.parse_args()
    session, about = open_model(Path(arguments.model))
    if about["outside"]:
        sys.exit(
            f"{arguments.model} takes images after {', '.join(about['outside'])}, which only"
            " skinjax does: use skinjax predict"
        )
    writer = csv.writer(sys.stdout)
    names = [f"prob_{name}" for name in about["classes"]]
    writer.writerow(["image", "predicted", "description", "decision", "error", *names])
    for path in files(arguments.images):
        writer.writerow(predict(session, about, path))
    print(DISCLAIMER, file=sys.stderr)


if __name__ == "__main__":
    main()
