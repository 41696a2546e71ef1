"""Tests of checkpoints."""

import dataclasses
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax import parallel, phases
from skinjax.checkpoint import Checkpointer, Description, open_run
from skinjax.checkpoint_contents import digest
from skinjax.config import phase
from skinjax.errors import InputError
from skinjax.experiment import Experiment


def describe(step: int, **metrics: float) -> Description:
    return Description(
        step=step,
        epoch=step / 10,
        phase=0,
        metrics=metrics,
        classes=("a", "b", "c"),
        config=config_lib.to_json(config_lib.default_config()),
        fingerprint="f",
    )


@pytest.fixture
def experiment(config: ConfigDict, tiny_classifier: Any) -> Experiment:
    config.phases_from_scratch = True
    config.phases = (phase(("head",), epochs=1), phase(("block1", "head"), epochs=1))
    config.model.dtype = "float16"  # the loss scale is saved too
    return Experiment(
        config,
        ("a", "b", "c"),
        np.ones(3, np.float32),
        tiny_classifier(num_classes=3),
        parallel.Mapper("pmap", jax.devices()[:1]),
    )


def state_of(experiment: Experiment, index: int, variables: Any = None) -> Any:
    resolved = phases.resolve(experiment.config, experiment.layers, steps_per_epoch=5)
    state = experiment.init_state(resolved[index], variables or experiment.init_variables())
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(3, leaf.dtype), state)


def template_of(experiment: Experiment, index: int) -> Any:
    """Shapes and dtypes of `state_of`."""
    shapes = experiment.variable_shapes()
    return jax.eval_shape(lambda variables: state_of(experiment, index, variables), shapes)


@pytest.fixture
def checkpointer(tmp_path: Path) -> Any:
    opened = Checkpointer(tmp_path / "checkpoints", metric="accuracy")
    yield opened
    opened.close()


def test_a_state_comes_back_bit_for_bit(experiment: Experiment, checkpointer: Checkpointer) -> None:
    state = state_of(experiment, 1)
    checkpointer.save(state, {"next": 7}, describe(3, accuracy=0.5))
    checkpointer.wait()
    template = template_of(experiment, 1)
    restored, data_state = checkpointer.restore(3, template)
    assert data_state == {"next": 7}
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(state))
    assert restored.loss_scale.growth_interval == state.loss_scale.growth_interval
    variables = checkpointer.restore_variables(3)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], jax.device_get(state.params))
    assert checkpointer.describe(3) == describe(3, accuracy=0.5)


def test_a_state_of_another_phase_is_refused(
    experiment: Experiment, checkpointer: Checkpointer
) -> None:
    checkpointer.save(state_of(experiment, 0), {}, describe(1))
    checkpointer.wait()
    template = template_of(experiment, 1)
    with pytest.raises(ValueError):  # noqa: PT011  Orbax's words, or ours
        checkpointer.restore(1, template)


def test_the_latest_and_the_best_are_kept_and_chosen(
    experiment: Experiment, checkpointer: Checkpointer
) -> None:
    state = state_of(experiment, 0)
    for step, accuracy in ((1, 0.1), (2, 0.9), (3, 0.3), (4, 0.2)):
        checkpointer.save(state, {}, describe(step, accuracy=accuracy))
    checkpointer.save(state, {}, describe(5))
    checkpointer.wait()
    assert checkpointer.steps() == [2, 4, 5]
    assert checkpointer.choose("best") == 2
    assert checkpointer.choose("latest") == 5
    assert checkpointer.choose("4") == 4
    assert checkpointer.listing() == [
        "step 2, epoch 0.20, accuracy 0.9000",
        "step 4, epoch 0.40, accuracy 0.2000",
        "step 5, epoch 0.50, not evaluated",
    ]
    with pytest.raises(InputError, match=r"--checkpoint=3 is none of best.*step 4, epoch 0.40"):
        checkpointer.choose("3")


def test_the_best_is_still_known_after_a_restart(experiment: Experiment, tmp_path: Path) -> None:
    state = state_of(experiment, 0)
    for steps in ((1, 2, 3), (4, 5, 6)):
        opened = Checkpointer(tmp_path / "checkpoints", metric="accuracy")
        for step in steps:
            opened.save(state, {}, describe(step, accuracy=0.9 if step == 2 else 0.5))
            opened.wait()
        opened.close()
    kept = Checkpointer(tmp_path / "checkpoints", metric="accuracy", read_only=True)
    assert (kept.steps(), kept.choose("best")) == ([2, 5, 6], 2)
    kept.close()


def test_averages_and_raw_parameters_both_come_back(
    experiment: Experiment, checkpointer: Checkpointer
) -> None:
    state = state_of(experiment, 0)
    ema = jax.tree.map(lambda leaf: leaf + 1, state.variables)
    state = state.replace(ema=ema)
    checkpointer.save(state, {}, describe(1, accuracy=0.5))
    checkpointer.wait()
    restored, _ = checkpointer.restore(1, jax.eval_shape(lambda: state))
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(state))
    # What is evaluated and used are the averages.
    jax.tree.map(np.testing.assert_array_equal, checkpointer.restore_variables(1), ema)


