"""Images to TFDS ArrayRecord shards and back: each shard a pure function of its records."""

import contextlib
import csv
import errno
import functools
import itertools
import math
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from skinjax.data import duplicates, image_headers, images, threads
from skinjax.data.preprocess import Preprocess
from skinjax.data.records import LeftOut, Record
from skinjax.data.shard_reader import ShardReader
from skinjax.errors import InputError

# What a kill costs at most; on the other side, the reader keeps every shard open.
SHARD_BYTES = 256 << 20
FACTS_PATTERN = "facts-*.csv"
# Pixels of an image of which only one at a time is worked on: with all preprocessing a 100 Mpixel
# image takes 1 GB.
_LARGE = 16_000_000
_LARGE_RESULT = 1 << 20  # bytes
_one_large_image = threading.Lock()
ENCODINGS = ("raw", "png", "jpeg")
_SPLIT = "images"  # the only one for TFDS: a prepared data set's splits index its images
_NAME = "skin_lesions"


@dataclass(frozen=True)
class Spec:
    """What becomes of an image: with the file's bytes, all that a shard's content depends on."""

    classes: tuple[str, ...]
    preprocess: Preprocess
    encoding: str
    min_side: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images in the shards."""
        return (self.preprocess.image_size, self.preprocess.image_size, 3)


@dataclass(frozen=True)
class Shard:
    """The records of one shard, in order."""

    index: int
    num_shards: int
    records: tuple[Record, ...]

    @property
    def name(self) -> str:
        """TFDS's name of the file."""
        of = f"{self.index:05d}-of-{self.num_shards:05d}"
        return f"{_NAME}-{_SPLIT}.array_record-{of}"

    @property
    def facts_name(self) -> str:
        """The table beside it, which is there once the shard is whole."""
        return f"facts-{self.index:05d}.csv"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What was found out about a file while it was decoded.

    `reason` is '' for an image that is in the shards, and else says why it isn't. `height` and
    `width` (pixels) and `mode` are those of the file; `perceptual_hash` is of the image as
    published, so that it doesn't depend on preprocessing.
    """

    image_id: str
    reason: str
    height: int = 0
    width: int = 0
    mode: str = ""
    perceptual_hash: str = ""


def plan(records: Sequence[Record], spec: Spec) -> list[Shard]:
    """Cuts the records into shards of at most SHARD_BYTES of raw pixels, as even as possible."""
    num_bytes = len(records) * math.prod(spec.image_shape)
    num_shards = min(len(records), -(-num_bytes // SHARD_BYTES))
    ends = [len(records) * index // num_shards for index in range(num_shards + 1)]
    return [
        Shard(index, num_shards, tuple(records[start:end]))
        for index, (start, end) in enumerate(itertools.pairwise(ends))
    ]


def is_written(shard: Shard, directory: Path) -> bool:
    """True if an earlier run has written this shard to the end."""
    return (directory / shard.facts_name).exists() and (directory / shard.name).exists()


def write(
    shard: Shard, directory: Path, spec: Spec, on_image: Callable[[], object] = lambda: None
) -> None:
    """Verifies, preprocesses and writes the images of one shard on all cores, unless it is there.

    The same records give the same examples in the same order, whoever writes them: a thread pool
    here or a worker of Apache Beam. The file's bytes may differ from one process to another: TFDS's
    serialized examples do. `on_image` is called after each image.

    Raises:
      OSError: among others a full disk.
    """
    if is_written(shard, directory):
        return
    from array_record.python.array_record_module import ArrayRecordWriter

    facts: list[ImageFacts] = []
    own = uuid.uuid4().hex  # should two processes, or two of Beam's workers, write the same shard
    writing = directory / f".{shard.name}-{own}"
    # What is handed over together is held together, so large results go one by one.
    chunk_size = 4 if math.prod(spec.image_shape) < _LARGE_RESULT else 1
    results = threads.map_in_order(
        functools.partial(process, spec=spec), shard.records, chunk_size=chunk_size
    )
    try:
        # Uncompressed: TFDS's own way halves reading (2,976 against 6,336 images/s at 224 px) and
        # saves a third of the size; PNG and JPEG don't shrink further. By this thread: handing
        # 200 kB over to another takes four times as long as writing them.
        options = "group_size:1,uncompressed,max_parallelism:1"
        writer = ArrayRecordWriter(os.fspath(writing), options)
        for image_facts, example in results:
            facts.append(image_facts)
            if example is not None:
                writer.write(example)
            on_image()
        writer.close()
        writing.rename(directory / shard.name)
    except RuntimeError as error:  # how ArrayRecord says that the disk is full
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from None
    finally:
        results.close()
        writing.unlink(missing_ok=True)
    writing = directory / f".{shard.facts_name}-{own}"
    write_facts(writing, facts)
    writing.rename(directory / shard.facts_name)


def process(record: Record, spec: Spec) -> tuple[ImageFacts, bytes | None]:
    """One record to what is known of its file, and the serialized TFDS example (None: unusable)."""
    try:
        image_headers.check_bytes(record.path.stat().st_size)
        header = image_headers.read(record.path.read_bytes())
        large = header.height * header.width > _LARGE
        with _one_large_image if large else contextlib.nullcontext():
            decoded = images.decode_checked(header, spec.min_side)
            return _process_image(record, decoded, spec)
    except InputError as error:
        return ImageFacts(record.image_id, str(error)), None
    except FileNotFoundError:
        return ImageFacts(record.image_id, "no image file"), None


def _process_image(record: Record, decoded: images.Decoded, spec: Spec) -> tuple[ImageFacts, bytes]:
    height, width = decoded.image_HWC.shape[:2]
    facts = ImageFacts(
        image_id=record.image_id,
        reason="",
        height=height,
        width=width,
        mode=decoded.mode,
        perceptual_hash=duplicates.perceptual_hash(decoded.image_HWC),
    )
    image_HWC = spec.preprocess(decoded.image_HWC)
    example = {
        "image": _encode(image_HWC, spec.encoding),
        "label": record.label,
        "image_id": record.image_id,
    }
    return facts, _features(spec).serialize_example(example)


def _encode(image_HWC: np.ndarray, encoding: str) -> np.ndarray | bytes:
    if encoding == "png":
        return images.encode_png(image_HWC)
    if encoding == "jpeg":
        return images.encode_jpeg(image_HWC)
    return image_HWC


def left_out(facts: Sequence[ImageFacts]) -> list[LeftOut]:
    """The images that are not in the shards."""
    return [LeftOut(one.image_id, one.reason) for one in facts if one.reason]


def write_metadata(
    directory: Path, shards: Sequence[Shard], lengths: Sequence[int], spec: Spec
) -> None:
    """Makes a folder of written shards a data set for `tfds.builder_from_directory`.

    Args:
      directory: the shards' folder.
      shards: all of them.
      lengths: images in each.
      spec: what they were written with.
    """
    tfds = _tfds()
    split = tfds.core.SplitInfo(
        name=_SPLIT,
        shard_lengths=list(lengths),
        num_bytes=sum((directory / shard.name).stat().st_size for shard in shards),
    )
    tfds.folder_dataset.write_metadata(
        data_dir=os.fspath(directory),
        features=_features(spec),
        split_infos=[split],
        check_data=False,  # which would need TensorFlow
    )


def open_shards(directory: Path) -> ShardReader:
    """Random access to all images, in a folder that TFDS can open."""
    tfds = _tfds()
    with _first_use:
        info = tfds.builder_from_directory(os.fspath(directory)).info
        split, image = info.splits[_SPLIT], info.features["image"]
        files = [os.fspath(path) for path in split.filepaths]
        return ShardReader(
            list(zip(files, split.shard_lengths, strict=True)),
            image.shape,
            image.encoding_format if isinstance(image, tfds.features.Image) else "raw",
        )


def write_facts(path: Path, facts: Sequence[ImageFacts]) -> None:
    """Writes one row per image, in order."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [field.name for field in fields(ImageFacts)]
        writer.writerow(names)
        writer.writerows([getattr(one, name) for name in names] for one in facts)


