"""Tests of the phases."""

import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from skinjax import phases
from skinjax.config import default_config, phase
from skinjax.errors import InputError

STAGES = ("stem", "block1", "block2", "head")


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
    resolved = phases.resolve(gradual, STAGES, steps_per_epoch=10)
    assert [p.first_step for p in resolved] == [0, 10, 30]
    assert [p.end_step for p in resolved] == [10, 30, 60]
    assert [p.trainable for p in resolved] == [("head",), ("block2", "head"), STAGES]
    assert resolved[1].frozen == ("stem", "block1")
    assert resolved[2].since == (2, 2, 1, 0)
    assert [p.learning_rate for p in resolved] == pytest.approx([1e-2, 5e-3, 1e-3])


def test_a_stage_that_is_frozen_again_starts_a_new_run(gradual: ConfigDict) -> None:
    gradual.phases = (
        phase(("head", "stem"), epochs=1),
        phase(("head",), epochs=1),
        phase(("*",), epochs=1),
    )
    resolved = phases.resolve(gradual, STAGES, steps_per_epoch=1)
    assert dict(zip(STAGES, resolved[2].since, strict=True))["stem"] == 2
    assert dict(zip(STAGES, resolved[2].since, strict=True))["head"] == 0


def test_without_pretrained_weights_everything_is_trained_in_one_phase(
    gradual: ConfigDict, caplog: pytest.LogCaptureFixture
) -> None:
    gradual.phases_from_scratch = False
    gradual.epochs = 4
    with caplog.at_level("WARNING"):
        (only,) = phases.resolve(gradual, STAGES, steps_per_epoch=10)
    assert (only.trainable, only.frozen, only.num_steps) == (STAGES, (), 40)
    assert "model.pretrained is empty" in caplog.text


def test_a_stage_that_matches_nothing_is_an_error(gradual: ConfigDict) -> None:
    gradual.phases = (phase(("blok2",), epochs=1),)
    with pytest.raises(InputError, match=r"'blok2'.*stem, block1, block2, head; did you mean bl"):
        phases.resolve(gradual, STAGES, steps_per_epoch=1)


def test_split_and_merge_are_inverse(gradual: ConfigDict) -> None:
    params = {
        "backbone": {stage: {"conv": {"kernel": jnp.ones(2)}} for stage in STAGES[:-1]},
        "head": {"kernel": jnp.zeros(3)},
    }
    second = phases.resolve(gradual, STAGES, steps_per_epoch=10)[1]
    trainable, frozen = phases.split_params(params, second)
    assert set(trainable) == {"backbone", "head"}
    assert set(trainable["backbone"]) == {"block2"}
    assert set(frozen["backbone"]) == {"stem", "block1"}
    assert "head" not in frozen
    assert phases.merge_params(trainable, frozen) == params
