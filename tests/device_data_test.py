"""Tests of images that stay on the devices: what is trained on them is the host pipeline's."""

import csv
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import checkpoint, device_data, parallel, phases
from skinjax.data import builder, metadata, pipeline
from skinjax.device_data import DeviceData
from skinjax.errors import InputError, OutOfMemoryError, StoppedError
from skinjax.experiment import Experiment, memory_estimate
from skinjax.stopping import StopRequest
from skinjax.train import train


def assert_same_batch(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize(("mode", "devices"), [("pmap", 1), ("pmap", 8), ("shard_map", 8)])
def test_batches_are_those_of_the_host_pipeline(
    config: ConfigDict, monkeypatch: pytest.MonkeyPatch, mode: str, devices: int
) -> None:
    """With metadata and balanced, from some place on, in chunks that leave a remainder."""
    monkeypatch.setattr(device_data, "_CHUNK_BYTES", 20 * 16 * 16 * 3)
    prepared = builder.prepare(config)
    config.metadata.features = ("age", "sex")
    encoder = metadata.fit(config.metadata, prepared.table("train"))
    source = prepared.source(("train",), encoder=encoder)
    assert len(source) % 20
    mapper = parallel.Mapper(mode, jax.devices()[:devices])
    data = DeviceData(mapper, source, num_threads=2)
    settings = {"batch_size": 24, "seed": 3, "balance": 0.5}
    on_devices = iter(data.train_batches(**settings))
    label_N = prepared.labels(("train",))
    on_host = iter(pipeline.train_dataset(source, label_N=label_N, num_threads=1, **settings))
    next(on_host)
    on_devices.set_state(on_host.get_state())
    for _ in range(6):
        assert_same_batch(data.put(next(on_devices)), mapper.shard(next(on_host)))
    assert on_devices.get_state() == on_host.get_state()
    for one, other in zip(
        data.eval_batches(24),
        pipeline.eval_dataset(source, batch_size=24, num_threads=1),
        strict=True,
    ):
        assert_same_batch(one, mapper.shard(other))


def test_a_run_goes_on_from_one_to_the_other_bit_for_bit(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config, tmp_path / "host")
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "is_made", lambda self, step: step == 2)
        with pytest.raises(StoppedError):
            train(config, tmp_path / "both")
    config.data.on_device = "on"
    train(config, tmp_path / "both")
    runs = []
    for name in ("host", "both"):
        checkpointer, _ = checkpoint.open_run(tmp_path / name)
        with (tmp_path / name / "history.csv").open(newline="") as file:
            losses = [row["val_loss"] for row in csv.DictReader(file)]
        runs.append((checkpointer.restore_variables(checkpointer.choose("latest")), losses))
    jax.tree.map(np.testing.assert_array_equal, *runs)


@pytest.mark.parametrize(
    ("setting", "free", "expected"),
    [("auto", None, False), ("auto", 1 << 40, True), ("auto", 193 << 20, False),
     ("auto", 200 << 20, True), ("on", None, True), ("off", 1 << 40, False)],
)  # fmt: skip
def test_auto_is_where_there_is_room(
    config: ConfigDict,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    free: int | None,
    expected: bool,
) -> None:
    config.data.on_device = setting
    experiment = Experiment.create(config, tuple("abcdefg"), np.ones(7))
    monkeypatch.setattr(parallel.Mapper, "free_memory", lambda self: free)
    resolved = phases.resolve(config, experiment.layers, 3)
    assert device_data.is_wanted(experiment, resolved, 100) is expected


def test_on_without_room_names_both_sizes(
    config: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.data.on_device = "on"
    experiment = Experiment.create(config, tuple("abcdefg"), np.ones(7))
    monkeypatch.setattr(parallel.Mapper, "free_memory", lambda self: 1 << 30)
    with pytest.raises(InputError, match=r"3000000 images take 2\.3 GiB .* has 1\.0 free"):
        device_data.is_wanted(experiment, (), 3_000_000)


def test_all_processes_decide_the_same(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    """This one has room, another one hasn't."""
    experiment = Experiment.create(config, tuple("abcdefg"), np.ones(7))
    resolved = phases.resolve(config, experiment.layers, 3)
    monkeypatch.setattr(parallel.Mapper, "free_memory", lambda self: 1 << 40)
    monkeypatch.setattr(parallel, "any_process", lambda flag: True)
    config.data.on_device = "auto"
    assert not device_data.is_wanted(experiment, resolved, 100)
    config.data.on_device = "on"
    with pytest.raises(InputError, match="which one of another process lacks; set it to auto"):
        device_data.is_wanted(experiment, resolved, 100)


def test_no_process_decides_alone(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is unknown, too: the others would wait for ever."""
    asked: list[bool] = []
    experiment = Experiment.create(config, tuple("abcdefg"), np.ones(7))
    monkeypatch.setattr(parallel, "any_process", lambda flag: asked.append(flag) or flag)
    for setting in ("auto", "on"):
        config.data.on_device = setting
        device_data.is_wanted(experiment, (), 100)
    assert asked == [True, False]


def test_the_estimate_counts_the_whole_batch_s_images(config: ConfigDict) -> None:
    """Which are augmented before the batch is parted."""
    activations = []
    for batch_size, parts in ((32, 4), (64, 8)):
        config.batch_size, config.optimizer.accumulate = batch_size, parts
        experiment = Experiment.create(config, tuple("abcdefg"), np.ones(7))
        (phase,) = phases.resolve(config, experiment.layers, 3)
        activations.append(memory_estimate(experiment, phase)["activations"])
    assert activations[1] - activations[0] == 2 * 32 * config.data.image_size**2 * 3 * 4


def test_no_memory_for_the_images_is_said_in_one_line(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: parallel.Mapper, shape: Any, dtype: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: trying to allocate 9.31GiB.")

    monkeypatch.setattr(parallel.Mapper, "filled", fails)
    config.data.on_device = "on"
    with pytest.raises(OutOfMemoryError, match=r"9\.31GiB.*don't fit: .*data\.on_device=off"):
        train(config, tmp_path / "run")
