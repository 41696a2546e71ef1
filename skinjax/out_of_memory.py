"""What to change where the memory of a device, or of the machine, was not enough."""

import contextlib
import re
from collections.abc import Callable, Iterator

import jax
from ml_collections import ConfigDict

from skinjax import mixing, parallel
from skinjax.errors import InputError, OutOfMemoryError

_SIZE = re.compile(r"allocat\w+ ([\d.]+ ?\w+)")  # in XLA's message


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an exception is XLA's, or the host's, for want of memory."""
    text = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError)
        and ("RESOURCE_EXHAUSTED" in text or "OUT_OF_MEMORY" in text)
    )


@contextlib.contextmanager
def explained(advice: Callable[[], str]) -> Iterator[None]:
    """Turns what is raised for want of memory into one line that ends in what `advice` returns.

    Raises:
      OutOfMemoryError: in place of XLA's own error, or of MemoryError.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        where = "this machine" if isinstance(error, MemoryError) else "the device"
        size = _SIZE.search(str(error))
        of = f" (no room for {size[1]})" if size else ""
        raise OutOfMemoryError(f"{where} ran out of memory{of}: {advice()}") from error


def advice_for_training(
    config: ConfigDict, num_devices: int, saved_step: int | None, *, images_on_devices: bool
) -> str:
    """Says which batch size to try, and what else needs less memory.

    Args:
      config: of the run.
      num_devices: over all processes.
      saved_step: of the latest checkpoint, which a run with another batch size can't go on from.
      images_on_devices: whether the decoded images take memory of the devices, too.
    """
    same_batch = ["--config.data.on_device=off"] if images_on_devices else []
    same_batch += [
        f"--config.{field}" for field in (
            f"optimizer.accumulate={_more_parts(config, num_devices)}",
            "model.remat=True",
        ) if not field.endswith("None") and not (config.model.remat and "remat" in field)
    ]  # fmt: skip
    smaller = [] if config.model.dtype != "float32" else ["--config.model.dtype=bfloat16"]
    half = _smaller_batch(config, num_devices)
    smaller += [f"--config.batch_size={half}"] if half else []
    tried = f"it was training with config.batch_size={config.batch_size}"
    if config.optimizer.accumulate > 1:
        tried += f" in {config.optimizer.accumulate} parts"
    if saved_step is None:
        options = [*reversed(smaller), *same_batch]
        return f"{tried}; try {_either(options)}"
    if not same_batch:
        return f"{tried}, and step {saved_step} is saved; in a new --workdir try {_either(smaller)}"
    go_on = f"the same command with {_either(same_batch)} goes on from there"
    anew = f"; or try {_either(list(reversed(smaller)))} in a new --workdir" if smaller else ""
    return f"{tried}, and step {saved_step} is saved: {go_on}{anew}"


def advice_for_evaluation(batch_size: int, num_devices: int) -> str:
    """Says which batch size of evaluation to try; the results don't depend on it."""
    half = max(1, batch_size // 2 // num_devices) * num_devices
    tried = f"it was evaluating with a batch of {batch_size}, and what was saved is kept"
    if half == batch_size:
        return f"{tried}; a smaller config.data.image_size or model is what is left"
    return (
        f"{tried}; try --config.evaluate.batch_size={half}, or --batch_size={half} of the verb"
        " evaluate"
    )


def _either(options: list[str]) -> str:
    if not options:
        return "a smaller config.data.image_size, or a smaller model"
    return ", ".join(options[:-1]) + (" or " if len(options) > 1 else "") + options[-1]


def _more_parts(config: ConfigDict, num_devices: int) -> int | None:
    """The next larger `optimizer.accumulate`, from twice as many parts on."""
    for parts in range(2 * config.optimizer.accumulate, config.batch_size + 1):
        if _is_valid(config, config.batch_size, num_devices, parts):
            return parts
    return None


def _smaller_batch(config: ConfigDict, num_devices: int) -> int | None:
    """The largest batch of half the size or less that devices, parts and pairs divide."""
    for size in range(config.batch_size // 2, 0, -1):
        if _is_valid(config, size, num_devices, config.optimizer.accumulate):
            return size
    return None


def _is_valid(config: ConfigDict, batch_size: int, num_devices: int, parts: int) -> bool:
    in_pairs = mixing.is_on(config.augment)
    try:
        parallel.check_batch_size(batch_size, num_devices, parts=parts, in_pairs=in_pairs)
    except InputError:
        return False
    return True
