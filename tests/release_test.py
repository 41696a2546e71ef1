"""The trained model in the repository, used as a user without JAX would."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from skinjax.data.labels import HAM10000_CLASSES

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "releases" / "ham10000_small" / "model.onnx"


def test_predicts_with_onnx_runtime_alone(tmp_path: Path) -> None:
    image_HWC = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(image_HWC).save(tmp_path / "lesion.png")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "predict_onnx.py", MODEL, tmp_path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (row,) = csv.DictReader(done.stdout.splitlines())
    probability_C = [float(row[f"prob_{name}"]) for name in HAM10000_CLASSES]
    np.testing.assert_allclose(sum(probability_C), 1, atol=1e-5)
    assert row["predicted"] == HAM10000_CLASSES[int(np.argmax(probability_C))]
    assert "not for diagnosis" in done.stderr


def test_is_small_enough_to_be_committed() -> None:
    assert MODEL.stat().st_size < 12_000_000
