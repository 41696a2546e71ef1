"""Images to TFDS ArrayRecord shards, decoded by all cores in constant memory, and back."""

import errno
import functools
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from skinjax.data import images, threads
from skinjax.data.records import LeftOut, Record
from skinjax.errors import InputError

# TFDS keeps a shard's images in memory until it is written, so this bounds the memory; on the
# other side, every shard that a batch touches costs the reader a thread.
SHARD_BYTES = 256 << 20
ENCODINGS = ("raw", "png", "jpeg")


def write(
    directory: Path,
    records: Mapping[str, Sequence[Record]],
    *,
    classes: Sequence[str],
    image_size: int,
    encoding: str,
) -> tuple[dict[str, list[Record]], list[LeftOut]]:
    """Decodes, resizes and writes the records of each split, in their order.

    `directory` becomes a TFDS data set, which `tfds.builder_from_directory` opens. The same input
    gives the same bytes.

    Returns:
      The records written, by split, and those whose files don't decode. A split in which nothing
      decodes has no shard.
    """
    records = {name: of_split for name, of_split in records.items() if of_split}
    written: dict[str, list[Record]] = {name: [] for name in records}
    left_out: list[LeftOut] = []
    prepare = functools.partial(_prepare_image, image_size=image_size, encoding=encoding)
    everything = list(itertools.chain.from_iterable(records.values()))
    results = threads.map_in_order(prepare, everything)
    progress = tqdm(
        zip(everything, results, strict=True),
        total=len(everything),
        desc="preparing images",
        unit="image",
        disable=not sys.stderr.isatty(),
    )

    def examples(name: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
        # One stream for all shards: TFDS writes them one after the other, in this order.
        for record, image in itertools.islice(progress, count):
            if isinstance(image, LeftOut):
                left_out.append(image)
                continue
            written[name].append(record)
            yield (
                record.image_id,
                {"image": image, "label": record.label, "image_id": record.image_id},
            )

    generators = {
        name: [
            functools.partial(examples, name, count)
            for count in _shard_lengths(len(of_split), image_size)
        ]
        for name, of_split in records.items()
    }
    tfds_directory = directory / "tfds"
    builder = _builder_class()(
        generators, classes, image_size, encoding, data_dir=os.fspath(tfds_directory)
    )
    try:
        builder.download_and_prepare(file_format="array_record")
    finally:
        progress.close()
        results.close()
    for path in sorted(Path(builder.data_dir).iterdir()):
        path.rename(directory / path.name)
    shutil.rmtree(tfds_directory)
    return written, left_out


def open_splits(directory: Path, names: Sequence[str]) -> Any:
    """TFDS random access to these splits, one after the other.

    TFDS parses a 224 px raw example in 0.07 ms, so no path of our own around it is needed.
    """
    import tensorflow_datasets as tfds  # half a second, and only wanted where data is read

    builder = tfds.builder_from_directory(os.fspath(directory))
    return builder.as_data_source(split="+".join(names))


def _prepare_image(
    record: Record, *, image_size: int, encoding: str
) -> np.ndarray | bytes | LeftOut:
    """The image as its feature wants it, or why it can't be read."""
    try:
        image_HWC = images.resize(images.decode_bytes(record.path.read_bytes()), image_size)
    except InputError as error:
        return LeftOut(record.image_id, f"does not decode: {error}")
    if encoding == "png":
        return images.encode_png(image_HWC)
    if encoding == "jpeg":
        return images.encode_jpeg(image_HWC)
    return image_HWC


def _shard_lengths(num_images: int, image_size: int) -> list[int]:
    """Images per shard, as even as possible; by raw size, since that is what memory holds."""
    num_shards = min(num_images, -(-num_images * image_size**2 * 3 // SHARD_BYTES))
    ends = [num_images * shard // num_shards for shard in range(num_shards + 1)]
    return [end - start for start, end in itertools.pairwise(ends)]


@functools.cache
def _builder_class() -> Any:
    """The TFDS builder; made here since importing TFDS is slow, and not registered with it.

    A ShardBasedBuilder, since a GeneratorBasedBuilder shuffles, and beyond 1 GB does so through
    files that it can't write without TensorFlow.
    """
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core import writer

    class Uncompressed(writer.ExampleWriter):
        # TFDS's own writer compresses: at 224 px that halves reading (2,976 against 6,336
        # images/s) and gains a third in size; PNG and JPEG don't shrink further.
        def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> None:
            try:
                shard = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
                for _, example in examples:
                    shard.write(example)
                shard.close()
            except RuntimeError as error:  # how ArrayRecord says that the disk is full
                full = "No space left" in str(error)
                raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from None

    class SkinLesions(  # type: ignore[call-arg]
        tfds.core.ShardBasedBuilder, skip_registration=True
    ):
        VERSION = tfds.core.Version("1.0.0")
        # Where TFDS would look for download checksums; finding it out inside a package imports
        # importlib_resources, which TFDS 4.9.10 uses but doesn't depend on.
        code_path = None

        def __init__(
            self,
            generators: Mapping[str, Sequence[Callable[[], Iterator]]],
            classes: Sequence[str],
            image_size: int,
            encoding: str,
            **kwargs: Any,
        ):
            self._generators = generators
            shape = (image_size, image_size, 3)
            self._features = {
                "image": tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="bytes")
                if encoding == "raw"
                else tfds.features.Image(shape=shape, encoding_format=encoding),
                "label": tfds.features.ClassLabel(names=list(classes)),
                "image_id": tfds.features.Text(),
            }
            super().__init__(**kwargs)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(self._features)
            )

        def _shard_iterators_per_split(self, dl_manager: Any) -> Any:
            return self._generators

        def _example_writer(self) -> Any:
            return Uncompressed(file_format=self.info.file_format)

        def _log_download_bytes(self) -> None:
            """TFDS prints here; the log and the progress bar say enough."""

        def _log_download_done(self) -> None:
            """As above."""

    return SkinLesions
