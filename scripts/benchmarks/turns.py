"""Contestants in turns, so that all meet the same noise, and the JPEGs that they work on."""

import itertools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2

from skinjax.data import images

PUBLISHED = (600, 450)  # columns and rows of HAM10000's files


def in_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each in each round; one round before them isn't counted."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if number:
                taken[name].append(time.perf_counter() - start)
    return taken


def enlarged(source: Path, target: Path, count: int) -> list[Path]:
    """Writes `count` JPEGs of the published size, from as many files as there are, over and over.

    Files that are there already are kept.
    """
    found = sorted(source.rglob("*.jpg"))
    if not found:
        raise SystemExit(f"no .jpg under {source}")
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"ISIC_{number:07d}.jpg" for number in range(count)]
    for path, original in zip(paths, itertools.cycle(found), strict=False):
        if not path.exists():
            image_HWC = images.decode(original)
            image_HWC = cv2.resize(image_HWC, PUBLISHED, interpolation=cv2.INTER_CUBIC)
            path.write_bytes(images.encode_jpeg(image_HWC))
    return paths
