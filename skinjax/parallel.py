"""The one place that maps a step over devices and processes."""

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from skinjax.errors import InputError

AXIS = "batch"  # the mapped axis over which the steps reduce


def _computes_on_cpu() -> bool:
    """Guesses it without starting JAX, which would be too late."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    return platforms == "cpu" or not (platforms or os.path.exists("/dev/nvidiactl"))


def keep_freed_memory() -> None:
    """Lets glibc reuse freed memory in place of returning it to the system.

    XLA allocates a step's buffers on the CPU anew in every step: gigabytes, which the system would
    have to clear and to map page by page. It must come before JAX's threads; elsewhere than with
    glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mmap_max, trim_threshold, arena_max = -4, -1, -8  # from malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, -1)  # no limit
    mallopt(arena_max, 1)  # other arenas than the main one can't hold large blocks


def initialize(settings: ConfigDict) -> None:
    """Sets XLA's flags and joins the other processes; call before JAX touches a device.

    Args:
      settings: `config.parallel`.

    Raises:
      InputError: the processes can't find each other.
    """
    if settings.keep_freed_memory and _computes_on_cpu():
        keep_freed_memory()
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = ["--xla_cpu_prefer_vector_width=512"]
    if settings.deterministic:
        wanted.append("--xla_gpu_exclude_nondeterministic_ops=true")
    added = [flag for flag in wanted if flag.split("=")[0] not in flags]
    os.environ["XLA_FLAGS"] = " ".join([flags, *added]).strip()
    if settings.cpu_devices and "xla_force_host_platform_device_count" not in flags:
        try:
            jax.config.update("jax_num_cpu_devices", settings.cpu_devices)
        except RuntimeError:
            if len(jax.devices()) != settings.cpu_devices:
                logging.warning("JAX has started already: parallel.cpu_devices changes nothing now")
    if not settings.distributed:
        return
    explicit: dict[str, Any] = {
        "coordinator_address": settings.coordinator_address or None,
        "num_processes": settings.num_processes or None,
        "process_id": settings.process_id if settings.process_id >= 0 else None,
    }
    try:
        jax.distributed.initialize(**explicit)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"parallel.distributed: the processes can't join ({str(error).splitlines()[0]}); run "
            "under Slurm or Kubernetes, or set parallel.coordinator_address, num_processes and "
            "process_id"
        ) from None


def is_main_process() -> bool:
    """Says whether this process is the one that writes."""
    return jax.process_index() == 0


def select_devices(num_devices: int) -> list[jax.Device]:
    """Returns the devices to run on: all those of all processes, or the first of the only one.

    Raises:
      InputError: there are not that many, or several processes each run on all of theirs.
    """
    devices = jax.devices()
    if not 0 <= num_devices <= len(devices) or (num_devices and jax.process_count() > 1):
        raise InputError(
            f"config.parallel.num_devices is {num_devices}; there are {len(devices)} "
            f"{devices[0].platform} devices in {jax.process_count()} process(es): give 1 to "
            f"{len(devices)}, or 0 for all (the only choice with several processes)"
        )
    return devices[: num_devices or None]


def check_batch_size(
    batch_size: int, num_devices: int, *, parts: int = 1, in_pairs: bool = False
) -> None:
    """Checks that a global batch size is divided by the devices, and what each has by its parts.

    Args:
      batch_size: global.
      num_devices: over all processes.
      parts: `config.optimizer.accumulate`.
      in_pairs: whether mixup or CutMix mix pairs within what a device has.

    Raises:
      InputError: naming the nearest valid size.
    """
    unit = num_devices * (parts if parts % 2 == 0 or not in_pairs else 2 * parts)
    if batch_size % unit:
        nearest = max(1, round(batch_size / unit)) * unit
        dividing = [f"{num_devices} devices"]
        dividing += [f"{parts} parts (optimizer.accumulate)"] if parts > 1 else []
        dividing += ["mixup's and CutMix's pairs"] if in_pairs else []
        raise InputError(
            f"config.batch_size is {batch_size}, which {' by '.join(dividing)} don't divide; "
            f"the nearest valid size is {nearest}"
        )


