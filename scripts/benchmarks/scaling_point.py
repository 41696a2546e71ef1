"""One measurement of `scaling.py` in a process of its own: JSON on its command line, JSON out.

A process of its own, since a process never gives back what it once took: its peak is this work's
alone. What is worked on is drawn (`draw`), but written, read and trained on by the functions that
`skinjax prepare`, `train` and `evaluate` call.
"""

import csv
import itertools
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from skinjax import parallel
from skinjax.config import default_config
from skinjax.data import builder, pipeline
from skinjax.data.prepared import open_prepared

_FOLDER = 1000  # images in each
_COLUMNS = ("image", "label", "lesion", "patient", "age", "sex", "site")
_SITES = ("back", "trunk", "face", "lower extremity", "upper extremity", "")


def config(folder: str, fields: dict[str, Any]) -> ConfigDict:
    """The config of what `draw` writes into `folder`: a small network on a table of images."""
    chosen = default_config()
    chosen.data.dataset = "csv"
    chosen.data.raw_dir, chosen.data.table = str(Path(folder) / "raw"), "table.csv"
    chosen.data.prepared_dir = str(Path(folder) / "prepared")
    for name in _COLUMNS:
        chosen.data.columns[name] = name
    chosen.model.name = "simple_cnn"
    # Dropout is drawn by each replica, and would make the losses depend on their number.
    chosen.model.head = (("dense", 64), ("relu",))
    chosen.log.tensorboard = chosen.log.progress = False
    chosen.update_from_flattened_dict(fields)
    return chosen


