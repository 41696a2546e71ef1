"""The Grain composition: train and eval datasets of uint8 batches, sharded by process."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np
from absl import flags

from skinjax.data import sampling
from skinjax.errors import InputError

Batch = dict[str, np.ndarray]

_DTYPES = {"image": np.uint8, "label": np.int32, "mask": np.bool_, "index": np.int32}


class Source(Protocol):
    """Random access to records `{'image': uint8 HWC, 'label': int32}`; see `prepared.py`.

    All of them may have a 'metadata' float32 (M,), which then is in the batches too.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> dict[str, Any]: ...

    def __getitems__(self, indices: Sequence[int], /) -> Sequence[dict[str, Any]]: ...


@runtime_checkable
class BatchSource(Source, Protocol):
    """A source that can put records together by itself, which saves a copy of each image."""

    def load(self, indices: Sequence[int], /) -> Batch:
        """Image, label and, where there is any, metadata, each of all records in one new array."""
        ...


def train_dataset(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    num_threads: int,
    num_workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    label_N: np.ndarray | None = None,
    balance: float = 0.0,
) -> grain.IterDataset:
    """Endless shuffled batches: image uint8 (b, H, W, 3), label int32 (b,), mask bool (b,).

    With a source of patient metadata also metadata float32 (b, M).

    `batch_size` is global and b = batch_size / process_count is this process's contiguous slice.
    Global batch i depends on `seed` and i alone, so its iterator's state is a place in the
    sequence: JSON-able, and the same records follow whatever the number of processes or threads.
    Each epoch is len(source) // batch_size batches of a new order; the remainder is dropped. With
    `balance`, which needs the label of every record, an epoch of the same length draws rare classes
    more often: see `sampling.balanced_indices`.

    Raises:
      InputError: no record, a batch larger than the source, a negative seed, a batch that the
        processes don't divide, or `balance` outside [0, 1] or without labels.
    """
    _check_sizes(len(source), batch_size, process_count)
    steps_per_epoch(len(source), batch_size)
    if seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    sample = sampler(len(source), batch_size, seed, label_N, balance)
    # Not `repeat()`: the batch number has to reach `sample` whole, and sys.maxsize is also the
    # length that Grain gives to an endless dataset.
    dataset = (
        grain.MapDataset.range(sys.maxsize)
        .map(sample)
        .map(functools.partial(_process_slice, index=process_index, count=process_count))
        .map(functools.partial(_load, source))
        .map(check_batch)
        .to_iter_dataset(_read_options(num_threads))
    )
    if num_workers > 0:
        # Grain's worker processes read absl flags, which raises where no absl.app has parsed them
        # (a notebook, a test); their defaults are what is wanted there.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
    return dataset


def steps_per_epoch(num_records: int, batch_size: int) -> int:
    """Full batches in an epoch; the remainder is left out.

    Raises:
      InputError: there are fewer records than fill one batch.
    """
    if batch_size > num_records:
        raise InputError(
            f"a batch of {batch_size} is larger than the {num_records} training records: "
            f"set batch_size to {num_records} or less"
        )
    return num_records // batch_size


