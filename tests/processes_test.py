"""Two processes on one machine, over the loopback address, against one process with two devices."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import checkpoint
from skinjax import config as config_lib
from skinjax.data import builder

# Trains, and prints what is read of each source (its length, then the indices of one batch) and
# what changes in the work directory. The second process can't write to any file, which also holds
# for what isn't written by Python; it stops itself after so many batches, where it is told to.
PROGRAM = """
import os, resource, signal, sys
from absl import logging
from skinjax.config import load_config
from skinjax.data import prepared
from skinjax.errors import StoppedError
from skinjax.train import train

logging.set_verbosity("info")
settings, workdir, address, process, stop_after = sys.argv[1:]
config = load_config(settings)
if address:
    config.parallel.update(distributed=True, coordinator_address=address, num_processes=2)
    config.parallel.process_id = int(process)
if process == "1":
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

read = prepared.Subset.load
batches = []

def noted_read(self, indices):
    indices = [int(i) for i in indices]
    os.write(1, f"read {len(self)} {' '.join(map(str, indices))}\\n".encode())
    batches.append(indices)
    if len(batches) == int(stop_after):
        os.kill(os.getpid(), signal.SIGTERM)
    return read(self, indices)

def note(event, arguments):
    kinds = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate")
    if event not in kinds or not str(arguments[0]).startswith(workdir + "/"):
        return
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    os.write(1, f"changed {event} {arguments[0]}\\n".encode())

prepared.Subset.load = noted_read
sys.addaudithook(note)
try:
    train(config, workdir)
except StoppedError as error:
    print(error, file=sys.stderr)
    sys.exit(128 + error.signum)
"""


@dataclass(frozen=True)
class Ended:
    """What a process said before it ended."""

    code: int
    lines: list[str]
    errors: str

    def batches(self, length: int) -> list[tuple[int, ...]]:
        """Indices of each batch that was read of the source of that length."""
        words = [line.split() for line in self.lines if line.startswith(f"read {length} ")]
        return [tuple(map(int, line[2:])) for line in words]

    def changes(self) -> list[str]:
        """What it did in the work directory."""
        return [line for line in self.lines if line.startswith("changed ")]


def run(config: ConfigDict, workdir: Path, *, num_processes: int, stop_after: int = 0) -> list:
    """Trains by one process of two devices, or by two of one; the last stops itself."""
    settings = workdir.with_suffix(".json")
    settings.write_text(config_lib.to_json(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}" if num_processes > 1 else ""
    flags = f"--xla_force_host_platform_device_count={2 // num_processes}"
    with contextlib.ExitStack() as stack:
        processes = []
        for process in range(num_processes):
            stops = stop_after if process == num_processes - 1 else 0
            arguments = [settings, workdir, address, process, stops]
            started = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *map(str, arguments)],
                env={**os.environ, "XLA_FLAGS": flags},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            processes.append(stack.enter_context(started))
        for started in processes:
            stack.callback(started.kill)  # the other one waits for ever where one has failed
        with ThreadPoolExecutor(num_processes) as pool:
            outputs = list(pool.map(lambda started: started.communicate(timeout=400), processes))
    return [
        Ended(started.returncode, output.splitlines(), errors)
        for started, (output, errors) in zip(processes, outputs, strict=True)
    ]


def assert_same_parameters(one: Path, other: Path) -> None:
    """Compares the latest checkpoints."""
    left, right = (
        checkpointer.restore_variables(checkpointer.choose("latest"))
        for checkpointer, _ in map(checkpoint.open_run, (one, other))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), left, right)


def assert_shares(alone: Ended, both: Sequence[Ended], length: int, least: int) -> None:
    """Each batch that one process reads whole is read by two, each its half, in that order."""
    whole = set(alone.batches(length))
    halves = [set(ended.batches(length)) for ended in both]
    found = [
        batch
        for batch in whole
        if batch[: len(batch) // 2] in halves[0] and batch[len(batch) // 2 :] in halves[1]
    ]
    assert len(found) >= least  # what was read ahead differs
    for batches in halves:
        assert {len(batch) for batch in batches} == {len(next(iter(whole))) // 2}


@pytest.fixture
def config(config: ConfigDict) -> ConfigDict:
    """On all devices, without dropout, which depends on the number of replicas."""
    config.parallel.num_devices = 0
    config.model.head = (("dense", 8), ("relu",))
    builder.prepare(config)
    return config


def test_two_processes_train_what_one_with_two_devices_does_on_half_of_each_batch(
    config: ConfigDict, tmp_path: Path
) -> None:
    (alone,) = run(config, tmp_path / "alone", num_processes=1)
    both = run(config, tmp_path / "both", num_processes=2)
    assert [ended.code for ended in (alone, *both)] == [0, 0, 0], [e.errors for e in both]
    assert_same_parameters(tmp_path / "alone", tmp_path / "both")
    counts = {name: sum(n) for name, n in builder.prepare(config).counts.items()}
    assert_shares(alone, both, counts["train"], least=config.epochs * (counts["train"] // 32))
    assert_shares(alone, both, counts["val"], least=1)
    assert {i for ended in both for batch in ended.batches(counts["val"]) for i in batch} == set(
        range(counts["val"])
    )
    assert both[0].changes()
    assert both[1].changes() == []
    assert (tmp_path / "alone" / "history.csv").read_text().count("\n") == 3
    assert (tmp_path / "both" / "history.csv").read_text().count("\n") == 3


def test_a_signal_to_one_process_stops_both_and_they_go_on(
    config: ConfigDict, tmp_path: Path
) -> None:
    config.epochs = 4
    config.data.balance = 1.0
    config.parallel.mode = "shard_map"
    (alone,) = run(config, tmp_path / "alone", num_processes=1)
    both = tmp_path / "both"
    stopped = run(config, both, num_processes=2, stop_after=1)
    assert [ended.code for ended in stopped] == [143, 143], [e.errors for e in stopped]
    checkpoints, _ = checkpoint.open_run(both)
    (step,) = [step for step in checkpoints.steps() if f"after step {step}," in stopped[0].errors]
    assert f"stopped by SIGTERM after step {step}," in stopped[1].errors
    images = sum(builder.prepare(config).counts["train"])
    assert step < config.epochs * (images // config.batch_size)
    assert_shares(alone, stopped, images, least=step)

    config.data.on_device = "on"
    resumed = run(config, both, num_processes=2)
    assert [ended.code for ended in resumed] == [0, 0], [e.errors for e in resumed]
    assert all(tuple(range(images)) in ended.batches(images) for ended in resumed)
    assert resumed[1].changes() == stopped[1].changes() == []
    assert f"going on from step {step}" in resumed[0].errors
    assert_same_parameters(tmp_path / "alone", both)