def read_facts(path: Path) -> Iterator[ImageFacts]:
    """Reads what `write_facts` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            height, width = int(row.pop("height")), int(row.pop("width"))
            yield ImageFacts(height=height, width=width, **row)


# TFDS imports most of itself at the first use of each part, and two threads that do so at once can
# wait for each other for ever.
_first_use = threading.RLock()


def _tfds() -> Any:
    with _first_use:
        import tensorflow_datasets as tfds  # half a second, and only wanted where data is read

        return tfds


@functools.lru_cache(maxsize=4)
def _features(spec: Spec) -> Any:
    """The TFDS features of an example."""
    tfds = _tfds()
    with _first_use:
        image = (
            tfds.features.Tensor(shape=spec.image_shape, dtype=np.uint8, encoding="bytes")
            if spec.encoding == "raw"
            else tfds.features.Image(shape=spec.image_shape, encoding_format=spec.encoding)
        )
        features = tfds.features.FeaturesDict(
            {
                "image": image,
                "label": tfds.features.ClassLabel(names=list(spec.classes)),
                "image_id": tfds.features.Text(),
            }
        )
        black = _encode(np.zeros(spec.image_shape, np.uint8), spec.encoding)
        features.serialize_example({"image": black, "label": 0, "image_id": ""})
        return features
