"""From a prepared data set to a written report, and the same training in PyTorch, in turns.

    python scripts/benchmarks/end_to_end.py --work=/tmp/end_to_end --model=efficientnet_b0

Runs the verbs as a user does, each in a process of its own: `train` (with a validation and a
checkpoint each epoch), `evaluate` (of test and, for its temperature, of validation) and `report`.
The first table has the seconds of each part, imports and start included, and what of it was
compiling: with an empty compile cache, and with what that run has left ("again").

With --peer=PATH/TO/python, of an environment with torch, timm and torchvision, that many --rounds
of the training go in turns with `peer_training.py`, which says how it differs, on the same images
as JPEG files. The second table has the images of an epoch, trained and validated, in a second,
medians of the rounds: over the epochs but the first, in which both compile and warm up, and over
the whole training, for skinjax with its start and imports, for PyTorch without. Wanted are 1.2
times PyTorch on a CPU and 1.5 on a GPU, of the first of these. On a CPU the peer keeps freed memory
for itself as skinjax does; with --peer_malloc=default it is PyTorch as it comes, which is slower.

On a GPU: --data=PREPARED --epochs=30, which with 10,000 images is to take under 120 seconds with an
empty cache. How many images there are is said above the table.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import record
import run_config
from ml_collections import ConfigDict
from peer import Peer, add_malloc_flag

from skinjax import config as config_lib
from skinjax.data import builder, images, prepared, threads

_FOLDER = Path(__file__).resolve().parent
_PARTS = ("train", "evaluate", "report")
_WANTED = {True: 1.2, False: 1.5}  # on a CPU, and on a GPU


def main() -> None:
    """Prints one table, or two with --peer."""
    arguments = _arguments()
    on_cpu = record.machine()["accelerator"] == "none"  # without starting JAX, which takes it
    config = run_config.make(arguments, arguments.model, on_cpu=on_cpu)
    config.epochs = arguments.epochs
    work = Path(arguments.work)
    (work / "end_to_end_config.json").write_text(config_lib.to_json(config))
    (work / "end_to_end.py").write_text(
        "from skinjax.config import load_config\n\n\ndef get_config():\n"
        f"    return load_config({str((work / 'end_to_end_config.json').resolve())!r})\n"
    )
    shutil.rmtree(work / "compiled", ignore_errors=True)
    passes = {name: _chain(work) for name in ("empty cache", "again")[: 1 + arguments.again]}
    headers, rows = _parts_table(passes)
    about = _about(config)
    results: list[dict[str, Any]] = [{"parts": passes, **about}]
    record.write(arguments.json, "end_to_end", results)  # what there is, if the turns are cut short
    print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n", flush=True)
    if arguments.peer:
        record.report("", "end_to_end", [], headers, rows)
        results.append(_turns(arguments, config, work, on_cpu=on_cpu))
        headers, rows = _turns_table(results[-1])
    record.report(arguments.json, "end_to_end", results, headers, rows)


def _about(config: ConfigDict) -> dict[str, Any]:
    """What is trained, how, and on how many images of each split."""
    counts = prepared.open_prepared(Path(config.data.directory)).counts
    return {
        "model": config.model.name,
        "batch": config.batch_size,
        "dtype": config.model.dtype,
        "epochs": config.epochs,
        "images": {split: sum(of_class) for split, of_class in counts.items()},
    }


def _chain(work: Path) -> dict[str, dict[str, float]]:
    """Seconds of each part, and of compiling in it."""
    workdir = work / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    found = {}
    for verb in _PARTS:
        more = [f"--config={work / 'end_to_end.py'}"] if verb == "train" else []
        found[verb] = _verb(work, verb, *more, f"--workdir={workdir}")
    return found


def _verb(work: Path, verb: str, *arguments: str) -> dict[str, float]:
    """Runs a verb; `report`, which has no JAX, without `timed_verb`, which has."""
    timed = work / "timed.json"
    timed.write_text("{}")
    script = [str(_FOLDER / "timed_verb.py"), str(timed)]
    command = [sys.executable, *(["-m", "skinjax.main"] if verb == "report" else script)]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(work / "compiled")}
    began = time.perf_counter()
    done = subprocess.run(
        [*command, verb, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{verb} failed: {done.stderr.strip().splitlines()[-1:]}")
    return {"seconds": seconds, **json.loads(timed.read_text())}


def _parts_table(passes: dict[str, Any]) -> tuple[Sequence[str], list[list[object]]]:
    headers = ["seconds of", *passes, *(f"compiling, {name}" for name in passes)]
    rows: list[list[object]] = [
        [
            part,
            *(found[part]["seconds"] for found in passes.values()),
            *(found[part].get("compile_seconds") for found in passes.values()),
        ]
        for part in _PARTS
    ]
    totals = [sum(part["seconds"] for part in found.values()) for found in passes.values()]
    return headers, [*rows, ["all", *totals, *(None for _ in passes)]]


def _turns(
    arguments: argparse.Namespace, config: ConfigDict, work: Path, *, on_cpu: bool
) -> dict[str, Any]:
    """Images a second of each round, skinjax and PyTorch."""
    data = builder.prepare(config)
    num_images = _epoch_images(data, config.batch_size)
    request = {
        "folder": str(_write_files(data, work / "files")),
        "model": arguments.model,
        "classes": len(data.classes),
        "batch": config.batch_size,
        "epochs": config.epochs,
        "dtype": config.model.dtype,
        "mode": arguments.mode or ("eager" if on_cpu else "compiled"),
        "workers": arguments.workers or threads.available_cores(),
        "augment": config_lib.plain(config.augment),
    }
    rounds: dict[str, list[float]] = {"skinjax": [], "torch": [], "whole": [], "torch_whole": []}
    with Peer(arguments.peer, "peer_training.py", arguments.peer_malloc) as torch:
        for _ in range(arguments.rounds):
            workdir = work / "run"
            shutil.rmtree(workdir)
            taken = _verb(
                work, "train", f"--config={work / 'end_to_end.py'}", f"--workdir={workdir}"
            )
            with (workdir / "history.csv").open(newline="") as file:
                seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
            rounds["skinjax"].append(num_images / statistics.mean(seconds[1:] or seconds))
            rounds["whole"].append(num_images * len(seconds) / taken["seconds"])
            answer = torch.ask(**request)
            if answer["images"] != num_images:
                raise SystemExit(f"PyTorch took {answer['images']} images, skinjax {num_images}")
            mean = statistics.mean(answer["epochs"][1:] or answer["epochs"])
            rounds["torch"].append(num_images / mean)
            rounds["torch_whole"].append(num_images * len(seconds) / answer["seconds"])
        versions = torch.versions
    return {**request, "rounds": rounds, "torch": versions, "wanted": _WANTED[on_cpu]}


def _turns_table(found: dict[str, Any]) -> tuple[Sequence[str], list[list[object]]]:
    headers = ["images/s", "skinjax", f"PyTorch, {found['mode']}", "ratio", "range", "wanted"]
    rows: list[list[object]] = []
    pairs = (("epochs but the first", "skinjax", "torch"), ("whole", "whole", "torch_whole"))
    for what, ours, theirs in pairs:
        one, other = found["rounds"][ours], found["rounds"][theirs]
        ratios = [a / b for a, b in zip(one, other, strict=True)]
        between = f"{min(ratios):.2f} to {max(ratios):.2f}"
        wanted = found["wanted"] if ours == "skinjax" else None
        medians = [statistics.median(values) for values in (one, other, ratios)]
        rows.append([what, *medians, between, wanted])
    return headers, rows


def _epoch_images(data: prepared.PreparedDataset, batch_size: int) -> int:
    """Images of an epoch: full batches of training, and all of validation."""
    num = {name: sum(data.counts[name]) for name in ("train", "val")}
    return num["train"] // batch_size * batch_size + num["val"]


def _write_files(data: prepared.PreparedDataset, folder: Path) -> Path:
    """The images of training and validation as JPEG files, in place of those of an earlier run."""
    shutil.rmtree(folder, ignore_errors=True)
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        source = data.source((split,))
        for row in range(len(source)):
            example = source[row]
            path = folder / split / f"{row:06d}_{int(example['label'])}.jpg"
            path.write_bytes(images.encode_jpeg(example["image"]))
    return folder.resolve()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run_config.add_flags(parser)
    add = parser.add_argument
    add("--model", default="efficientnet_b0", help="also timm's name (default: %(default)s)")
    add("--epochs", type=int, default=3, help="(default: 3)")
    add("--again", type=int, default=1, help="1 repeats it with the cache, 0 not (default: 1)")
    add("--peer", default="", help="Python of an environment with torch, timm and torchvision")
    add_malloc_flag(parser)
    add("--rounds", type=int, default=3, help="of the turns with the peer (default: 3)")
    add("--mode", default="", help="of PyTorch; empty is eager on a CPU, compiled else")
    add("--workers", type=int, default=0, help="of the DataLoader; 0 is one a core (default: 0)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
