"""Weights, images and sampling places drawn from a seed, the same on every machine.

The golden files hold what a library computes, not the weights it computed with: both sides draw
those here. NumPy only, so that neither PyTorch, Keras nor JAX is needed. The numbers are the raw
stream of one of NumPy's bit generators, which NEP 19 keeps from changing.
"""

import math
import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_KERNELS = ("weight", "kernel", "W_1")
_BIASES = ("bias", "beta", "b_1")
_MEANS = ("running_mean", "moving_mean")
_NEAR_ONE = ("weight", "gamma", "running_var", "moving_variance")


class Tensor(NamedTuple):
    """A tensor of a weights file.

    Attributes:
      name: in safetensors the tensor's, in HDF5 "layer weight": "fc1 fc1/kernel:0".
      shape: as in the file.
      dtype: NumPy's name.
      scale: what is drawn is multiplied by this.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    scale: float = 1.0


def fill(manifest: Iterable[Tensor], seed: int) -> dict[str, np.ndarray]:
    """Returns all tensors of `manifest` by name."""
    return {tensor.name: values(tensor, seed) for tensor in manifest}


def values(tensor: Tensor, seed: int) -> np.ndarray:
    """Draws one tensor so that the activations behind it keep about their size.

    Kernels are He's for a ReLU, and of mean zero for each output, or the common part of the inputs
    would grow from layer to layer until all images gave the same logits. Scales and variances lie
    in 0.5 to 1.5, biases and means in -0.17 to 0.17, anything else (tokens, positions) in -1 to 1;
    counters are 0.
    """
    leaf = re.split(r"[./ ]", tensor.name)[-1].removesuffix(":0")
    if np.dtype(tensor.dtype).kind in "iu":
        return np.zeros(tensor.shape, tensor.dtype)
    drawn = uniform(f"{seed} {tensor.name}", math.prod(tensor.shape)).reshape(tensor.shape)
    if leaf.endswith(_KERNELS) and len(tensor.shape) > 1:
        drawn = _kernel(drawn, channels_last=not leaf.endswith("weight"))
    elif leaf.endswith(_BIASES):
        drawn *= np.float32(0.25)
        drawn += np.float32(0.5)
    elif leaf.endswith(_MEANS):
        drawn *= np.float32(0.17)
    elif leaf.endswith(_NEAR_ONE):
        drawn *= np.float32(0.5)
        drawn += np.float32(1)
    drawn *= np.float32(tensor.scale)
    return drawn.astype(tensor.dtype)


def _kernel(unit: np.ndarray, channels_last: bool) -> np.ndarray:
    """Scales values in -1 to 1 by the fan-in; outputs are the first axis, or Keras's last.

    A depthwise kernel, (C, 1, k, k) or Keras's (k, k, C, 1), has one input a channel and keeps its
    mean.
    """
    depthwise = unit.ndim == 4 and unit.shape[3 if channels_last else 1] == 1
    if depthwise:
        fan_in = math.prod(unit.shape[:2] if channels_last else unit.shape[2:])
    else:
        outputs = unit.ndim - 1 if channels_last else 0
        fan_in = unit.size // unit.shape[outputs]
        inputs = tuple(axis for axis in range(unit.ndim) if axis != outputs)
        unit -= unit.mean(inputs, keepdims=True, dtype=np.float64).astype(np.float32)
    unit *= np.float32(math.sqrt(6 / fan_in))
    return unit


def uniform(name: str, count: int) -> np.ndarray:
    """Returns `count` float32 values between -1 and 1, of 65,536 possible ones, exact."""
    raw = _bits(name, -(-count // 4)).astype("<u8").view("<u2")[:count]
    unit = raw.astype(np.float32)
    unit -= np.float32(32767.5)
    unit *= np.float32(2**-15)
    return unit


def places(name: str, size: int, count: int) -> np.ndarray:
    """Returns up to `count` places in a flattened array of `size` values, all if that's fewer."""
    if size <= count:
        return np.arange(size)
    return (_bits(name, count) % np.uint64(size)).astype(np.int64)


def images(shape: tuple[int, int, int, int], seed: int) -> np.ndarray:
    """Returns uint8 images (B, H, W, 3): squares of several sizes over one another, and noise."""
    batch, height, width, channels = shape
    total = np.zeros(shape, np.int64)
    for side in (32, 16, 8, 4, 1):
        rows, columns = -(-height // side), -(-width // side)
        name = f"{seed} image {side}"
        raw = _bits(name, batch * rows * columns * channels) % np.uint64(103)
        squares = raw.astype(np.int64).reshape(batch, rows, columns, channels) - 51
        total += squares.repeat(side, 1).repeat(side, 2)[:, :height, :width]
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def normalised(image_BHWC: np.ndarray) -> np.ndarray:
    """Returns uint8 images as float32 of about unit scale, exactly."""
    return (image_BHWC.astype(np.float32) - np.float32(127.5)) / np.float32(64)


def _bits(name: str, count: int) -> np.ndarray:
    """Returns `count` uint64 values for this name."""
    seed = np.random.SeedSequence(zlib.crc32(name.encode()))
    return np.random.SFC64(seed).random_raw(count)
