"""What a larger data set, larger images, more classes, devices and processes cost.

    python scripts/benchmarks/scaling.py --work=/tmp/scaling

Every figure is of a fresh process (`scaling_point.py`), so that its peak memory is this work's own;
all of them compute on the CPU, since it is the host's memory and files that grow. A point that
fails is a line that says so, and the others go on. Sections, any of which `--sections` chooses:

- records, size, classes: JPEGs are drawn, and then prepared (`skinjax prepare`: read, verified,
  hashed, grouped, split, written), opened and read as training does (the seconds of opening and of
  the first batch, images/s), trained on for a few steps with one validation (`skinjax train`), and
  evaluated (`skinjax evaluate`: predictions of validation and test, intervals, plots).
- devices: the CPU made into so many. That the losses of the steps are those of one device, within
  rounding, and what the mapping costs: as many cores as before do the same work.
- processes: the same by `jax.distributed` over 127.0.0.1, with one device each.

The network is a small one (`simple_cnn`), so that what is measured is not the network. The growth
in memory per record is the difference of the peaks over that of the records, from the second point
on, where there are three: on the first one the libraries are what there is.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import record

KINDS = ("prepare", "read", "train", "evaluate")
SECTIONS = ("records", "size", "classes", "devices", "processes")
_POINT = Path(__file__).with_name("scaling_point.py")
_MIB = 1 << 20
_HEADERS: Sequence[str] = (
    *("records", "px", "classes", "prepare s", "prepare MiB", "open s", "first batch s"),
    *("images/s", "read MiB", "train s", "train MiB", "evaluate s", "evaluate MiB"),
)
_MAPPED: Sequence[str] = (
    *("devices", "processes", "images/s", "ms a step"),
    *("times one", "lowest", "highest", "loss off", "MiB each"),
)


def main() -> None:
    """Prints a table for each section."""
    arguments = _arguments()
    results: list[dict[str, Any]] = []
    for section in arguments.sections:
        print(f"\n{section}", flush=True)
        if section in ("devices", "processes"):
            found = list(_mapped(section, arguments))
            headers, rows = _MAPPED, [_mapped_row(one, found[0]) for one in found]
        else:
            found = list(_sized(section, arguments))
            headers, rows = _HEADERS, [_sized_row(one) for one in found]
            print(_growth(found))
        results += [{"section": section, **one} for one in found]
        if section != arguments.sections[-1]:
            print(record.table(headers, rows), flush=True)
    record.report(arguments.json, "scaling", results, headers, rows)


def _arguments() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder for what is drawn, 4 GB at 400,000")
    add("--sections", default=",".join(SECTIONS), help="default: %(default)s")
    add("--records", type=numbers, default=[1000, 10_000, 100_000, 400_000], help="by comma")
    add("--record-size", type=int, default=32, help="px of `records`' and `classes`' images (32)")
    add("--sizes", type=numbers, default=[32, 64, 128, 224, 448], help="px, by comma")
    add("--size-records", type=int, default=1000, help="images of each size (1000)")
    add("--classes", type=numbers, default=[2, 7, 50, 200], help="by comma")
    add("--class-records", type=int, default=10_000, help="images for each number (10000)")
    add("--devices", type=numbers, default=[1, 2, 4, 8], help="by comma, 1 first")
    add("--processes", type=numbers, default=[1, 2, 4], help="by comma, 1 first")
    add("--until", choices=KINDS, default=KINDS[-1], help="last measurement of a data set")
    add("--rounds", type=int, default=3, help="of devices and of processes, in turns (3)")
    add("--batch-size", type=int, default=64, help="global (64)")
    add("--steps", type=int, default=20, help="that are trained (20)")
    add("--seconds", type=float, default=5.0, help="that batches are read for (5)")
    add("--resamples", type=int, default=200, help="of the bootstrap (200)")
    add("--encoding", default="raw", help="of the shards: raw, png or jpeg (raw)")
    add("--metadata", action="store_true", help="read what is known of the patients, too")
    add("--timeout", type=float, default=3600.0, help="seconds of one process (3600)")
    add("--json", default="", help="file to write")
    arguments = parser.parse_args()
    arguments.sections = arguments.sections.split(",")
    wrong = set(arguments.sections) - set(SECTIONS)
    if wrong:
        parser.error(f"--sections has {', '.join(wrong)}: expected some of {', '.join(SECTIONS)}")
    return arguments


def _sized(section: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A point for each number of records, size or number of classes."""
    for number in {
        "records": arguments.records,
        "size": arguments.sizes,
        "classes": arguments.classes,
    }[section]:
        records, size, classes = {
            "records": (number, arguments.record_size, 7),
            "size": (arguments.size_records, number, 7),
            "classes": (arguments.class_records, arguments.record_size, number),
        }[section]
        with _folder(arguments.work / f"{section}-{number}") as folder:
            yield {
                "records": records, "size": size, "classes": classes,
                **_chain(folder, records, size, classes, arguments),
            }  # fmt: skip