def test_a_lower_metric_can_be_the_better(experiment: Experiment, tmp_path: Path) -> None:
    checkpointer = Checkpointer(tmp_path / "c", metric="loss")
    for step, loss in ((1, 0.3), (2, 0.1), (3, 0.2), (4, 0.4)):
        checkpointer.save(state_of(experiment, 0), {}, describe(step, loss=loss))
    checkpointer.wait()
    assert checkpointer.choose("best") == 2
    assert checkpointer.steps() == [2, 3, 4]
    checkpointer.close()


def test_an_empty_folder_says_so(checkpointer: Checkpointer) -> None:
    with pytest.raises(InputError, match="no finished checkpoint; train first"):
        checkpointer.choose("best")


def test_an_unreadable_checkpoint_is_one_clear_line(
    experiment: Experiment, checkpointer: Checkpointer
) -> None:
    checkpointer.save(state_of(experiment, 0), {}, describe(1, accuracy=1.0))
    checkpointer.wait()
    (checkpointer.directory / "1" / "description" / "metadata").write_text("{")
    with pytest.raises(InputError, match=r"checkpoint 1 in .* can't be read"):
        checkpointer.describe(1)
    checkpointer.set_aside(1)
    assert checkpointer.steps() == []
    assert (checkpointer.directory.parent / "unreadable_checkpoints" / "1").is_dir()


def test_a_full_disk_is_an_oserror_and_leaves_no_half(
    experiment: Experiment, checkpointer: Checkpointer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words in which TensorStore says it, through Orbax."""

    def full(*args: Any, **kwargs: Any) -> None:
        (checkpointer.directory / "1.orbax-checkpoint-tmp").mkdir()
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device")

    monkeypatch.setattr(checkpointer._manager, "save", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpointer.save(state_of(experiment, 0), {}, describe(1))
    assert caught.value.errno == errno.ENOSPC
    assert list(checkpointer.directory.iterdir()) == []


def test_the_folder_of_checkpoints_is_enough(
    experiment: Experiment, checkpointer: Checkpointer, tmp_path: Path
) -> None:
    about = dataclasses.replace(
        describe(1, accuracy=0.5), config=config_lib.to_json(experiment.config)
    )
    checkpointer.save(state_of(experiment, 0), {}, about)
    checkpointer.wait()
    shutil.copytree(checkpointer.directory, tmp_path / "elsewhere" / "checkpoints")
    opened, config = open_run(tmp_path / "elsewhere")
    assert config == experiment.config
    assert opened.describe(opened.choose("best")).classes == ("a", "b", "c")
    assert opened.restore_variables(1).keys() == {"params", "batch_stats"}


def test_altered_parameters_are_refused(experiment: Experiment, checkpointer: Checkpointer) -> None:
    state = state_of(experiment, 0)
    checkpointer.save(state, {}, describe(1, accuracy=1.0))
    checkpointer.wait()
    assert digest(checkpointer.restore_variables(1)) == digest(jax.device_get(state.variables))
    description = checkpointer.directory / "1" / "description" / "metadata"
    values = json.loads(description.read_text())
    description.write_text(json.dumps({**values, "digest": "0" * 64}))
    with pytest.raises(InputError, match="its parameters are damaged"):
        checkpointer.restore_variables(1)
    with pytest.raises(ValueError, match="its parameters are damaged"):
        checkpointer.restore(1, template_of(experiment, 0))
    del values["digest"]  # as earlier versions left it
    description.write_text(json.dumps(values))
    checkpointer.restore_variables(1)


def test_a_digest_tells_names_shapes_and_numbers_apart() -> None:
    tree = {"a": np.arange(6, dtype=np.float32), "b": {"c": np.zeros(1, np.float32)}}
    changed = [
        {"a": tree["a"].reshape(2, 3), "b": tree["b"]},
        {"a": tree["a"] + np.float32(1e-7) * 8, "b": tree["b"]},
        {"a": tree["a"].astype(np.float64), "b": tree["b"]},
        {"x": tree["a"], "b": tree["b"]},
    ]
    assert len({digest(one) for one in [tree, *changed]}) == 5
    assert digest({"b": tree["b"], "a": tree["a"]}) == digest(tree)


@pytest.mark.parametrize(
    "altered",
    [
        {"metrics": None},
        {"metrics": {"accuracy": "1"}},
        {"config": None},
        {"config": []},
        {"classes": []},
        {"classes": ["a", "a", "a"]},
        {"classes": ["a", "", "c"]},
        {"classes": 3},
        {"epoch": "x"},
        {"fingerprint": 1},
        {"step": 2},
        {"unheard_of": 1},
    ],
)
def test_a_hostile_description_is_one_clear_line(
    experiment: Experiment, checkpointer: Checkpointer, altered: dict[str, Any]
) -> None:
    checkpointer.save(state_of(experiment, 0), {}, describe(1, accuracy=1.0))
    checkpointer.wait()
    description = checkpointer.directory / "1" / "description" / "metadata"
    description.write_text(json.dumps({**json.loads(description.read_text()), **altered}))
    with pytest.raises(InputError, match=r"checkpoint 1 in .* can't be read"):
        checkpointer.describe(1)
