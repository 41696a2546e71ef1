"""Tests of mapping over devices."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import lax

from skinjax import parallel
from skinjax.errors import InputError


def step(state: jax.Array, batch: dict[str, jax.Array], offset: jax.Array) -> tuple:
    total = lax.psum(batch["x"].sum(), parallel.AXIS)
    place = lax.all_gather(
        batch["x"] * 0 + lax.axis_index(parallel.AXIS), parallel.AXIS, tiled=True
    )
    return state + total + offset, place


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
@pytest.mark.parametrize("devices", [1, 8])
def test_a_step_sees_its_share_and_gives_one_result(mode: str, devices: int) -> None:
    mapper = parallel.Mapper(mode, jax.devices()[:devices])
    mapped = mapper.map(step, num_args=3)
    batch = {"x": np.arange(16, dtype=np.float32)}
    state, place = mapped(mapper.replicate(np.float32(1)), mapper.shard(batch), np.float32(0.5))
    assert float(state) == 1 + 120 + 0.5
    np.testing.assert_array_equal(place, np.repeat(np.arange(devices), 16 // devices))


@pytest.mark.parametrize("mode", ["pmap", "shard_map"])
def test_donating_the_replicas_spares_the_original(mode: str) -> None:
    mapper = parallel.Mapper(mode, jax.devices()[:1])
    mapped = mapper.map(step, num_args=3, donate_state=True)
    original = jax.numpy.ones((64, 64))
    batch = {"x": np.ones(4, np.float32)}
    replica = mapper.replicate(original)
    mapped(replica, mapper.shard(batch), np.float32(0))
    assert replica.is_deleted()
    assert float(original.sum()) == 64 * 64


@pytest.mark.parametrize(
    ("batch_size", "devices", "nearest"), [(30, 8, 32), (3, 8, 8), (10, 4, 8), (7, 2, 8)]
)
def test_a_batch_size_that_does_not_divide_names_the_nearest(
    batch_size: int, devices: int, nearest: int
) -> None:
    with pytest.raises(InputError, match=f"config.batch_size is {batch_size}.*size is {nearest}$"):
        parallel.check_batch_size(batch_size, devices)
    parallel.check_batch_size(nearest, devices)


def test_more_devices_than_there_are_is_an_error() -> None:
    assert len(parallel.select_devices(0)) == 8
    assert len(parallel.select_devices(3)) == 3
    with pytest.raises(InputError, match="num_devices is 9; there are 8 cpu devices"):
        parallel.select_devices(9)


def test_a_cpu_can_be_made_into_devices() -> None:
    program = (
        "import jax; from skinjax import parallel; from skinjax.config import default_config;"
        "settings = default_config().parallel; settings.cpu_devices = 3;"
        "parallel.initialize(settings); print(jax.device_count())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    printed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "3"