def _chain(
    folder: Path, records: int, size: int, classes: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """All measurements of one data set, one after the other; one that fails is the last."""
    given = {"folder": str(folder), "fields": _fields(size, arguments)}
    found: dict[str, Any] = {}
    drawn = {"folder": str(folder), "records": records, "size": size, "classes": classes}
    workdir = str(folder / "run")
    asked: dict[str, Callable[[], dict[str, Any]]] = {
        "draw": lambda: drawn,
        "prepare": lambda: given,
        "read": lambda: {
            **given, "directory": found["prepare"]["directory"], "seconds": arguments.seconds,
            "metadata": arguments.metadata,
        },
        "train": lambda: {**given, "workdir": workdir},
        "evaluate": lambda: {"workdir": workdir, "resamples": arguments.resamples},
    }  # fmt: skip
    for kind, request in asked.items():
        found[kind] = _ask(kind, request(), arguments.timeout)
        if "error" in found[kind] or kind == arguments.until:
            break
    return found


def _fields(size: int, arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "data.image_size": size,
        "data.encoding": arguments.encoding,
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "evaluate.batch_size": 256,
    }


def _mapped(section: str, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A point for each number of devices or processes, in turns, all on one small data set."""
    numbers = getattr(arguments, section)
    rounds: dict[int, list[dict[str, Any]]] = {number: [] for number in numbers}
    with _folder(arguments.work / section) as folder:
        drawn = {"folder": str(folder), "records": 20 * arguments.batch_size}
        _ask("draw", {**drawn, "size": 64, "classes": 7}, arguments.timeout)
        given: dict[str, Any] = {"folder": str(folder), "fields": _fields(64, arguments)}
        prepared = _ask("prepare", given, arguments.timeout)
        for number in numbers * arguments.rounds:
            found = prepared
            if "error" not in prepared:
                devices = number if section == "devices" else 1
                request = {
                    **given, "directory": prepared["directory"], "count": arguments.steps,
                    "warmup": 3, "fields": given["fields"] | {"parallel.cpu_devices": devices},
                }  # fmt: skip
                processes = number if section == "processes" else 1
                found = _ask("steps", request, arguments.timeout, processes)
            rounds[number].append(found)
    for number, found_R in rounds.items():
        yield {section: number, "batch_size": arguments.batch_size, "rounds": found_R}


def _ask(kind: str, request: dict[str, Any], timeout: float, processes: int = 1) -> dict[str, Any]:
    """What `scaling_point.py` finds, by the first of so many processes; `error` where it fails."""
    print(f"  {kind} ...", end="", flush=True)
    with contextlib.ExitStack() as stack, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        started = []
        for process in range(processes):
            asked = {**request, "kind": kind}
            if processes > 1:
                asked["fields"] = request["fields"] | {
                    "parallel.distributed": True,
                    "parallel.coordinator_address": address,
                    "parallel.num_processes": processes,
                    "parallel.process_id": process,
                }
            child = subprocess.Popen(
                [sys.executable, str(_POINT), json.dumps(asked)],
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            started.append(stack.enter_context(child))
            stack.callback(child.kill)  # the others wait for ever where one has failed
        try:
            output, errors = started[0].communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"{kind}: not done in {timeout:g} s"}
        code = started[0].returncode
    lines = output.strip().splitlines()
    if code == 0 or (lines and '"error"' in lines[-1]):
        found = json.loads(lines[-1])
    else:  # killed, say for memory
        found = {"error": f"ended with {code}: {' '.join(errors.splitlines()[-1:])[:200]}"}
    if "error" in found:
        found["error"] = f"{kind}: {found['error']}"
    print(found.get("error") or f" {found['peak_bytes'] / _MIB:.0f} MiB", flush=True)
    return found


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _sized_row(one: dict[str, Any]) -> list[object]:
    """A line; what failed stands where its first figure would."""
    row: list[object] = [one[name] for name in ("records", "size", "classes")]
    for kind, columns in (
        ("prepare", {"seconds": 1, "peak_bytes": _MIB}),
        (
            "read",
            {"open_seconds": 1, "first_batch_seconds": 1, "images_per_second": 1,
             "peak_bytes": _MIB},
        ),
        ("train", {"seconds": 1, "peak_bytes": _MIB}),
        ("evaluate", {"seconds": 1, "peak_bytes": _MIB}),
    ):  # fmt: skip
        found = one.get(kind, {})
        cells: list[object] = [
            found[name] / unit if name in found else None for name, unit in columns.items()
        ]
        row += [found["error"], *cells[1:]] if "error" in found else cells
    return row


def _growth(found: Sequence[dict[str, Any]]) -> str:
    """Bytes of peak memory per record, between two points; '' where there are no two."""
    growth = []
    for kind in KINDS:
        whole = [one for one in found if "peak_bytes" in one.get(kind, {})]
        whole = whole[1:] if len(whole) > 2 else whole
        more = whole[-1]["records"] - whole[0]["records"] if whole else 0
        if more:
            bytes_more = whole[-1][kind]["peak_bytes"] - whole[0][kind]["peak_bytes"]
            between = f"{whole[0]['records']} to {whole[-1]['records']}"
            growth.append(f"{kind} {bytes_more / more:.0f} ({between})")
    return f"bytes of peak memory for each record more: {', '.join(growth)}" if growth else ""


def _mapped_row(one: dict[str, Any], first: dict[str, Any]) -> list[object]:
    """A line: medians of the rounds, and the seconds and losses against the first point's."""
    pairs = [
        pair
        for pair in zip(one["rounds"], first["rounds"], strict=True)
        if all("error" not in found for found in pair)
    ]
    if not pairs:
        errors = [found["error"] for found in one["rounds"] if "error" in found]
        return [one.get("devices"), one.get("processes"), *errors[:1]]
    seconds = statistics.median(found["step_seconds"] for found, _ in pairs)
    ratio_R = [found["step_seconds"] / base["step_seconds"] for found, base in pairs]
    off = max(
        abs(mine / theirs - 1)
        for found, base in pairs
        for mine, theirs in zip(found["losses"], base["losses"], strict=True)
    )
    peak = max(found["peak_bytes"] for found, _ in pairs)
    return [
        *(pairs[0][0]["devices"], pairs[0][0]["processes"], one["batch_size"] / seconds),
        *(seconds * 1000, statistics.median(ratio_R), min(ratio_R), max(ratio_R), off),
        peak / _MIB,
    ]


if __name__ == "__main__":
    main()
