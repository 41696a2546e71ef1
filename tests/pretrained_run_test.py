"""A run that starts from published weights: what it takes from them, and how it goes on."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from skinjax import checkpoint, models
from skinjax import config as config_lib
from skinjax.config import phase
from skinjax.errors import InputError
from skinjax.models import resnet
from skinjax.train import train

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@pytest.fixture
def transfer(config: ConfigDict, tmp_path: Path) -> ConfigDict:
    """A narrow ResNet-18 in timm's layout, and a run of two phases from it."""
    config.model.update(name="resnet18", width=4, head=())
    config.normalize.update(mean=(), std=())
    config.phases = (phase(("head",), epochs=1), phase(("head", "layer4"), epochs=1))
    config.model.pretrained = str(tmp_path / "weights")
    model = models.create(config.model, num_classes=5, axis_name=None)
    images = np.zeros((1, 32, 32, 3), np.float32)
    variables = jax.jit(lambda: model.init(jax.random.key(9), images, train=False))()
    tensors: dict[str, Any] = {"fc.weight": np.ones((5, 32), np.float32), "fc.bias": np.ones(5)}
    for collection in ("params", "batch_stats"):
        for path, leaf in traverse_util.flatten_dict(variables[collection]["backbone"]).items():
            array = np.asarray(leaf) + 0.01
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
            name = resnet.timm_name("/".join(path[:-1]))
            tensors[f"{name}.{_LEAVES.get(path[-1], path[-1])}"] = np.ascontiguousarray(array)
    (tmp_path / "weights").mkdir()
    save_file(tensors, tmp_path / "weights" / "model.safetensors")
    described = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "input_size": [3, 64, 64]}
    (tmp_path / "weights" / "config.json").write_text(
        json.dumps({"architecture": "resnet18", "pretrained_cfg": described})
    )
    return config


def test_training_starts_from_the_published_weights_and_goes_on_without_them(
    transfer: ConfigDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        train(transfer, tmp_path / "run")
    assert "not used: fc.bias, fc.weight" in caplog.text
    assert "phase 1 of 2: training head" in caplog.text
    assert re.search(r"layer3 +[\d,]+ +[\d,]+ +frozen\n", caplog.text)
    with contextlib.closing(checkpoint.open_run(tmp_path / "run")[0]) as run:
        variables = run.restore_variables(run.choose("latest"))
        stored = config_lib.from_json(run.describe(run.choose("latest")).config, origin="it")
    assert stored.normalize.mean == (0.5, 0.4, 0.3)
    assert stored.model.variant == "timm"
    # What no phase trained is the file's, statistics too; what one trained is not.
    model = models.create(transfer.model, num_classes=5, axis_name=None)
    images = np.zeros((1, 32, 32, 3), np.float32)
    drawn = jax.jit(lambda: model.init(jax.random.key(9), images, train=False))()
    for stage, same in (("stem", True), ("layer3", True), ("layer4", False)):
        got = jax.tree.leaves(variables["params"]["backbone"][stage])
        want = jax.tree.leaves(drawn["params"]["backbone"][stage])
        equal = [np.allclose(a, b + 0.01, atol=1e-6) for a, b in zip(got, want, strict=True)]
        assert all(equal) == same

    # The same command again needs the weights no more.
    (tmp_path / "weights" / "model.safetensors").unlink()
    (tmp_path / "weights" / "config.json").unlink()
    assert train(transfer, tmp_path / "run")["step"] > 0
    with pytest.raises(InputError, match="is a folder without"):
        train(transfer, tmp_path / "another")


def test_a_run_killed_in_its_first_save_starts_from_the_weights_again(
    transfer: ConfigDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transfer.phases = ()
    transfer.trainable = ("head",)
    transfer.epochs = 1
    train(transfer, tmp_path / "run")
    (saved,) = (tmp_path / "run" / "checkpoints").glob("[0-9]*")
    saved.rename(saved.with_name(f"{saved.name}.orbax-checkpoint-tmp"))
    caplog.clear()
    with caplog.at_level("INFO"):
        train(transfer, tmp_path / "run")
    assert "fills the backbone with 100 tensors" in caplog.text
    origin = json.loads((tmp_path / "run" / "pretrained.json").read_text())
    assert origin == {"origin": transfer.model.pretrained, "unused": ["fc.bias", "fc.weight"]}


def test_a_normalisation_of_the_config_wins_with_a_warning(
    transfer: ConfigDict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transfer.phases = ()
    transfer.epochs = 1
    transfer.model.variant = "timm"
    transfer.normalize.update(mean=(0.1, 0.1, 0.1), std=(1.0, 1.0, 1.0))
    with caplog.at_level("WARNING"):
        train(transfer, tmp_path / "run")
    assert caplog.text.count("config.normalize has mean (0.1, 0.1, 0.1)") == 1
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["normalize"]["mean"] == [0.1, 0.1, 0.1]
