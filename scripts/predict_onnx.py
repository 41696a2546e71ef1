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
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

ENDINGS = (".jpg", ".jpeg", ".png")


def decode(path: Path) -> np.ndarray:
    """An image file as uint8 RGB (H, W, 3), turned as its EXIF says."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


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
    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["skinjax"])
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
    print(about["disclaimer"], file=sys.stderr)


if __name__ == "__main__":
    main()
