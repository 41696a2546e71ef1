"""Decoded images in a memory-mapped file, so that they are decoded once and not every epoch."""

import functools
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from tqdm import tqdm

from skinjax.data import pipeline, shard_reader, staging, threads
from skinjax.errors import InputError

_IMAGES = "images.npy"
_LABELS = "labels.npy"


def cached(source: pipeline.Source, path: Path, image_size: int) -> pipeline.Source:
    """Returns a source of the same records that reads them decoded, from the folder `path`.

    If there is no such folder, every record is decoded into it first, by all cores; one process
    does so while others wait for it, and the folder gets its name when it is whole. Whoever chooses
    `path` must give each data set and each choice of its splits a folder of its own.

    Args:
      source: N records with images uint8 (S, S, 3).
      path: a folder, which comes to hold N * S * S * 3 bytes.
      image_size: S.

    Raises:
      InputError: an image of another size or type, or a folder that is not whole or of other sizes.
      OSError: among others a disk without space for it; nothing is left behind then.
    """
    if not len(source):
        return source  # an empty file cannot be mapped
    path = Path(path)
    staging.build_folder(
        path, functools.partial(_decode_all, source=source, path=path, image_size=image_size)
    )
    return CachedSource(path, (len(source), image_size, image_size, 3))


class CachedSource:
    """Random access: `source[i]` is {'image': uint8 (S, S, 3) RGB, 'label': int32 scalar}.

    The images are read-only views of the file. Can be pickled (Grain's worker processes map the
    file again) and read by several threads.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]):
        self._path = path
        self._shape = shape
        self._image_NHWC = _open_array(path / _IMAGES, shape, np.uint8)
        self._label_N = _open_array(path / _LABELS, shape[:1], np.int32)

    def __len__(self) -> int:
        return len(self._image_NHWC)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        row = index.__index__()
        if not 0 <= row < len(self):
            raise IndexError(f"index {row} of {len(self)} images")
        return {"image": self._image_NHWC[row], "label": self._label_N[row]}

    def __getitems__(self, indices: Iterable[SupportsIndex]) -> list[dict[str, Any]]:
        return [self[index] for index in indices]

    def load(self, indices: Sequence[int]) -> pipeline.Batch:
        """Image and label of these records, copied out of the files."""
        index_B = np.asarray(indices, np.int64)
        if len(index_B) and not 0 <= index_B.min() <= index_B.max() < len(self):
            raise IndexError(f"indices {index_B.min()} to {index_B.max()} of {len(self)} images")
        image_BHWC = shard_reader.aligned_empty((len(index_B), *self._shape[1:]))
        # Of the modes, "raise" would copy twice.
        np.take(self._image_NHWC, index_B, axis=0, out=image_BHWC, mode="clip")
        return {"image": image_BHWC, "label": self._label_N[index_B]}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self._path, "shape": self._shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _decode_all(folder: Path, source: pipeline.Source, path: Path, image_size: int) -> None:
    """Fills `folder`, which becomes `path`."""
    shape = (len(source), image_size, image_size, 3)
    what = f"{shape[0]} decoded images of {shape[1]} px (data.cache=False does without)"
    staging.check_space(folder, math.prod(shape), what)
    label_N = np.empty(len(source), np.int32)
    records = threads.map_in_order(source.__getitem__, range(len(source)))
    progress = tqdm(
        records,
        total=len(source),
        desc="caching images",
        unit="image",
        disable=not sys.stderr.isatty(),
    )
    # Written as a file and not through a map: where the disk fills up, a map kills the process.
    with (folder / _IMAGES).open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        try:
            for row, record in enumerate(progress):
                image_HWC = record["image"]
                if image_HWC.shape != shape[1:] or image_HWC.dtype != np.uint8:
                    raise InputError(
                        f"image {row} to be cached is {image_HWC.dtype} {image_HWC.shape}; expected"
                        f" uint8 {shape[1:]}: set data.cache to False, or prepare the data anew"
                    )
                file.write(np.ascontiguousarray(image_HWC).data)
                label_N[row] = record["label"]
        finally:
            progress.close()
            records.close()
    np.save(folder / _LABELS, label_N, allow_pickle=False)


def _open_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    delete = f"delete {path.parent} to have the images cached anew"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: {delete}") from None
    except (ValueError, EOFError) as error:  # cut short, or another format
        found = " ".join(str(error).split())
        raise InputError(f"{path} is not whole ({found}): {delete}") from None
    if array.shape != shape or array.dtype != dtype:
        raise InputError(
            f"{path} holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}:"
            f" {delete}"
        )
    return array.view(np.ndarray)  # slicing an np.memmap is slower