def eval_dataset(
    source: Source,
    *,
    batch_size: int,
    num_threads: int,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset:
    """Every record exactly once, in order, as in `train_dataset` plus index int32 (b,).

    `index` is the record's row in `source`. The last batch is filled with copies of record 0
    (index 0) whose mask is False; every process gets the same number of batches.

    Raises:
      InputError: no record, or a batch that the processes don't divide.
    """
    _check_sizes(len(source), batch_size, process_count)
    num_batches = -(-len(source) // batch_size)
    return (
        grain.MapDataset.range(num_batches)
        .map(functools.partial(_consecutive_positions, batch_size=batch_size))
        .map(functools.partial(_process_slice, index=process_index, count=process_count))
        .map(functools.partial(_load_padded, source))
        .map(functools.partial(check_batch, with_index=True))
        .to_iter_dataset(_read_options(num_threads))
    )


def check_batch(batch: Batch, *, with_index: bool = False) -> Batch:
    """Returns `batch` unchanged if its keys, dtypes and shapes are those of the contract.

    Raises:
      InputError: naming the array that is wrong, as seen and as expected.
    """
    keys = {"image", "label", "mask"} | ({"index"} if with_index else set())
    if set(batch) - {"metadata"} != keys:
        raise InputError(f"a batch has keys {sorted(batch)}; expected {sorted(keys)}")
    image_BHWC = batch["image"]
    if image_BHWC.ndim != 4 or image_BHWC.shape[-1] != 3:
        raise InputError(f"image has shape {image_BHWC.shape}; expected (batch, height, width, 3)")
    for key in sorted(keys):
        array = batch[key]
        if array.dtype != _DTYPES[key]:
            expected = np.dtype(_DTYPES[key])
            raise InputError(f"{key} has dtype {array.dtype}; expected {expected}")
        if key != "image" and array.shape != image_BHWC.shape[:1]:
            raise InputError(f"{key} has shape {array.shape}; expected {image_BHWC.shape[:1]}")
    if "metadata" in batch:
        _check_metadata(batch["metadata"], len(image_BHWC))
    return batch


def _check_metadata(metadata_BM: np.ndarray, batch_size: int) -> None:
    if metadata_BM.dtype != np.float32:
        raise InputError(f"metadata has dtype {metadata_BM.dtype}; expected float32")
    if metadata_BM.ndim != 2 or len(metadata_BM) != batch_size:
        raise InputError(
            f"metadata has shape {metadata_BM.shape}; expected ({batch_size}, columns)"
        )
    if not np.isfinite(metadata_BM).all():
        raise InputError(
            "metadata has values that are not finite; a missing one is 0 with its flag set"
        )


def sampler(
    num_records: int, batch_size: int, seed: int, label_N: np.ndarray | None, balance: float
) -> Callable[[int], np.ndarray]:
    """The one place where the order is decided: the records of a batch from its number."""
    sampling.check_balance(balance)
    if balance == 0:
        return functools.partial(
            sampling.shuffled_indices, num_records=num_records, batch_size=batch_size, seed=seed
        )
    if label_N is None or label_N.shape != (num_records,):
        found = "none" if label_N is None else f"an array of shape {label_N.shape}"
        raise InputError(
            f"balance is {balance}, which needs the labels of all {num_records} training records;"
            f" got {found}"
        )
    return functools.partial(
        sampling.balanced_indices,
        label_N=label_N.copy(),
        batch_size=batch_size,
        seed=seed,
        balance=balance,
    )


def _consecutive_positions(batch_number: int, *, batch_size: int) -> np.ndarray:
    return np.arange(batch_number * batch_size, (batch_number + 1) * batch_size)


def _process_slice(index_B: np.ndarray, *, index: int, count: int) -> np.ndarray:
    size = len(index_B) // count
    return index_B[index * size : (index + 1) * size]


def load(source: Source, indices: Sequence[int]) -> Batch:
    """The records of a batch: image, label and, where the source has it, metadata.

    Raises:
      InputError: the records don't make a batch.
    """
    if isinstance(source, BatchSource):
        return source.load(indices)
    records = source.__getitems__(indices)
    label_B = np.asarray([record["label"] for record in records])
    batch = {
        "image": _stack(records, "image"),
        "label": label_B.astype(np.int32, casting="same_kind"),
    }
    num_metadata = sum("metadata" in record for record in records)
    if 0 < num_metadata < len(records):
        raise InputError(
            f"{num_metadata} of {len(records)} records of a batch have metadata; expected all or "
            "none (a missing value is encoded, not left out)"
        )
    return batch | {"metadata": _stack(records, "metadata")} if num_metadata else batch


def _load(source: Source, index_B: np.ndarray) -> Batch:
    return load(source, index_B.tolist()) | {"mask": np.ones(len(index_B), np.bool_)}


def _stack(records: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    arrays = [record[key] for record in records]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        name = "images" if key == "image" else key
        raise InputError(f"{name} of one batch differ in shape: {sorted(shapes)}; expected one")
    return np.stack(arrays)


def _load_padded(source: Source, position_B: np.ndarray) -> Batch:
    mask_B = position_B < len(source)
    # Record 0 again, and not zeros under a made-up row: whoever scatters a batch by its index
    # without looking at the mask writes what is there already.
    index_B = np.where(mask_B, position_B, 0)
    return _load(source, index_B) | {"mask": mask_B, "index": index_B.astype(np.int32)}


def _read_options(num_threads: int) -> grain.ReadOptions:
    # The buffer counts batches, not records: what is held in memory is this many batches.
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=max(2, num_threads))


def _check_sizes(num_records: int, batch_size: int, process_count: int) -> None:
    if num_records == 0:
        raise InputError("there are no records to read: expected at least one")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be 1 or more")
    if batch_size % process_count:
        valid = max(1, round(batch_size / process_count)) * process_count
        raise InputError(
            f"a global batch of {batch_size} cannot be divided by {process_count} processes: "
            f"the nearest valid batch_size is {valid}"
        )
