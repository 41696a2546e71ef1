"""Tests of the phases."""

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from skinjax import phases
from skinjax.config import default_config, phase
from skinjax.errors import InputError
from skinjax.layer_paths import Layers

STAGES = ("stem", "block1", "block2", "head")
NAMES = (
    "backbone/stem/conv",
    "backbone/block1/conv",
    "backbone/block1/bn",
    "backbone/block2/conv",
    "head/logits",
)
LAYERS = Layers(NAMES, frozenset({"backbone/block1/bn"}), STAGES)
STEM, CONV1, BN1, CONV2, HEAD = NAMES


@pytest.fixture
def gradual() -> ConfigDict:
    config = default_config()
    config.phases_from_scratch = True
    config.phases = (
        phase(("head",), epochs=1),
        phase(("head", "block2"), epochs=2, learning_rate_factor=0.5),
        phase(("*",), epochs=3, learning_rate_factor=0.1),
    )
    config.optimizer.learning_rate = 1e-2
    return config


def test_phases_are_laid_out_in_steps(gradual: ConfigDict) -> None:
    resolved = phases.resolve(gradual, LAYERS, steps_per_epoch=10)
    assert [p.num_steps for p in resolved] == [10, 20, 30]
    assert [p.trainable for p in resolved] == [(HEAD,), (CONV2, HEAD), NAMES]
    assert resolved[1].frozen == (STEM, CONV1, BN1)
    assert resolved[2].since == (2, 2, 2, 1, 0)
    assert [p.learning_rate for p in resolved] == pytest.approx([1e-2, 5e-3, 1e-3])


def test_a_length_in_steps_takes_the_place_of_epochs(gradual: ConfigDict) -> None:
    gradual.phases = (phase(("head",), steps=7), phase(("*",), epochs=2))
    assert [p.num_steps for p in phases.resolve(gradual, LAYERS, steps_per_epoch=10)] == [7, 20]
    gradual.phases = ()
    gradual.steps = 33
    assert [p.num_steps for p in phases.resolve(gradual, LAYERS, steps_per_epoch=10)] == [33]


def test_a_stage_that_is_frozen_again_starts_a_new_run(gradual: ConfigDict) -> None:
    gradual.phases = (
        phase(("head", "stem"), epochs=1),
        phase(("head",), epochs=1),
        phase(("*",), epochs=1),
    )
    resolved = phases.resolve(gradual, LAYERS, steps_per_epoch=1)
    assert dict(zip(NAMES, resolved[2].since, strict=True))[STEM] == 2
    assert dict(zip(NAMES, resolved[2].since, strict=True))[HEAD] == 0


def test_without_pretrained_weights_everything_is_trained_in_one_phase(
    gradual: ConfigDict, caplog: pytest.LogCaptureFixture
) -> None:
    gradual.phases_from_scratch = False
    gradual.epochs = 4
    with caplog.at_level("WARNING"):
        (only,) = phases.resolve(gradual, LAYERS, steps_per_epoch=10)
    assert (only.trainable, only.frozen, only.num_steps) == (NAMES, (), 40)
    assert "model.pretrained is empty" in caplog.text


def test_a_stage_that_matches_nothing_is_an_error(gradual: ConfigDict) -> None:
    gradual.phases = (phase(("blok2",), epochs=1),)
    with pytest.raises(InputError, match=r"'blok2'.*stem, block1, block2, head,.*did you mean bl"):
        phases.resolve(gradual, LAYERS, steps_per_epoch=1)


def test_split_and_merge_are_inverse(gradual: ConfigDict) -> None:
    params = {
        "backbone": {stage: {"conv": {"kernel": jnp.ones(2)}} for stage in STAGES[:-1]},
        "head": {"logits": {"kernel": jnp.zeros(3)}},
    }
    second = phases.resolve(gradual, LAYERS, steps_per_epoch=10)[1]
    trainable, frozen = phases.split_params(params, second)
    assert set(trainable) == {"backbone", "head"}
    assert set(trainable["backbone"]) == {"block2"}
    assert set(frozen["backbone"]) == {"stem", "block1"}
    assert "head" not in frozen
    assert phases.merge_params(trainable, frozen) == params


def test_the_only_phase_trains_what_the_config_says() -> None:
    config = default_config()
    config.model.pretrained = "weights.safetensors"
    config.trainable = ("head", "backbone/block1/bn")
    (only,) = phases.resolve(config, LAYERS, steps_per_epoch=3)
    assert only.trainable == (BN1, HEAD)
    assert only.frozen == (STEM, CONV1, CONV2)
    assert phases.describe_trainable(only, LAYERS) == "part of block1, head"


@pytest.mark.parametrize(
    ("setting", "trainable", "running"),
    [
        ("running", NAMES[1:], (STEM,)),
        ("batch", NAMES[1:], ()),
        ("all", (CONV1, CONV2, HEAD), (STEM, BN1)),
    ],
)
def test_batch_norm_of_frozen_layers(
    setting: str, trainable: tuple[str, ...], running: tuple[str, ...]
) -> None:
    config = default_config()
    config.model.update(pretrained="weights.safetensors", frozen_batch_norm=setting)
    config.trainable = ("block1", "block2", "head")
    (only,) = phases.resolve(config, LAYERS, steps_per_epoch=3)
    assert only.trainable == trainable
    assert phases.frozen_batch_norm(config, only) == running


def test_phases_that_freeze_nothing_are_kept_from_scratch() -> None:
    config = default_config()
    config.phases = (phase(("*",), epochs=1), phase(("*",), epochs=2, learning_rate_factor=0.1))
    assert [p.num_steps for p in phases.resolve(config, LAYERS, steps_per_epoch=5)] == [5, 10]


def test_a_phase_that_trains_nothing_is_an_error() -> None:
    config = default_config()
    config.model.update(pretrained="weights.safetensors", frozen_batch_norm="all")
    config.trainable = ("backbone/block1/bn",)
    with pytest.raises(InputError, match="phase 1 trains nothing"):
        phases.resolve(config, LAYERS, steps_per_epoch=1)
    config.trainable = ()
    with pytest.raises(InputError, match="phase 1 trains nothing"):
        phases.resolve(config, LAYERS, steps_per_epoch=1)


def test_phases_and_trainable_together_are_an_error(gradual: ConfigDict) -> None:
    gradual.trainable = ("head",)
    with pytest.raises(InputError, match="the config has phases"):
        phases.resolve(gradual, LAYERS, steps_per_epoch=1)


def test_no_batch_norm_is_held_from_scratch(caplog: pytest.LogCaptureFixture) -> None:
    config = default_config()
    config.model.frozen_batch_norm = "all"
    with caplog.at_level("WARNING"):
        (only,) = phases.resolve(config, LAYERS, steps_per_epoch=1)
    assert only.trainable == NAMES
    assert "model.pretrained is empty" in caplog.text
