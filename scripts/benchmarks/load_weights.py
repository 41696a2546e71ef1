"""Time and memory of loading published weights: ResNet-50's, about 100 MB.

    python scripts/benchmarks/load_weights.py --work=/tmp/benchmark

Writes a .safetensors file with timm's names and random values into --work, once, and loads it
several times, each time in a process of its own. Prints one table: seconds from the path to
variables, with the file in the page cache; the processor's share of them; and the peak of resident
memory above what the process had before, in times the file's size. Needs Linux, for /proc.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import record
import safetensors.numpy

from skinjax import models
from skinjax.config import default_config
from skinjax.models import pretrained
from skinjax.models.pretrained import matching

NAME = "resnet50"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--work", type=Path, required=True, help="folder for the file")
    parser.add_argument("--rounds", type=int, default=5, help="processes (default: 5)")
    parser.add_argument("--one", action="store_true", help="load once and print JSON")
    parser.add_argument("--json", default="", help="file for the results")
    arguments = parser.parse_args()
    path = arguments.work / f"{NAME}.safetensors"
    if arguments.one:
        print(json.dumps(_measure(path)))
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write(path)
    command = [sys.executable, *sys.argv, "--one"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    found = [
        json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
        for _ in range(arguments.rounds)
    ]
    size = path.stat().st_size
    print(f"{path.name}: {size / 1e6:.1f} MB, median (largest) of {arguments.rounds}")
    units = {"seconds": 1.0, "processor": 1.0, "peak": float(size)}
    results = [
        {"what": what, "rounds": [one[what] / unit for one in found]}
        for what, unit in units.items()
    ]
    shown = ("seconds", "processor's seconds", "peak memory, times the file")
    rows = [
        (name, statistics.median(one["rounds"]), max(one["rounds"]))
        for name, one in zip(shown, results, strict=True)
    ]
    record.report(arguments.json, "load_weights", results, ("what", "median", "largest"), rows)


def _shapes() -> dict:
    """The variables' shapes of the network with the file's classes."""
    config = default_config()
    config.model.name, config.model.variant, config.model.head = NAME, "timm", ()
    model = models.create(config.model, num_classes=1000, axis_name=None)
    image_BHWC = jnp.zeros((1, 64, 64, 3))
    return jax.eval_shape(lambda key: model.init(key, image_BHWC, train=False), jax.random.key(0))


def _write(path: Path) -> None:
    shapes, family = _shapes(), models.families()[NAME]
    generator = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}
    for leaf in matching.leaves(shapes, "timm", family):
        shape = leaf.shape
        if leaf.path[-1] == "kernel" and len(shape) == 4:
            shape = (shape[3], shape[2], shape[0], shape[1])
        tensors[leaf.tensors[0]] = generator.random(shape, np.float32)
    tensors["fc.weight"] = generator.random((1000, 2048), np.float32)
    tensors["fc.bias"] = generator.random(1000, np.float32)
    safetensors.numpy.save_file(tensors, path)


def _measure(path: Path) -> dict[str, float]:
    config = default_config()
    config.model.name, config.model.variant, config.model.pretrained = NAME, "timm", str(path)
    shapes = _shapes()
    path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before, start, start_cpu = _memory("VmRSS"), time.perf_counter(), time.process_time()
    published = pretrained.find(config.model)
    variables, report = pretrained.load(published, shapes, with_head=True)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    assert variables
    assert report.head
    assert not report.unexpected
    return {"seconds": seconds, "processor": cpu, "peak": _memory("VmHWM") - before}


def _memory(field: str) -> int:
    """Bytes of resident memory: VmRSS is now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
