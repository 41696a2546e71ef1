"""Speed of predicting a folder of JPEGs, beside decoding alone and the network alone, in one run.

    python scripts/benchmarks/predict.py --images=PATH/TO/ham10000 --work=/tmp/benchmark

Takes JPEGs from under --images, enlarges them to 600 x 450 in --work, makes a checkpoint of --model
with random weights there (or takes --workdir), and then, in turns:

- decodes and prepares all images on all cores, and nothing else;
- runs the jitted forward pass on as many images that are in memory already, and nothing else;
- predicts the images into a CSV, as the verb `predict` does.

Prints the median rates and what share of the slower of the first two the third reaches. On a CPU
both have the same cores to share, so that 1 / (1 / decoding + 1 / forward) is the most that can be
had; that share is printed too. Then the seconds from the start of a fresh process to its first
prediction, with a compile cache that an earlier process has filled.

EfficientNet-B0 at 224 px, 2,000 JPEGs, two cores and nothing else running (--count=2000
--rounds=1): decoding 879 images/s, forward pass 86.2, predicting 82.8 (0.96 of the slower; 1.06 of
what sharing the cores allows), first prediction after 3.0 s, peak memory 2.6 GiB.
"""

import argparse
import contextlib
import math
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
import record
import turns

from skinjax import checkpoint, parallel, phases
from skinjax import config as config_lib
from skinjax import workdir as workdir_lib
from skinjax.config import default_config
from skinjax.data import images, threads
from skinjax.data.labels import HAM10000_CLASSES
from skinjax.experiment import Experiment
from skinjax.layer_paths import Layers
from skinjax.predict import Predictor
from skinjax.predict.table import PredictionTable
from skinjax.trained import TrainedModel

_FIRST = """
import sys, time
start = time.perf_counter()
from skinjax import compile_cache, parallel
from skinjax.default_config import default_config
parallel.initialize(default_config().parallel)
compile_cache.enable()
from skinjax.predict import Predictor
prediction = Predictor(sys.argv[1]).predict(sys.argv[2])
assert prediction.label, prediction.error
print(time.perf_counter() - start, time.process_time())
"""


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEGs")
    parser.add_argument("--work", type=Path, required=True, help="folder for copies and checkpoint")
    parser.add_argument("--workdir", type=Path, help="a trained run in place of --model")
    parser.add_argument("--model", default="efficientnet_b0", help="(default: efficientnet_b0)")
    parser.add_argument("--count", type=int, default=2000, help="images (default: 2000)")
    parser.add_argument("--batch_size", type=int, default=32, help="(default: 32)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turns (default: 3)")
    parser.add_argument("--json", default="", help="file for the results")
    arguments = parser.parse_args()
    parallel.initialize(default_config().parallel)
    paths = turns.enlarged(arguments.images, arguments.work / "enlarged", arguments.count)
    workdir = arguments.workdir or _random_run(arguments.work, arguments.model)
    # Before this process computes anything: it would take the cores.
    first = _first_prediction(workdir, paths[0], arguments.work / "cache", arguments.rounds)
    predictor = Predictor(workdir, batch_size=arguments.batch_size)
    model = predictor.model
    taken = turns.in_turns(
        {
            "decoding alone": lambda: _decode(model, paths),
            "forward pass alone": _forward(model, len(paths), arguments.batch_size),
            "predicting": lambda: _predict(predictor, paths, arguments.work / "predictions.csv"),
        },
        arguments.rounds,
    )
    decoding, forward, predicting = (statistics.median(seconds) for seconds in taken.values())
    device = jax.devices()[0].device_kind
    size, count = model.image_size, len(paths)
    print(f"{model.config.model.name} at {size} px, {count} JPEGs of 600 x 450, ", end="")
    print(f"{threads.available_cores()} cores, {jax.device_count()} x {device}, load {_load()}")
    walls, cpus = zip(*first, strict=True)
    figures = {
        **{f"{name}, images/s": count / statistics.median(s) for name, s in taken.items()},
        "of the slower": max(decoding, forward) / predicting,
        "of both on the same cores": (decoding + forward) / predicting,
        "first prediction of a process, s": statistics.median(walls),
        "its processor's seconds": statistics.median(cpus),
        "peak memory, GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    results = [{"what": what, "measured": value} for what, value in figures.items()]
    record.report(arguments.json, "predict", results, ("what", "measured"), list(figures.items()))


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def _random_run(work: Path, name: str) -> Path:
    """A work directory with one checkpoint of random weights; returns it."""
    workdir = work / f"run_{name}"
    if workdir_lib.checkpoint_dir(workdir).is_dir():
        return workdir
    config = default_config()
    config.model.name = name
    config.data.update(raw_dir="none", image_size=224)
    config.normalize.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.phases = (config_lib.phase(("*",), epochs=1),)
    config.parallel.num_devices = 1
    classes = HAM10000_CLASSES
    experiment = Experiment.create(config, classes, np.ones(len(classes), int), None)
    variables = experiment.init_variables()
    layers = Layers.of(variables, experiment.model.stages)
    phase = phases.resolve(config, layers, steps_per_epoch=1)[-1]
    about = checkpoint.Description(
        step=1,
        epoch=1.0,
        phase=phase.index,
        metrics={},
        classes=classes,
        config=config_lib.to_json(config),
        fingerprint="none",
    )
    saved = checkpoint.Checkpointer(
        workdir_lib.checkpoint_dir(workdir), metric=config.checkpoint.metric
    )
    with contextlib.closing(saved):
        saved.save(experiment.init_state(phase, variables), None, about)
        saved.wait()
    return workdir


def _first_prediction(
    workdir: Path, image: Path, cache: Path, rounds: int
) -> list[tuple[float, float]]:
    """Wall and CPU seconds of fresh processes, after one that fills the compile cache."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache.resolve())}
    environment.pop("XLA_FLAGS", None)
    command = [sys.executable, "-c", _FIRST, str(workdir), str(image)]
    taken = []
    for _ in range(rounds + 1):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        wall, cpu = map(float, done.stdout.split())
        taken.append((wall, cpu))
    return taken[1:]


def _decode(model: TrainedModel, paths: Sequence[Path]) -> None:
    for _ in threads.map_in_order(lambda path: model.preprocess(images.decode(path)), paths):
        pass


def _forward(model: TrainedModel, count: int, batch_size: int) -> Callable[[], None]:
    """The pass over `count` images, a batch after the other."""
    side = model.image_size
    shape = (batch_size, side, side, 3)
    image_BHWC = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    forward = jax.jit(model.forward())
    variables = jax.device_put(model.variables)

    def run() -> None:
        outputs = None
        for _ in range(math.ceil(count / batch_size)):
            outputs = forward(variables, image_BHWC)
        jax.block_until_ready(outputs)

    return run


def _predict(predictor: Predictor, paths: Sequence[Path], output: Path) -> None:
    with PredictionTable(output, predictor.model.classes) as table:
        for prediction in predictor.stream(paths):
            assert not prediction.error
            table.write(prediction)


if __name__ == "__main__":
    main()
