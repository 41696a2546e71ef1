"""Decoded images that stay in the memory of the devices, where batches are gathered by index."""

import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import jax
import numpy as np
from absl import logging
from jax import lax

from skinjax import experiment as experiment_lib
from skinjax import parallel
from skinjax.data import pipeline
from skinjax.errors import InputError
from skinjax.experiment import Experiment
from skinjax.phases import Phase

_CHUNK_BYTES = 64 << 20  # that are read and copied to the devices at a time
_CHUNKS_BESIDE = 3  # besides the images: padding, and chunks on their way


class DeviceData:
    """The records of a source: images on every device, labels and metadata on the host.

    Its batches are those of `pipeline.train_dataset` and `eval_dataset`, bit for bit, and so are
    the places in them. The host only says which images a batch holds.
    """

    def __init__(self, mapper: parallel.Mapper, source: pipeline.Source, num_threads: int) -> None:
        """Decodes every image, on every process, and copies it to the devices."""
        self._mapper, self._num = mapper, len(source)
        size = len(np.ravel(source[0]["image"]))
        chunk = max(1, min(self._num, _CHUNK_BYTES // size))
        # Rows up to a whole chunk: an update beyond the end would be moved back over others.
        rows = -(-self._num // chunk) * chunk
        self._image_NP = mapper.filled((rows, size), np.uint8)
        parts: list[dict[str, np.ndarray]] = []
        for batch in pipeline.eval_dataset(source, batch_size=chunk, num_threads=num_threads):
            image_BHWC, mask_B = batch.pop("image"), batch["mask"]
            start = np.int32(len(parts) * chunk)
            chunk_BP = mapper.replicate(image_BHWC.reshape(chunk, size))
            self._image_NP = _updated(self._image_NP, chunk_BP, start)
            parts.append({name: array_B[mask_B] for name, array_B in batch.items()})
        known: list[str] = [name for name in ("label", "metadata") if name in parts[0]]
        self._known = {name: np.concatenate([part[name] for part in parts]) for name in known}
        self._gather = mapper.map_split(functools.partial(_gathered, shape=image_BHWC.shape[1:]))

    def __len__(self) -> int:
        return self._num

    def put(self, batch: dict[str, np.ndarray]) -> Any:
        """A batch of `train_batches` on the devices, with its images."""
        on_devices = self._mapper.shard(batch)
        return {"image": self._gather(self._image_NP, on_devices.pop("row")), **on_devices}

    def train_batches(self, *, batch_size: int, seed: int, balance: float) -> grain.IterDataset:
        """What `pipeline.train_dataset` gives, with row int32 (b,) in place of the images."""
        sample = pipeline.sampler(self._num, batch_size, seed, self._known["label"], balance)
        return (
            grain.MapDataset.range(sys.maxsize)
            .map(sample)
            .map(_process_slice)
            .map(self._without_images)
            # Nothing to read, so no threads.
            .to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        )

    def eval_batches(self, batch_size: int) -> Iterator[Any]:
        """What `pipeline.eval_dataset` gives, on the devices."""
        for start in range(0, self._num, batch_size):
            position_B = _process_slice(np.arange(start, start + batch_size))
            mask_B = position_B < self._num
            index_B = np.where(mask_B, position_B, 0).astype(np.int32)
            batch = self._without_images(index_B) | {"mask": mask_B, "index": index_B}
            yield self.put(batch)

    def _without_images(self, index_B: np.ndarray) -> dict[str, np.ndarray]:
        batch = {"row": index_B.astype(np.int32), "mask": np.ones(len(index_B), np.bool_)}
        return batch | {name: array_N[index_B] for name, array_N in self._known.items()}


def is_wanted(experiment: Experiment, phases: Sequence[Phase], num_images: int) -> bool:
    """Says whether the images are to be on the devices: `config.data.on_device`.

    "auto" is on where every process's accelerators have room for them beside what training takes.
    All processes must call it together, and it says the same on each.

    Args:
      experiment: of the run.
      phases: of the run.
      num_images: decoded, of `config.data.image_size`.

    Raises:
      InputError: it is "on", and they don't fit, be it on another process.
    """
    data = experiment.config.data
    if data.on_device == "off" or (data.on_device == "auto" and data.num_workers):
        return False
    needed = num_images * data.image_size**2 * 3 + _CHUNKS_BESIDE * _CHUNK_BYTES
    free = experiment.mapper.free_memory()
    if data.on_device == "on":
        has = "one of another process lacks"
        if lacks := free is not None and needed > free:
            has = f"has {free / 2**30:.1f} free"
        if parallel.any_process(lacks):
            raise InputError(
                f"config.data.on_device is on, and {num_images} images take {needed / 2**30:.1f}"
                f" GiB of each device, which {has}; set it to auto or off"
            )
        return True
    fits = free is not None and needed + _taken(experiment, phases) <= free
    # No process may have left before: each waits for all.
    fits = not parallel.any_process(not fits)
    if free is not None:
        logging.info(
            "%d decoded images take %.1f GiB of each device: they %s there (data.on_device=auto)",
            num_images, needed / 2**30, "stay" if fits else "don't stay",
        )  # fmt: skip
    return fits


def _taken(experiment: Experiment, phases: Sequence[Phase]) -> int:
    """Bytes on one device that training needs in the largest phase."""
    largest = max(phases, key=experiment.trained_bytes)
    estimate = sum(experiment_lib.memory_estimate(experiment, largest).values())
    return estimate * 3 // 2  # XLA's own scratch isn't in the estimate


def _gathered(image_NP: jax.Array, row_B: jax.Array, *, shape: tuple[int, ...]) -> jax.Array:
    """Images uint8 (b, H, W, 3) of these rows."""
    image_BP = image_NP.at[row_B].get(mode="promise_in_bounds")
    return image_BP.reshape(-1, *shape)


@functools.partial(jax.jit, donate_argnums=0)
def _updated(image_NP: jax.Array, chunk_BP: jax.Array, start: np.int32) -> jax.Array:
    return lax.dynamic_update_slice(image_NP, chunk_BP, (start, np.int32(0)))


def _process_slice(index_B: np.ndarray) -> np.ndarray:
    """This process's share of a global batch, as in `pipeline`."""
    size = len(index_B) // jax.process_count()
    return index_B[jax.process_index() * size : (jax.process_index() + 1) * size]
