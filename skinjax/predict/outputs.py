"""What a trained network says of a stream of images of any length, as published or in memory."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np
from jax import lax

from skinjax import out_of_memory, parallel
from skinjax.data import images, threads
from skinjax.errors import InputError
from skinjax.trained import TrainedModel

Item = Path | np.ndarray
MetadataRow = Mapping[str, Any] | None

_NO_METADATA = {"age": None, "sex": "", "site": ""}


@dataclass(frozen=True)
class Prepared:
    """An image as the network takes it, or why there is none.

    Attributes:
      item: what it was made from.
      image_HWC: uint8 (S, S, 3), S being the model's image size; None if `error`.
      metadata_M: float32 (M,) for a model with patient metadata, else None.
      error: why the item can't be predicted, in one line; '' if it can.
    """

    item: Any
    image_HWC: np.ndarray | None
    metadata_M: np.ndarray | None = None
    error: str = ""


@dataclass(frozen=True)
class Output:
    """What the network says of one item.

    Attributes:
      item: as it was given.
      logits_C: float32 (C,), finite; None if `error`.
      features_D: float32 (D,), what the backbone gives to the head; None if `error` or not asked
        for.
      error: why there is no prediction, in one line; '' if there is.
    """

    item: Any
    logits_C: np.ndarray | None
    features_D: np.ndarray | None
    error: str


def stream_outputs(
    model: TrainedModel,
    items: Iterable[Item],
    *,
    metadata: Iterable[MetadataRow] | None = None,
    batch_size: int = 32,
    num_threads: int = 0,
    with_features: bool = False,
) -> Iterator[Output]:
    """Predicts items in their order, in constant memory: `Runner(model, ...).stream(items, ...)`.

    Who predicts several streams makes one Runner, which compiles once.
    """
    runner = Runner(model, batch_size=batch_size, num_threads=num_threads)
    yield from runner.stream(items, metadata=metadata, with_features=with_features)


class Runner:
    """The network of a trained model on all devices of this process, compiled as needed.

    Files are decoded and prepared by threads, about two batches ahead of the devices, which are one
    batch ahead of who reads the outputs. Batches have one of two shapes, so that there is little to
    compile: one image for each device where there are no more, else `batch_size`; what is missing
    is filled up with black, and left out of the outputs.
    """

    def __init__(self, model: TrainedModel, *, batch_size: int = 32, num_threads: int = 0) -> None:
        """Copies the variables to the devices; compiles nothing yet.

        Args:
          model: of `trained.load`.
          batch_size: images at once over all devices, rounded up to a multiple of their number. It
            changes the results by float rounding only.
          num_threads: that decode; 0 is one for each core.

        Raises:
          InputError: `batch_size` is below 1, or `num_threads` below 0.
        """
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}; expected at least 1")
        if num_threads < 0:
            raise InputError(f"{num_threads} threads to decode; expected at least 1, or 0 for all")
        self.model = model
        mapper = parallel.Mapper("shard_map", jax.local_devices())
        self._mapper = mapper
        self._batch_size = math.ceil(batch_size / mapper.num_devices) * mapper.num_devices
        self._num_threads = num_threads or threads.available_cores()
        self._forward = mapper.map(functools.partial(_gathered, model.forward()))
        self._variables = mapper.replicate(model.variables)

    def stream(
        self,
        items: Iterable[Item],
        *,
        metadata: Iterable[MetadataRow] | None = None,
        with_features: bool = False,
    ) -> Iterator[Output]:
        """Predicts items, in their order; one that can't be read has an `error`, the others go on.

        Args:
          items: files as published, or uint8 RGB arrays (H, W, 3) of any size. What the model was
            trained with is done to both.
          metadata: for each item what is known of the patient (age in years, sex, site; any of them
            may be missing), or None. A model without patient metadata passes over it.
          with_features: whether the outputs have features.

        Raises:
          InputError: an array is not such.
          OutOfMemoryError: the devices' memory is not enough for a batch.
          ValueError: there are more items than rows of metadata, or fewer.
        """
        yield from itertools.chain.from_iterable(
            self.batches(self.prepared(items, metadata), with_features=with_features)
        )

    def prepared(
        self, items: Iterable[Item], metadata: Iterable[MetadataRow] | None = None
    ) -> Generator[Prepared]:
        """Decodes and prepares items on threads; see `stream`."""
        pairs: Iterable[tuple[Item, MetadataRow]] = (
            ((item, None) for item in items)
            if metadata is None
            else zip(items, metadata, strict=True)
        )
        # The threads are at most four chunks each ahead: two batches.
        chunk_size = math.ceil(self._batch_size / (2 * self._num_threads))
        prepare = functools.partial(_prepare, self.model)
        mapped = threads.map_in_order(prepare, pairs, self._num_threads, chunk_size)
        with contextlib.closing(mapped):
            yield from mapped

    def batches(
        self, prepared: Iterable[Prepared], *, with_features: bool = False
    ) -> Generator[list[Output]]:
        """Predicts images that have the network's size, a batch at a time.

        Args:
          prepared: such as a prepared data set's images; see `stream` for images as published.
          with_features: whether the outputs have features.

        Raises:
          OutOfMemoryError: the devices' memory is not enough for a batch.
        """
        pending: tuple[list[Prepared], Any] | None = None
        for group in itertools.chain(_groups(prepared, self._batch_size), [None]):
            with out_of_memory.explained(self._advice):
                started = None if group is None else (group, self._start(group, pending is None))
                finished = None if pending is None else _finished(*pending, with_features)
            if finished is not None:
                yield finished
            pending = started

    def _start(self, group: Sequence[Prepared], is_first: bool) -> Any:
        """Starts the devices on the group's images; returns what they will give, or None."""
        good = [one for one in group if one.image_HWC is not None]
        if not good:
            return None
        # Behind a whole batch, whose shape is compiled, a few images take that shape too.
        is_small = is_first and len(good) <= self._mapper.num_devices
        size = self._mapper.num_devices if is_small else self._batch_size
        batch = {"image": _filled([one.image_HWC for one in good], size)}
        if self.model.encoder is not None:
            batch["metadata"] = _filled([one.metadata_M for one in good], size)
        return self._forward(self._variables, self._mapper.shard(batch))

    def _advice(self) -> str:
        half = max(1, self._batch_size // 2)
        return f"it was predicting with a batch of {self._batch_size}; try --batch_size={half}"


def _gathered(
    forward: Callable[..., dict[str, jax.Array]], variables: Any, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    outputs = forward(variables, batch["image"], batch.get("metadata"))
    return {
        name: lax.all_gather(array, parallel.AXIS, tiled=True) for name, array in outputs.items()
    }


def _prepare(model: TrainedModel, pair: tuple[Item, MetadataRow]) -> Prepared:
    """Decodes and prepares one item."""
    item, row = pair
    metadata_M = None
    if model.encoder is not None:
        metadata_M = model.encoder.encode([{**_NO_METADATA, **(row or {})}])[0]
    try:
        if isinstance(item, np.ndarray):
            check_array(item)
            image_HWC = item
        else:
            image_HWC = images.decode(item)
        return Prepared(item, model.preprocess(image_HWC), metadata_M)
    except InputError as error:
        if isinstance(item, np.ndarray):
            raise  # a mistake in a program, not in a file
        return Prepared(item, None, error=str(error))
    except OSError as error:
        return Prepared(item, None, error=f"cannot read image {item}: {error.strerror or error}")
    except (cv2.error, MemoryError) as error:
        what = item.shape if isinstance(item, np.ndarray) else item
        why = " ".join(str(error).split()) or "not enough memory"
        return Prepared(item, None, error=f"cannot prepare image {what}: {why}")


def check_array(image: np.ndarray) -> None:
    """Checks an image in memory.

    Raises:
      InputError: it is not uint8 (H, W, 3).
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f"an image is {image.dtype} {image.shape}; expected uint8 RGB (height, width, 3)"
        )


def _groups(prepared: Iterable[Prepared], batch_size: int) -> Iterator[list[Prepared]]:
    """Parts of the stream with at most `batch_size` images, and not many more faults than that."""
    group: list[Prepared] = []
    num_good = 0
    for one in prepared:
        group.append(one)
        num_good += one.image_HWC is not None
        if num_good == batch_size or len(group) == 4 * batch_size:
            yield group
            group, num_good = [], 0
    if group:
        yield group


def _filled(arrays: Sequence[Any], size: int) -> np.ndarray:
    """Stacks the arrays, and zeros up to `size`."""
    filled = np.zeros((size, *arrays[0].shape), arrays[0].dtype)
    np.stack(arrays, out=filled[: len(arrays)])
    return filled


def _finished(group: Sequence[Prepared], running: Any, with_features: bool) -> list[Output]:
    """Waits for the devices; returns an output for each of the group."""
    host = {} if running is None else jax.device_get(running)
    outputs = []
    row = 0
    for one in group:
        if one.image_HWC is None:
            outputs.append(Output(one.item, None, None, one.error))
            continue
        logits_C, features_D = host["logits_BC"][row], host["features_BD"][row]
        row += 1
        if np.isfinite(logits_C).all():
            outputs.append(Output(one.item, logits_C, features_D if with_features else None, ""))
        else:
            error = "the network's output is not finite; a model of dtype float32 may do better"
            outputs.append(Output(one.item, None, None, error))
    return outputs
