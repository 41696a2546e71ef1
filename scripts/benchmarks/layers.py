"""Single layers with their gradients: what skinjax does on a CPU beside XLA's own way, in turns.

    python scripts/benchmarks/layers.py --json=FILE

Each line is one layer of EfficientNet-B0, EfficientNetV2-S or ResNet-50 on 16 images of 224 px:
going forward, and the gradients of its input and its parameters. For convolutions the two are
`model.lowering` "cpu" and "xla"; for batch norm with SiLU, `batch_norm.normalize_by_batch` and what
automatic differentiation makes of the same formula.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import record
import turns

from skinjax import parallel
from skinjax.default_config import default_config
from skinjax.models import batch_norm, convolution, depthwise

BATCH, EPSILON = 16, 1e-5
# Side of the image, channels in and out, side of the kernel, stride; of "depthwise" in is out.
LAYERS = {
    "depthwise": [(112, 96, 96, 3, 2), (28, 240, 240, 5, 1), (14, 672, 672, 5, 1)],
    "convolution": [
        (112, 24, 24, 3, 1), (56, 48, 192, 3, 1), (28, 64, 256, 3, 1), (56, 256, 64, 1, 1)
    ],
    "batch norm": [(112, 96, 96, 0, 1), (28, 240, 240, 0, 1)],
}  # fmt: skip


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=7, help="of each, in turns (default: 7)")
    parser.add_argument("--json", default="", help="file for the results")
    arguments = parser.parse_args()
    parallel.initialize(default_config().parallel)
    results = []
    for kind, layers in LAYERS.items():
        for layer in layers:
            taken = turns.in_turns(_contestants(kind, *layer), arguments.rounds)
            pairs = zip(taken["xla"], taken["ours"], strict=True)
            results.append(
                {
                    "layer": kind,
                    "size": _size(*layer),
                    "ours_ms": 1e3 * statistics.median(taken["ours"]),
                    "xla_ms": 1e3 * statistics.median(taken["xla"]),
                    "ratio": statistics.median(xla / ours for xla, ours in pairs),
                }
            )
    headers = ("layer", "size", "skinjax, ms", "XLA's way, ms", "times the speed")
    rows = [tuple(one.values()) for one in results]
    record.report(arguments.json, "layers", results, headers, rows)


def _size(size: int, inputs: int, outputs: int, kernel: int, strides: int) -> str:
    if not kernel:
        return f"{size} px, {inputs} channels"
    return f"{size} px, {inputs} to {outputs}, {kernel} x {kernel}, stride {strides}"


def _contestants(
    kind: str, size: int, inputs: int, outputs: int, kernel: int, strides: int
) -> dict[str, Callable[[], object]]:
    draw = np.random.default_rng(0)
    x_BHWC = jnp.asarray(draw.standard_normal((BATCH, size, size, inputs), np.float32))
    if kind == "batch norm":
        return {
            "ours": _run(
                lambda x, scale, bias: batch_norm.normalize_by_batch(
                    x, scale, bias, EPSILON, "silu", None
                )[0],
                x_BHWC, jnp.ones(inputs), jnp.zeros(inputs),
            ),
            "xla": _run(_plain_norm, x_BHWC, jnp.ones(inputs), jnp.zeros(inputs)),
        }  # fmt: skip
    shape = (kernel, kernel, 1 if kind == "depthwise" else inputs, outputs)
    weights = jnp.asarray(draw.standard_normal(shape, np.float32))
    padding = convolution.pads((size, size), (kernel, kernel), strides, "symmetric")
    convolve = depthwise.convolve if kind == "depthwise" else convolution.convolve

    def lowered(lowering: str) -> Callable[[], object]:
        return _run(lambda x, w: convolve(x, w, strides, padding, lowering), x_BHWC, weights)

    return {"ours": lowered("cpu"), "xla": lowered("xla")}


def _plain_norm(x: jax.Array, scale_C: jax.Array, bias_C: jax.Array) -> jax.Array:
    moments = batch_norm.moments(x, None)
    return batch_norm.normalize(x, *moments, scale_C, bias_C, EPSILON, "silu")


def _run(function: Callable[..., Any], *operands: jax.Array) -> Callable[[], object]:
    """The compiled layer with all of its gradients, for a gradient that is there already."""

    @jax.jit
    def both(dy: jax.Array, *operands: jax.Array) -> Any:
        y, backward = jax.vjp(function, *operands)
        return y, backward(dy)

    shape = jax.eval_shape(function, *operands).shape
    dy = jnp.asarray(np.random.default_rng(1).standard_normal(shape, np.float32))
    return lambda: jax.block_until_ready(both(dy, *operands))


if __name__ == "__main__":
    main()
