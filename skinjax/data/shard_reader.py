"""Random access to the examples of a folder of shards, decoded straight into a batch's array."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from skinjax.data import images
from skinjax.errors import InputError

# What is best for random access: each read takes one record's bytes, in the thread that asks.
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_BUFFER_BYTES = 32 << 10
# ArrayRecord goes through all of a shard's offsets at each call, so in one that has more records
# than this, several are read by one call.
_RECORDS_OF_A_CALL = 2048
_ALIGNMENT = 64  # bytes; JAX takes such an array on the CPU as it is, and would else copy it


class ShardReader:
    """`reader[i]` is {'image': uint8 (H, W, 3) RGB, 'label': int, 'image_id': bytes}.

    These are the values that TFDS's own source gives, with less work between the file and the
    batch. TFDS starts a thread for each shard that a batch touches, reads all of its records into
    fresh memory before it decodes the first, and gives each image an array of its own, which would
    have to be copied into the batch's. Reading one record at a time keeps it in the processor's
    caches until it is decoded. Several threads may read at once.
    """

    def __init__(
        self, shards: Sequence[tuple[str, int]], image_shape: tuple[int, ...], encoding: str
    ):
        """Opens nothing yet.

        Args:
          shards: path and number of records of each file, in order.
          image_shape: height, width and channels.
          encoding: of the images, one of `shards.ENCODINGS`.
        """
        # TFDS imports most of itself at the first use of each part: `shards` has a lock for it.
        from google.protobuf.message import DecodeError
        from tensorflow_datasets.proto import tf_example_generated_pb2

        self._parse = tf_example_generated_pb2.Example.FromString
        self._parse_error = DecodeError
        self._shards = list(shards)
        self._first_S = np.cumsum([0, *(length for _, length in shards)])
        self._readers: list[Any] = [None] * len(self._shards)
        self._lock = threading.Lock()
        self._image_shape = tuple(image_shape)
        self._is_raw = encoding == "raw"

    def __len__(self) -> int:
        return int(self._first_S[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The examples, in this order; their images are rows of one array."""
        image_BHWC = self._empty(len(indices))
        examples: list[dict[str, Any]] = [{} for _ in indices]
        for row, features in self._read(indices, image_BHWC):
            examples[row] = {
                "image": image_BHWC[row],
                "label": features["label"].int64_list.value[0],
                "image_id": features["image_id"].bytes_list.value[0],
            }
        return examples

    def load(self, indices: Sequence[int]) -> dict[str, np.ndarray]:
        """The examples as a batch: image uint8 (B, H, W, 3) and label int32 (B,), both new."""
        batch = {"image": self._empty(len(indices)), "label": np.empty(len(indices), np.int32)}
        for row, features in self._read(indices, batch["image"]):
            batch["label"][row] = features["label"].int64_list.value[0]
        return batch

    def _empty(self, size: int) -> np.ndarray:
        return aligned_empty((size, *self._image_shape))

    def _read(self, indices: Sequence[int], image_BHWC: np.ndarray) -> Iterator[tuple[int, Any]]:
        """Decodes each image into its row; yields the row and its TFDS features."""
        for path, rows, records in self._records(indices):
            for row, record in zip(rows, records, strict=True):
                try:
                    features = self._parse(record).features.feature
                except self._parse_error as error:
                    raise InputError(
                        f"image {indices[row]} in {path}: no TFDS example ({error})"
                    ) from None
                (data,) = features["image"].bytes_list.value
                try:
                    self._decode(data, image_BHWC[row])
                except InputError as error:
                    raise InputError(f"image {indices[row]} in {path}: {error}") from None
                yield row, features

    def _decode(self, data: bytes, target_HWC: np.ndarray) -> None:
        if not self._is_raw:
            images.decode_own(data, target_HWC)
        elif len(data) == target_HWC.size:
            target_HWC.reshape(-1)[:] = np.frombuffer(data, np.uint8)
        else:
            raise InputError(f"{len(data)} bytes, expected {target_HWC.size}")

    def _records(self, indices: Sequence[int]) -> Iterator[tuple[str, Sequence[int], list[bytes]]]:
        """Path, rows and records of each call to ArrayRecord that these examples take."""
        index_B = np.asarray(indices, np.int64)
        if len(index_B) and not 0 <= index_B.min() <= index_B.max() < len(self):
            raise IndexError(
                f"indices from {index_B.min()} to {index_B.max()} of {len(self)} examples"
            )
        shard_B = np.searchsorted(self._first_S, index_B, side="right") - 1
        positions = (index_B - self._first_S[shard_B]).tolist()
        for shard in np.unique(shard_B).tolist():
            rows = np.flatnonzero(shard_B == shard).tolist()
            path, length = self._shards[shard]
            read = self._reader(shard).read
            step = -(-length // _RECORDS_OF_A_CALL)
            for start in range(0, len(rows), step):
                taken = rows[start : start + step]
                yield path, taken, read([positions[row] for row in taken])

    def _reader(self, shard: int) -> Any:
        if self._readers[shard] is None:
            from array_record.python.array_record_module import ArrayRecordReader

            with self._lock:
                if self._readers[shard] is None:
                    path, _ = self._shards[shard]
                    self._readers[shard] = ArrayRecordReader(
                        path, options=_OPTIONS, file_reader_buffer_size=_BUFFER_BYTES
                    )
        return self._readers[shard]


def aligned_empty(shape: Sequence[int]) -> np.ndarray:
    """A uint8 array of any content that JAX can use on the CPU without a copy."""
    size = int(np.prod(shape))
    memory = np.empty(size + _ALIGNMENT - 1, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].reshape(shape)
