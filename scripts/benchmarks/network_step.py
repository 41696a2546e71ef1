"""One network's step as the package runs it, for the benchmarks that time it."""

import argparse
import functools
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from skinjax import compile_cache, models, parallel, phases
from skinjax.config import default_config
from skinjax.data.labels import HAM10000_CLASSES
from skinjax.experiment import Experiment

# "train" is the step of training, "step" the same without augmentation, "infer" evaluation's.
KINDS = ("train", "step", "infer")
MODELS = ["efficientnet_b0", "efficientnetv2_s", "resnet50", "vit_small_patch16"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Work:
    """What is timed; `dtype` is of the computation, `batch` images in a step, `size` their side."""

    model: str
    kind: str
    batch: int
    size: int
    dtype: str


def start(devices: int, *, cached: bool) -> None:
    """Starts JAX as a run does, on so many CPU devices, with a compile cache or without."""
    settings = default_config().parallel
    settings.cpu_devices = devices
    parallel.initialize(settings)
    if cached:
        compile_cache.enable()
    else:
        jax.config.update("jax_enable_compilation_cache", False)


def usual(batch: int, dtype: str) -> tuple[int, str]:
    """Both as given or, where they are 0 and "", as usual for the device: call `start` first."""
    if jax.devices()[0].platform == "cpu":
        return batch or 16, dtype or "float32"
    return batch or 256, dtype or "bfloat16"


def add_flags(parser: argparse.ArgumentParser) -> Callable[..., None]:
    """Adds the flags of the work to a parser; returns what adds further ones with their default."""

    def add(flag: str, default: Any, text: str, **kwargs: Any) -> None:
        shown = ",".join(default) if isinstance(default, list) else default
        parser.add_argument(flag, default=default, help=f"{text} (default: {shown})", **kwargs)

    add("--models", MODELS, "comma-separated", type=_models)
    add("--kinds", list(KINDS), "comma-separated", type=_kinds)
    add("--batch", 0, "images in a step; 0 is 16 on a CPU, 256 else", type=int)
    add("--size", 224, "side of the images", type=int)
    add("--dtype", "", "float32 or bfloat16; empty is float32 on a CPU, bfloat16 else")
    add("--devices", 0, "CPU devices to divide a batch over; 0 is one", type=int)
    add("--rounds", 5, "of which the median is given", type=int)
    add("--seconds", 3.0, "roughly what a round takes", type=float)
    parser.add_argument("--json", default="", help="file to write")
    return add


def names(text: str) -> list[str]:
    """Those between commas."""
    return text.split(",")


def _models(text: str) -> list[str]:
    known = models.families()
    unknown = [name for name in names(text) if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"no networks: {unknown}; known are {', '.join(known)}")
    return names(text)


def _kinds(text: str) -> list[str]:
    if not set(names(text)) <= set(KINDS):
        raise argparse.ArgumentTypeError(f"{text!r}; the kinds are {', '.join(KINDS)}")
    return names(text)


def config_of(work: Work, lowering: str = "auto") -> ConfigDict:
    """The default config (AdamW, clipping, cosine schedule, mild augmentation, no EMA)."""
    config = default_config()
    config.data.update(raw_dir="none", image_size=work.size)
    config.normalize.update(mean=MEAN, std=STD)
    config.model.update(name=work.model, dtype=work.dtype, lowering=lowering)
    config.batch_size = work.batch
    if work.kind != "train":
        off = {name: 0.0 for name, value in config.augment.items() if isinstance(value, float)}
        config.augment.update(off | {"crop_scale": (1.0, 1.0)})
    return config


class Step:
    """A step on one random batch that stays on the devices.

    Attributes:
      parameters: how many the network has.
      init_seconds: until the first state is on the devices.
    """

    def __init__(self, work: Work, lowering: str = "auto") -> None:
        """Draws the parameters; the first `seconds` compiles."""
        began = time.perf_counter()
        config = config_of(work, lowering)
        classes = HAM10000_CLASSES
        experiment = Experiment.create(config, classes, np.ones(len(classes), int))
        variables = experiment.init_variables()
        phase = phases.resolve(config, experiment.layers, steps_per_epoch=1000)[-1]
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        batch = experiment.mapper.shard(_batch(work))
        self._step: Callable[[], Any]
        if work.kind == "infer":
            step, state = experiment.eval_step(), experiment.mapper.replicate(variables)
            self._step = functools.partial(step, state, batch)
        else:
            step = experiment.train_step(phase)
            state = experiment.mapper.replicate(experiment.init_state(phase, variables))
            self._step = _Training(step, state, batch)
        jax.block_until_ready((state, batch))
        self.init_seconds = time.perf_counter() - began

    def seconds(self, steps: int) -> float:
        """Of so many steps; as the loops of training and evaluation do, it waits one behind."""
        start = time.perf_counter()
        pending = None
        for _ in range(steps):
            outputs = self._step()
            jax.block_until_ready(pending)
            pending = outputs
        jax.block_until_ready(pending)
        return time.perf_counter() - start


class _Training:
    """Goes on from the state that the last call left."""

    def __init__(self, step: Callable[..., Any], state: Any, batch: Any) -> None:
        self._step, self._state, self._batch = step, state, batch
        self._key = jax.random.key(0)

    def __call__(self) -> Any:
        self._state, outputs = self._step(self._state, self._batch, self._key)
        return outputs


def _batch(work: Work) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shape = (work.batch, work.size, work.size, 3)
    return {
        "image": draw.integers(0, 256, shape, dtype=np.uint8),
        "label": np.arange(work.batch, dtype=np.int32) % len(HAM10000_CLASSES),
        "mask": np.ones(work.batch, bool),
        "index": np.arange(work.batch, dtype=np.int32),
    }


def flops(work: Work) -> float:
    """Floating-point operations that the network needs for one image of this work.

    XLA's count of the forward pass as it is lowered with its own convolutions (two for a
    multiply-add), so that no way of computing them counts for more; three times that in training,
    as a backward pass is two forward ones. Augmentation and optimizer are not counted.
    """
    config = config_of(work, "xla").model
    model = models.create(config, num_classes=len(HAM10000_CLASSES), axis_name=None)
    image = jax.ShapeDtypeStruct((1, work.size, work.size, 3), jnp.float32)
    forward = functools.partial(model.apply, train=False)
    init = functools.partial(model.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image)
    counted: Any = jax.jit(forward).lower(variables, image).cost_analysis()
    return float(counted["flops"]) * (1 if work.kind == "infer" else 3)


def matrix_product_ceiling(dtype: str, seconds: float = 1.0) -> float:
    """The most operations a second that square matrix products reach here, over a few sizes.

    On one device, with JAX's default precision (TF32 for float32 on a GPU), as the networks have.
    """
    on_cpu = jax.devices()[0].platform == "cpu"
    product = jax.jit(jnp.matmul)
    best = 0.0
    for side in (1024, 2048, 4096) if on_cpu else (4096, 8192, 16384):
        one, other = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in (0, 1))
        jax.block_until_ready(product(one, other))
        began, fastest = time.perf_counter(), float("inf")
        while time.perf_counter() - began < seconds:
            start = time.perf_counter()
            jax.block_until_ready(product(one, other))
            fastest = min(fastest, time.perf_counter() - start)
        best = max(best, 2 * side**3 / fastest)
        if fastest > seconds:  # larger ones would take eight times as long
            break
    return best


def peak_memory() -> tuple[int, str]:
    """The most bytes so far, and of what: the fullest device or, on a CPU, this process."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    on_device = [entry["peak_bytes_in_use"] for entry in stats if entry]
    if on_device:
        return max(on_device), "device"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "process"
