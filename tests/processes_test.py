"""Two processes on one machine, over the loopback address, against one process with two devices."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import checkpoint
from skinjax import config as config_lib

PROGRAM = """
import sys
from skinjax.config import load_config
from skinjax.train import train
config = load_config(sys.argv[1])
if len(sys.argv) > 3:
    config.parallel.update(distributed=True, coordinator_address=sys.argv[3], num_processes=2)
    config.parallel.process_id = int(sys.argv[4])
train(config, sys.argv[2])
"""


def run(devices: int, *commands: list[object]) -> None:
    """Runs the program once for each list of arguments, all at the same time."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, *map(str, arguments)],
                    env={**os.environ, "XLA_FLAGS": flags},
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for arguments in commands
        ]
        for process in processes:
            stack.callback(process.kill)  # the other one waits for ever where one has failed
        for process in processes:
            _, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_two_processes_train_what_one_with_two_devices_does(
    config: ConfigDict, tmp_path: Path, mode: str
) -> None:
    config.parallel.update(mode=mode, num_devices=0)
    config.model.head = (("dense", 8), ("relu",))  # dropout depends on the number of replicas
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = tmp_path / "config.json"
    run(2, [settings, tmp_path / "alone"])
    run(1, *([settings, tmp_path / "both", address, index] for index in (0, 1)))
    one, two = (
        checkpointer.restore_variables(checkpointer.choose("latest"))
        for checkpointer, _ in map(checkpoint.open_run, (tmp_path / "alone", tmp_path / "both"))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, two)
    assert (tmp_path / "alone" / "history.csv").read_text().count("\n") == 3
    assert (tmp_path / "both" / "history.csv").read_text().count("\n") == 3
