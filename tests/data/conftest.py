"""A small data set in HAM10000's layout, for the tests of what reads one."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from skinjax.config import default_config
from skinjax.data.labels import HAM10000_CLASSES


@pytest.fixture
def raw_dir(tmp_path: Path) -> Path:
    """7 classes of 4 lesions; the first lesion of each has 2 images. 35 images of 24 x 16 px."""
    return write_ham10000(tmp_path / "raw")


@pytest.fixture
def make_raw_dir() -> Callable[[Path], Path]:
    return write_ham10000


@pytest.fixture
def config(raw_dir, tmp_path):
    config = default_config()
    config.data.raw_dir = str(raw_dir)
    config.data.prepared_dir = str(tmp_path / "prepared")
    config.data.image_size = 8
    config.data.min_side = 8
    return config


def write_ham10000(raw_dir: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for number in range(35):
        lesion, name = number % 28, HAM10000_CLASSES[number % 7]
        image_id = f"ISIC_{number:07d}"
        lines.append(f"HAM_{lesion:07d},{image_id},{name},histo,{5 * lesion}.0,female,back")
        folder = raw_dir / f"HAM10000_images_part_{1 + number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        colour = rng.integers(0, 256, 3)
        image_HWC = np.clip(colour + rng.integers(-9, 9, (16, 24, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{image_id}.jpg"), image_HWC)
    (raw_dir / "HAM10000_metadata.csv").write_text("\n".join(lines) + "\n")
    return raw_dir
