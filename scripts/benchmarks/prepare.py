"""Speed and memory of preparing, beside the OpenCV calls alone, in one run.

    python scripts/benchmarks/prepare.py --images=PATH/TO/ham10000 --work=/tmp/benchmark

Takes JPEGs from under --images, enlarges them to 600 x 450 in --work, and then, in turns:

- verifies and builds them at 256 px as JPEG (hashing, header and pixel checks, perceptual hash,
  resizing, encoding, shards) against `cv2.imread` + `cv2.resize` + `cv2.imencode` on all cores;
- removes hair and equalises with `skinjax.data.dermoscopy` against the same OpenCV calls alone.

Prints one table: the median of the rounds, the ratio, and the peak memory of this process.
"""

import argparse
import functools
import resource
import shutil
import statistics
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import record
import turns

from skinjax.config import default_config
from skinjax.data import dermoscopy, fingerprints, image_store, images, shards, threads
from skinjax.data.preprocess import Preprocess
from skinjax.data.records import Record

SIZE = 256


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of JPEGs, searched whole"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the enlarged copies")
    parser.add_argument("--count", type=int, default=2000, help="images (default: 2000)")
    parser.add_argument("--rounds", type=int, default=5, help="of each, in turns (default: 5)")
    parser.add_argument("--json", default="", help="file for the results")
    arguments = parser.parse_args()
    paths = turns.enlarged(arguments.images, arguments.work / "enlarged", arguments.count)

    print(f"{len(paths)} images of 600 x 450, {threads.available_cores()} cores")
    results = []
    for encoding in ("jpeg", "raw"):
        results.append(
            _compare(
                f"verify and build, {SIZE} px, {encoding}",
                len(paths),
                functools.partial(_build, paths, arguments.work / "prepared", encoding),
                functools.partial(_bare, paths, encoding),
                arguments.rounds,
            )
        )
    chosen = [images.decode(path) for path in paths[:200]]
    results.append(
        _compare(
            "hair removal and CLAHE, one thread",
            len(chosen),
            lambda: [dermoscopy.clahe(dermoscopy.remove_hair(image)) for image in chosen],
            lambda: [_opencv_clahe(_opencv_remove_hair(image)) for image in chosen],
            arguments.rounds,
        )
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of this process: {peak:.2f} GiB")
    headers = ("what", "images/s", "OpenCV alone", "ratio")
    rows = [tuple(one.values()) for one in results]
    record.report(arguments.json, "prepare", results, headers, rows)


def _compare(
    what: str, count: int, ours: Callable[[], object], bare: Callable[[], object], rounds: int
) -> dict[str, Any]:
    """Images per second of both, in turns, and the median ratio."""
    taken = turns.in_turns({"ours": ours, "bare": bare}, rounds)
    pairs = zip(taken["bare"], taken["ours"], strict=True)
    return {
        "what": what,
        "images_per_s": count / statistics.median(taken["ours"]),
        "opencv_per_s": count / statistics.median(taken["bare"]),
        "ratio": statistics.median(bare / ours for bare, ours in pairs),
    }


def _build(paths: Sequence[Path], folder: Path, encoding: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    records = [Record(path.stem, path, 0, path.stem, None, "", "", "") for path in paths]
    data = default_config().data
    data.image_size = SIZE
    spec = shards.Spec(("a", "b"), Preprocess.from_config(data), encoding, data.min_side)
    digests = fingerprints.hash_images(records, folder / "hashes.csv")
    image_store.build(folder, records, digests, spec, image_store.on_this_machine)


def _bare(paths: Sequence[Path], encoding: str) -> None:
    def one(path: Path) -> None:
        image_HWC = cv2.imread(str(path))
        assert image_HWC is not None
        image_HWC = cv2.resize(image_HWC, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        if encoding == "jpeg":
            cv2.imencode(".jpg", image_HWC, (cv2.IMWRITE_JPEG_QUALITY, images.JPEG_QUALITY))

    with futures.ThreadPoolExecutor(threads.available_cores()) as executor:
        for _ in executor.map(one, paths):
            pass


def _opencv_remove_hair(image_HWC: np.ndarray) -> np.ndarray:
    """DullRazor's calls with the kernel of 600 x 450."""
    grey_HW = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (17, 17))
    hat_HW = cv2.morphologyEx(grey_HW, cv2.MORPH_BLACKHAT, kernel)
    _, mask_HW = cv2.threshold(hat_HW, 10, 255, cv2.THRESH_BINARY)
    return cv2.inpaint(image_HWC, mask_HW, 1, cv2.INPAINT_TELEA)


def _opencv_clahe(image_HWC: np.ndarray) -> np.ndarray:
    lab_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2LAB)
    lightness_HW, a_HW, b_HW = cv2.split(lab_HWC)
    lightness_HW = cv2.createCLAHE(2.0, (8, 8)).apply(lightness_HW)
    return cv2.cvtColor(cv2.merge((lightness_HW, a_HW, b_HW)), cv2.COLOR_LAB2RGB)


if __name__ == "__main__":
    main()
