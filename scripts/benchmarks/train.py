"""Speed of the networks' steps as the package runs them, and what they cost.

    python scripts/benchmarks/train.py --json=FILE

For each of --models and --kinds, in a fresh process each: images per second (median of --rounds),
seconds to compile (the first step less the second; as time, and as processor time, which tells more
on a busy machine; nothing is taken from a compile cache), peak memory, and model flops utilisation.
"train" is the step of `Experiment.train_step`: augmentation,
forward and backward pass, clipping, AdamW, on uint8 images that are on the device already; "step"
is the same without augmentation; "infer" is evaluation's step.

Utilisation is the operations that the network needs (`network_step.flops`: XLA's count of the
forward pass, times three in training) over what the largest rate of a matrix product of the same
dtype, measured in the same process, would do in that time. Peak memory is the device's own count
on a GPU and the process's resident memory on a CPU, compiling included.

`compare.py` takes the same steps in turns with timm's.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import jax
import network_step
import record
from network_step import Work

_HEADERS = (
    *("model", "what", "batch", "dtype", "images/s", "range", "compile s"),
    *("CPU s", "peak GiB", "GFLOP/image", "of the ceiling"),
)


def main() -> None:
    """Prints the table."""
    arguments = _arguments()
    results: list[dict[str, Any]] = []
    for name in arguments.models:
        for kind in arguments.kinds:
            results.append(_measured_apart(name, kind, arguments))
            record.write(arguments.json, "train", results)  # what there is, if it is cut short
    record.report(arguments.json, "train", results, _HEADERS, [_row(one) for one in results])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    add = network_step.add_flags(parser)
    add("--lowering", "auto", "of convolutions: auto, cpu, xla")
    return parser.parse_args()


def _measured_apart(name: str, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a process of its own, whose peak memory is this step's alone."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        try:
            result = process.submit(measure, name, kind, arguments).result()
        except (BrokenProcessPool, RuntimeError, ValueError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            result = {"model": name, "kind": kind, "error": lines[0]}
    print(f"# {name}, {kind}: {_row(result)[4]} images a second", file=sys.stderr, flush=True)
    return result


def measure(name: str, kind: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one step."""
    network_step.start(arguments.devices, cached=False)
    batch, dtype = network_step.usual(arguments.batch, arguments.dtype)
    work = Work(name, kind, batch, arguments.size, dtype)
    step = network_step.Step(work, arguments.lowering)
    first, first_cpu = _taken(step)
    second, second_cpu = _taken(step)
    steps = max(1, round(arguments.seconds / second))
    speeds = [steps * batch / step.seconds(steps) for _ in range(arguments.rounds)]
    memory, memory_of = network_step.peak_memory()  # before the matrices below take some
    flops = network_step.flops(work)
    ceiling = network_step.matrix_product_ceiling(dtype, min(1.0, arguments.seconds))
    speed = statistics.median(speeds)
    devices = jax.devices()
    num_chips = len(devices) if devices[0].platform != "cpu" else 1  # they share the same cores
    return {
        "model": name,
        "kind": kind,
        "batch": batch,
        "size": arguments.size,
        "dtype": dtype,
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "parameters": step.parameters,
        "images_per_second": speed,
        "rounds": speeds,
        "init_seconds": step.init_seconds,
        "compile_seconds": first - second,
        "compile_cpu_seconds": first_cpu - second_cpu,
        "peak_memory": memory,
        "peak_memory_of": memory_of,
        "flops_per_image": flops,
        "ceiling_flops_per_second": ceiling,
        "utilisation": speed * flops / (ceiling * num_chips),
    }


def _taken(step: network_step.Step) -> tuple[float, float]:
    """Seconds of one step, and of all cores' time."""
    start = time.process_time()
    return step.seconds(1), time.process_time() - start


def _row(result: dict[str, Any]) -> list[object]:
    if "error" in result:
        return [result["model"], result["kind"], None, None, result["error"], *[None] * 6]
    return [
        result["model"],
        result["kind"],
        result["batch"],
        result["dtype"],
        result["images_per_second"],
        f"{min(result['rounds']):.1f} to {max(result['rounds']):.1f}",
        result["compile_seconds"],
        result["compile_cpu_seconds"],
        result["peak_memory"] / 2**30,
        result["flops_per_image"] / 1e9,
        result["utilisation"],
    ]


if __name__ == "__main__":
    main()