def draw(folder: str, records: int, size: int, classes: int) -> dict[str, Any]:
    """Writes JPEGs of `size` px and their table, unless they are there.

    Smooth noise, so that no two look alike; a lesion has 1.3 images and a patient 2.6 of them on
    average, and a class is of one lesion.
    """
    raw = Path(folder) / "raw"
    table = raw / "table.csv"
    if table.exists():
        return {}
    rng = np.random.default_rng([records, size, classes])
    num_lesions = max(classes * 4, int(records / 1.3))
    lesion_N = np.concatenate([np.arange(num_lesions), rng.integers(0, num_lesions, records)])
    rows = []
    for number, lesion in enumerate(lesion_N[:records].tolist()):
        part = raw / f"part{number // _FOLDER:04d}"
        if number % _FOLDER == 0:
            part.mkdir(parents=True, exist_ok=True)
        noise_HWC = rng.integers(0, 256, (8, 8, 3), np.uint8)
        image_HWC = cv2.resize(noise_HWC, (size, size), interpolation=cv2.INTER_CUBIC)
        _, encoded = cv2.imencode(".jpg", image_HWC)
        path = part / f"image{number:07d}.jpg"
        path.write_bytes(encoded.tobytes())
        of_patient = (lesion // 2 * 7, ("male", "female")[lesion // 2 % 2])
        rows.append(
            (
                f"{part.name}/{path.name}",
                f"class{lesion % classes:05d}",
                f"lesion{lesion:07d}",
                f"patient{lesion // 2:07d}",
                of_patient[0] % 90,
                of_patient[1],
                _SITES[lesion % len(_SITES)],
            )
        )
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    return {}


def prepare(folder: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Reads, verifies, groups, splits and writes, as `skinjax prepare` does."""
    start = time.perf_counter()
    prepared = builder.prepare(config(folder, fields))
    seconds = time.perf_counter() - start
    count = sum(map(sum, prepared.counts.values()))
    shards = len(list(prepared.store.glob("*.array_record-*")))
    size = sum(path.stat().st_size for path in prepared.store.rglob("*") if path.is_file())
    return {
        "directory": str(prepared.directory),
        "records": count,
        "shards": shards,
        "disk_bytes": size,
        "seconds": seconds,
        "images_per_second": count / seconds,
    }


def read(
    folder: str, fields: dict[str, Any], directory: str, seconds: float, metadata: bool
) -> dict[str, Any]:
    """Opens the training split and reads its batches, for so many seconds, as training does.

    `metadata` also keeps what is known of each patient, as a network with that input wants it.
    """
    from skinjax.data import metadata as metadata_lib

    chosen = config(folder, fields)
    if metadata:
        chosen.metadata.features = ("age", "sex", "site")
    before = _anonymous()
    start = time.perf_counter()
    prepared = open_prepared(Path(directory))
    label_N = prepared.labels(("train",))
    encoder = metadata_lib.fit(chosen.metadata, prepared.table("train")) if metadata else None
    source = prepared.source(("train",), cached=chosen.data.cache, encoder=encoder)
    opened = time.perf_counter() - start
    batches = iter(
        pipeline.train_dataset(
            source,
            batch_size=chosen.batch_size,
            seed=0,
            label_N=label_N,
            balance=chosen.data.balance,
            num_threads=chosen.data.num_threads,
            num_workers=chosen.data.num_workers,
        )
    )
    next(batches)
    first = time.perf_counter() - start - opened
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(batches)
        count += 1
    rate = count * chosen.batch_size / (time.perf_counter() - begin)
    return {
        "records": len(source),
        "open_seconds": opened,
        "first_batch_seconds": first,
        "images_per_second": rate,
        "grown_bytes": _anonymous() - before,
    }


def train(folder: str, fields: dict[str, Any], workdir: str) -> dict[str, Any]:
    """Trains for `steps` of the config, validates once and saves, as `skinjax train` does."""
    from skinjax.train import train as train_

    start = time.perf_counter()
    train_(config(folder, fields), workdir)
    return {"seconds": time.perf_counter() - start}


def evaluate(workdir: str, resamples: int) -> dict[str, Any]:
    """Predicts validation and test, and writes the report of test, as `skinjax evaluate` does."""
    from skinjax import evaluate as evaluate_lib

    start = time.perf_counter()
    evaluate_lib.evaluate(workdir, num_resamples=resamples)
    return {"seconds": time.perf_counter() - start}


def steps(
    folder: str, fields: dict[str, Any], directory: str, count: int, warmup: int
) -> dict[str, Any]:
    """Takes `warmup + count` training steps over all devices; losses, and seconds of a step.

    The step is the one of training, with its own batches; every process of `parallel.distributed`
    calls this.
    """
    import jax

    chosen = config(folder, fields)
    parallel.initialize(chosen.parallel)
    from skinjax import phases
    from skinjax.experiment import Experiment
    from skinjax.models import pretrained

    chosen = pretrained.resolve(chosen)  # fills in what the network leaves open
    prepared = open_prepared(Path(directory))
    counts_C = np.array(prepared.counts["train"])
    experiment = Experiment.create(chosen, prepared.classes, counts_C)
    (phase,) = phases.resolve(chosen, experiment.layers, warmup + count)
    state = experiment.mapper.replicate(experiment.init_state(phase, experiment.init_variables()))
    step, key = experiment.train_step(phase), jax.random.key(0)
    batches = iter(
        pipeline.train_dataset(
            prepared.source(("train",)),
            batch_size=chosen.batch_size,
            seed=0,
            num_threads=chosen.data.num_threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
    )
    losses, taken = [], []
    for batch in itertools.islice(batches, warmup + count):
        start = time.perf_counter()
        state, outputs = step(state, experiment.mapper.shard(batch), key)
        losses.append(float(jax.device_get(outputs["loss"])))
        taken.append(time.perf_counter() - start)
    return {
        "devices": experiment.mapper.num_devices,
        "processes": jax.process_count(),
        "losses": losses,
        "first_step_seconds": taken[0],
        "step_seconds": float(np.median(taken[warmup:])),
    }


def _status(name: str) -> int:
    """Bytes, by Linux's account of this process; 0 elsewhere."""
    path = Path("/proc/self/status")
    found = re.search(rf"{name}:\s+(\d+) kB", path.read_text()) if path.exists() else None
    return int(found[1]) * 1024 if found else 0


def _anonymous() -> int:
    """Bytes of memory that no file stands behind: what this process keeps."""
    return _status("RssAnon")


def _peak() -> int:
    """Bytes at most at once, since this program began: getrusage counts who started it, too."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "draw": draw,
    "prepare": prepare,
    "read": read,
    "train": train,
    "evaluate": evaluate,
    "steps": steps,
}


def main() -> None:
    """Measures what the first argument asks for; the last line says what was found, or `error`."""
    logging.set_verbosity(logging.ERROR)
    request = json.loads(sys.argv[1])
    kind = request.pop("kind")
    before = _peak()
    times = os.times()
    try:
        found = _KINDS[kind](**request)
    except Exception as error:  # of whatever kind: the caller goes on with its next point
        first = (str(error).splitlines() or [""])[0]
        print(json.dumps({"error": f"{type(error).__name__}: {first[:200]}"}), flush=True)
        raise
    spent = os.times()
    found["cpu_seconds"] = spent.user + spent.system - times.user - times.system
    print(json.dumps({**found, "peak_bytes": _peak(), "start_bytes": before}))


if __name__ == "__main__":
    main()
