"""A bounded, seeded sample of a prepared data set's images: small pictures and colours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

_BATCH_BYTES = 32 << 20  # of images that are read at once


@dataclass(frozen=True)
class Sample:
    """What was seen of the sampled images.

    Attributes:
      index_C: of each class, which images were read: int64 (n,), in random order.
      tile_C: of each class, the first of them at most TILE pixels wide: uint8 (h, w, 3) RGB.
      histogram_C3V: how many of the pixels have which value: int64 (classes, 3, 256), RGB.
      mean_C: of each class, the mean colour of each image read: float64 (n, 3) RGB in [0, 255].
    """

    index_C: list[np.ndarray]
    tile_C: list[list[np.ndarray]]
    histogram_C3V: np.ndarray
    mean_C: list[np.ndarray]


def draw_sample(
    label_N: np.ndarray, num_classes: int, *, per_class: int, seed: int
) -> list[np.ndarray]:
    """At most `per_class` images of each class, int64 (n,) each, in random order."""
    return [
        np.random.default_rng([seed, label]).permutation(np.flatnonzero(label_N == label))[
            :per_class
        ]
        for label in range(num_classes)
    ]


def read_sample(
    source: Any, index_C: Sequence[np.ndarray], *, image_size: int, num_tiles: int, tile: int
) -> Sample:
    """Reads the drawn images once, a few at a time.

    Args:
      source: `PreparedDataset.source`.
      index_C: as `draw_sample` gave it.
      image_size: side of the source's images, pixels.
      num_tiles: how many of each class are kept as small pictures.
      tile: their longer side at most, pixels.
    """
    histogram_C3V = np.zeros((len(index_C), 3, 256), np.int64)
    tile_C: list[list[np.ndarray]] = [[] for _ in index_C]
    mean_C = [np.zeros((len(index_n), 3)) for index_n in index_C]
    for label, index_n in enumerate(index_C):
        for place, image_HWC in enumerate(_images(source, index_n, image_size)):
            histogram_3V = histogram(image_HWC)
            histogram_C3V[label] += histogram_3V
            mean_C[label][place] = moments(histogram_3V)[0]
            if place < num_tiles:
                tile_C[label].append(shrink(image_HWC, tile))
    return Sample(list(index_C), tile_C, histogram_C3V, mean_C)


def histogram(image_HWC: np.ndarray) -> np.ndarray:
    """How many pixels of an uint8 RGB image have which value: int64 (3, 256)."""
    return np.stack([np.bincount(image_HWC[..., c].ravel(), minlength=256) for c in range(3)])


def moments(weight_3V: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the values 0 to 255 under weights; NaN where there are none.

    Args:
      weight_3V: (..., 3, 256), such as a histogram.

    Returns:
      Two float64 (..., 3).
    """
    value_V = np.arange(256)
    total_3 = weight_3V.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        mean_3 = weight_3V @ value_V / total_3
        variance_3 = weight_3V @ value_V**2 / total_3 - mean_3**2
    return mean_3, np.sqrt(np.maximum(variance_3, 0))


def shrink(image_HWC: np.ndarray, side: int) -> np.ndarray:
    """The image with its longer side at most `side` pixels."""
    height, width = image_HWC.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image_HWC
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA)


def _images(source: Any, index_n: np.ndarray, image_size: int) -> Iterator[np.ndarray]:
    step = max(1, _BATCH_BYTES // (3 * image_size**2))
    for start in range(0, len(index_n), step):
        for example in source.__getitems__(index_n[start : start + step].tolist()):
            yield example["image"]
