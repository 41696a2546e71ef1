"""Time and memory of the bootstrap intervals of all metrics.

    python scripts/benchmarks/bootstrap.py

Draws predictions of --examples images (most lesions have one image alone) and times the intervals
of every metric over --resamples resamples, in --rounds turns with the metrics of the table alone.
Prints for each the best and the median wall time and the processor's, and the peak of resident
memory above what the process had before. Needs Linux, for /proc.

On 2 cores that others kept busy (load 17), in one thread: all metrics and intervals
of 10,000 examples of 8 classes over 2,000 resamples (and 64 of each class alone) take 3.3 s of
processor time and 35 MiB; the metrics alone 0.02 s. Wall time there was 48 s, as only a fifteenth
of a core was to be had; on free cores it is the processor's.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import record

from skinjax import metrics


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--examples", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--classes", type=int, default=8, help="default: 8")
    parser.add_argument("--resamples", type=int, default=2000, help="default: 2000")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--json", default="", help="file for the results")
    arguments = parser.parse_args()
    probability_NC, label_N, lesion_N = _table(arguments.examples, arguments.classes)
    classes = [str(index) for index in range(arguments.classes)]
    contestants: dict[str, Callable[[], object]] = {
        "metrics of the table": lambda: metrics.compute(probability_NC, label_N, classes),
        "intervals of all metrics": lambda: metrics.bootstrap.intervals(
            probability_NC, label_N, classes, lesion_N, num_resamples=arguments.resamples
        ),
    }
    before = _peak_bytes()
    wall: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(arguments.rounds):
        for name, call in contestants.items():
            begun = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - begun[0])
            processor[name].append(time.process_time() - begun[1])
    print(
        f"{arguments.examples} examples, {arguments.classes} classes, {arguments.resamples}"
        f" resamples; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores;"
        f" {(_peak_bytes() - before) / 2**20:.0f} MiB above what the process had"
    )
    results = [
        {
            "what": name,
            "best_s": min(wall[name]),
            "median_s": statistics.median(wall[name]),
            "processor_s": min(processor[name]),
        }
        for name in contestants
    ]
    headers = ("what", "best s", "median s", "processor s")
    record.report(
        arguments.json, "bootstrap", results, headers, [tuple(one.values()) for one in results]
    )


def _table(num_examples: int, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, labels of unequal classes, lesions of one class each."""
    rng = np.random.default_rng(0)
    share_C = 2.0 ** -np.arange(num_classes)
    label_N = rng.choice(num_classes, size=num_examples, p=share_C / share_C.sum())
    logits_NC = rng.normal(size=(num_examples, num_classes)) + 2 * np.eye(num_classes)[label_N]
    probability_NC = np.exp(logits_NC)
    lesion_N = label_N * num_examples + rng.integers(num_examples, size=num_examples)
    return probability_NC / probability_NC.sum(axis=1, keepdims=True), label_N, lesion_N


def _peak_bytes() -> int:
    """The highest resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    main()