class Mapper:
    """Maps a per-replica step `step(state, batch, ...)` over all devices.

    The state and everything behind the batch are replicated, the batch is split along its first
    axis, and the outputs, which the step must have reduced or gathered, are replicated. Both
    modes take and return the same arrays, so nothing outside knows which one runs.
    """

    def __init__(self, mode: str, devices: Sequence[jax.Device]) -> None:
        """Takes `config.parallel.mode`, "pmap" or "shard_map", and `select_devices`."""
        self._mode = mode
        self._devices = tuple(devices)
        self._mesh = Mesh(np.array(devices), (AXIS,))
        self._num_local = sum(d.process_index == jax.process_index() for d in devices)
        # XLA's CPU collectives deadlock when more executions are in flight than it has threads.
        self._one_in_flight = devices[0].platform == "cpu" and len(devices) > 1

    @property
    def num_devices(self) -> int:
        """The number of devices, over all processes."""
        return len(self._devices)

    def replicate(self, tree: Any) -> Any:
        """Copies a tree of arrays (the same on every process) to every device."""
        sharding = NamedSharding(self._mesh, PartitionSpec())
        # A copy through the host: donating an array that shares the original's buffer would
        # delete the original.
        return jax.tree.map(
            lambda leaf: jax.make_array_from_callback(
                np.shape(leaf), sharding, functools.partial(_host_part, np.array(leaf))
            ),
            tree,
        )

    def filled(self, shape: Sequence[int], dtype: Any) -> jax.Array:
        """Zeros on every device, which nothing is copied for."""
        sharding = NamedSharding(self._mesh, PartitionSpec())
        return jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=sharding)()

    def free_memory(self) -> int | None:
        """Bytes that are free on the fullest device of this process; None for the CPU."""
        local = [device for device in self._devices if device.process_index == jax.process_index()]
        free = []
        for device in local:
            stats = device.memory_stats()
            if device.platform == "cpu" or not stats or "bytes_limit" not in stats:
                return None
            free.append(stats["bytes_limit"] - stats["bytes_in_use"])
        return min(free)

    def shard(self, batch: dict[str, np.ndarray]) -> Any:
        """Splits this process's part of a batch over its devices, and begins to copy it there.

        On an accelerator it returns before the copy is done. The arrays belong to JAX from then on:
        on the CPU nothing may be copied at all.
        """
        if self._mode == "pmap":
            sharding = NamedSharding(self._mesh.local_mesh, PartitionSpec(AXIS))
            parts = {k: v.reshape(self._num_local, -1, *v.shape[1:]) for k, v in batch.items()}
            return jax.device_put(parts, sharding)
        sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))
        return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}

    def map(
        self, step: Callable[..., Any], *, num_args: int = 2, donate_state: bool = False
    ) -> Callable[..., Any]:
        """Compiles a step over the devices.

        Args:
          step: takes the state, the batch and `num_args - 2` more replicated arguments.
          num_args: how many positional arguments the step takes.
          donate_state: let the outputs reuse the state's memory; the state passed is gone then.
        """
        donate = (0,) if donate_state else ()
        if self._mode == "pmap":
            mapped = jax.pmap(
                step,
                axis_name=AXIS,
                devices=self._devices if jax.process_count() == 1 else None,
                in_axes=tuple(0 if i == 1 else None for i in range(num_args)),
                out_axes=None,
                donate_argnums=donate,
            )
        else:
            replicated, split = PartitionSpec(), PartitionSpec(AXIS)
            mapped = jax.jit(
                jax.shard_map(
                    step,
                    mesh=self._mesh,
                    in_specs=tuple(split if i == 1 else replicated for i in range(num_args)),
                    out_specs=replicated,
                    # The step reduces by itself; under the check, gradients of replicated
                    # parameters would be summed a second time.
                    check_vma=False,
                ),
                donate_argnums=donate,
            )

        @functools.wraps(step)
        def call(*args: Any) -> Any:
            outputs = mapped(*args)
            return jax.block_until_ready(outputs) if self._one_in_flight else outputs

        call.lower = mapped.lower  # type: ignore[attr-defined]  # for looking at what is compiled
        return call

    def map_split(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Compiles `function(replicated, part)`, whose outputs stay split as the batch is.

        It is for what comes before a step, and must not reduce over the devices.
        """
        if self._mode == "pmap":
            return jax.pmap(
                function,
                axis_name=AXIS,
                devices=self._devices if jax.process_count() == 1 else None,
                in_axes=(None, 0),
            )
        return jax.jit(
            jax.shard_map(
                function,
                mesh=self._mesh,
                in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
                out_specs=PartitionSpec(AXIS),
            )
        )


def _host_part(array: np.ndarray, index: tuple[slice, ...]) -> np.ndarray:
    return array[index]


def on_main_process(work: Callable[[], Any]) -> Any:
    """Runs `work` on the main process while the others wait; returns its result there, else None.

    Raises:
      InputError: on the others, where it failed on the main process, which says why.
    """
    if not is_main_process():
        if any_process(False):
            raise InputError("the main process failed; see its message")
        return None
    try:
        result = work()
    except BaseException:
        any_process(True)
        raise
    any_process(False)
    return result


def main_process_first(work: Callable[[], Any]) -> Any:
    """Runs `work` on the main process, then on the others, which find it done."""
    result = on_main_process(work)
    return result if is_main_process() else work()


def any_process(flag: bool) -> bool:
    """Says on every process whether the flag is set on any; all must call it together."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
