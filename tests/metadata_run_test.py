"""Runs with patient metadata as a second input: trained, resumed, evaluated, on several devices."""

import dataclasses
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import checkpoint, dry_run, evaluate, phases, run_log
from skinjax.config import phase
from skinjax.data import builder, metadata
from skinjax.data.metadata import Encoder
from skinjax.errors import InputError, OriginError, StoppedError
from skinjax.experiment import Experiment, check
from skinjax.train import train


@pytest.fixture
def config(config: ConfigDict) -> ConfigDict:
    config.metadata.update(features=("age", "sex", "site"), width=8, dropout=0.3)
    config.checkpoint.every_steps = 2
    return config


def parameters(run: Path) -> Any:
    checkpointer, _ = checkpoint.open_run(run)
    return checkpointer.restore_variables(checkpointer.choose("latest"))


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = run_log.RunLog.step

    def with_signal(self: Any, **pending: Any) -> None:
        original(self, **pending)
        if pending["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(run_log.RunLog, "step", with_signal)


def make_experiment(config: ConfigDict, classes: Sequence[str], encoder: Encoder) -> Experiment:
    return Experiment.create(config, tuple(classes), np.ones(len(classes), int), encoder)


def fit(config: ConfigDict, rows: list[dict[str, Any]]) -> Encoder:
    encoder = metadata.fit(config.metadata, rows)
    assert encoder is not None
    return encoder


def test_trains_resumes_and_evaluates(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.phases_from_scratch = True
    config.phases = (phase(("head",), epochs=1), phase(("*",), epochs=1))
    train(config, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        with pytest.raises(StoppedError):
            train(config, tmp_path / "broken")
    train(config, tmp_path / "broken")
    unbroken, broken = (parameters(tmp_path / name) for name in ("unbroken", "broken"))
    jax.tree.map(np.testing.assert_array_equal, unbroken, broken)

    prepared = builder.prepare(config)
    encoder = fit(config, prepared.table("train"))
    assert unbroken["params"]["head"]["metadata"]["kernel"].shape == (sum(encoder.sizes), 8)
    initial = make_experiment(config, prepared.classes, encoder).init_variables()["params"]["head"]
    moved = unbroken["params"]["head"]["metadata"]["kernel"] - initial["metadata"]["kernel"]
    assert np.abs(moved).max() > 0

    checkpointer, _ = checkpoint.open_run(tmp_path / "broken")
    about = checkpointer.describe(checkpointer.choose("latest"))
    assert Encoder.from_json(about.metadata) == encoder

    # Evaluated with the checkpoint's encoder, and not with one of the split's own.
    monkeypatch.setattr(metadata, "fit", lambda *_: pytest.fail("fitted again"))
    before = evaluate.evaluate(tmp_path / "broken", split="test")
    assert np.isfinite(before["loss"])
    monkeypatch.setattr(type(prepared), "_lines", _unseen(type(prepared)._lines))
    after = evaluate.evaluate(tmp_path / "broken", split="test")
    assert np.isfinite(after["loss"])
    assert after["loss"] != before["loss"]

    monkeypatch.undo()
    other = json.loads(about.metadata)
    other[0]["mean"] += 1
    monkeypatch.setattr(metadata, "fit", lambda *_: Encoder.from_json(json.dumps(other)))
    with pytest.raises(OriginError, match="checkpoints are of other patient metadata"):
        train(config, tmp_path / "broken")


def _unseen(lines: Any) -> Any:
    """What reads records.csv, with values that training has not seen."""
    changed = {"age": "", "sex": "", "site": "elsewhere"}

    def read(self: Any, name: str, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
        for line in lines(self, name, columns):
            known = zip(columns, line, strict=True)
            yield tuple(changed.get(column, text) for column, text in known)

    return read


def test_a_missing_age_is_neither_zero_nor_the_mean(config: ConfigDict) -> None:
    config.metadata.features = ("age",)
    rows = [{"age": 40.0}, {"age": 60.0}]
    encoder = fit(config, rows)
    experiment = make_experiment(config, ("a", "b"), encoder)
    variables = experiment.init_variables()
    metadata_BM = encoder.encode([{"age": None}, {"age": 0.0}, {"age": 50.0}])
    image_BHWC = np.full((3, 16, 16, 3), 0.5, np.float32)
    logits_BC = experiment.model.apply(variables, image_BHWC, metadata_BM, train=False)
    assert np.isfinite(logits_BC).all()
    assert len(np.unique(np.asarray(logits_BC)[:, 0])) == 3


def steps(
    config: ConfigDict, batch: dict[str, np.ndarray], encoder: Encoder, num_steps: int
) -> tuple[Any, list[float]]:
    """Parameters after, and the loss of, each of some steps."""
    experiment = make_experiment(config, ("a", "b"), encoder)
    (first, *_) = phases.resolve(config, experiment.layers, steps_per_epoch=50)
    state = experiment.mapper.replicate(experiment.init_state(first, experiment.init_variables()))
    step, loss = experiment.train_step(first), []
    for _ in range(num_steps):
        state, outputs = step(state, experiment.mapper.shard(batch), jax.random.key(0))
        loss.append(float(outputs["loss"]))
    return jax.device_get(state.params), loss


@pytest.fixture
def sexes(config: ConfigDict) -> tuple[dict[str, np.ndarray], Encoder]:
    """A batch of one image again and again, whose label only the patient's sex tells."""
    config.metadata.features = ("sex",)
    config.batch_size = 16
    config.model.head = ()
    config.augment.update(
        flip_horizontal=0.0, rotation_degrees=0.0, crop_scale=(1.0, 1.0), brightness=0.0,
        contrast=0.0, saturation=0.0, hue=0.0, noise_std=0.0,
    )  # fmt: skip
    config.optimizer.update(learning_rate=0.02, warmup_fraction=0.0)
    rows = [{"sex": "male" if number % 3 else "female"} for number in range(16)]
    encoder = fit(config, rows)
    batch = {
        "image": np.full((16, 16, 16, 3), 100, np.uint8),
        "label": np.array([number % 3 > 0 for number in range(16)], np.int32),
        "mask": np.ones(16, bool),
        "metadata": encoder.encode(rows),
    }
    return batch, encoder


def test_learns_what_only_the_metadata_tells(config: ConfigDict, sexes: Any) -> None:
    batch, encoder = sexes
    config.metadata.dropout = 0.0
    _, loss = steps(config, batch, encoder, 30)
    assert loss[-1] < 0.2 < 0.5 < loss[0]
    # With the feature missing ever more often the same steps learn less.
    config.metadata.dropout = 0.9
    assert steps(config, batch, encoder, 30)[1][-1] > 0.4


def test_devices_and_accumulation_do_not_matter(config: ConfigDict, sexes: Any) -> None:
    """Missing at random, mixed in pairs, cut into parts: always the same examples."""
    batch, encoder = sexes
    config.metadata.dropout = 0.5
    config.augment.mixup_alpha = 1.0
    config.optimizer.name = "sgd"  # Adam would enlarge rounding noise
    one, _ = steps(config, batch, encoder, 2)
    config.parallel.num_devices = 2
    config.optimizer.accumulate = 2
    other, _ = steps(config, batch, encoder, 2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), one, other)


class Echo(nn.Module):
    """Its logits are the metadata that it is given."""

    stages = ("head",)

    @nn.compact
    def __call__(
        self, image_BHWC: Any, metadata_BM: Any = None, *, train: bool, frozen: Any = ()
    ) -> jax.Array:
        return metadata_BM + 0 * nn.Dense(3, name="head")(metadata_BM)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_the_network_sees_missing_features_and_mixed_ones(
    config: ConfigDict, sexes: Any, mixup: float
) -> None:
    batch, encoder = sexes
    config.metadata.dropout = 0.0 if mixup else 0.5
    config.augment.mixup_alpha = mixup
    experiment = dataclasses.replace(
        make_experiment(config, ("a", "b", "c"), encoder), model=Echo()
    )
    (first, *_) = phases.resolve(config, experiment.layers, steps_per_epoch=9)
    state = experiment.mapper.replicate(experiment.init_state(first, experiment.init_variables()))
    step, seen = experiment.train_step(first), []
    for _ in range(2):
        state, outputs = step(state, experiment.mapper.shard(batch), jax.random.key(0))
        log_BC = np.log(outputs["probability_BC"])
        # The rows add up to 1, so the constant that softmax takes away is known.
        seen.append(log_BC + (1 - log_BC.sum(axis=1, keepdims=True)) / 3)
    changed_BM = np.abs(seen[0] - batch["metadata"]) > 1e-4
    assert changed_BM.any(axis=1).sum() > 0
    assert not np.allclose(seen[0], seen[1], atol=1e-4)
    is_missing_B = np.abs(seen[0] - encoder.encode([{"sex": ""}])).max(axis=1) < 1e-4
    if mixup:
        np.testing.assert_allclose(seen[0][::2] + seen[0][1::2],
                                   batch["metadata"][::2] + batch["metadata"][1::2],
                                   atol=1e-4)  # fmt: skip
        assert not is_missing_B.any()
    else:
        np.testing.assert_array_equal(is_missing_B, changed_BM.any(axis=1))
        assert not is_missing_B.all()


def test_dry_run_counts_the_columns_of_the_records(config: ConfigDict) -> None:
    prepared = builder.prepare(config)
    encoder = fit(config, prepared.table("train"))
    planned = builder.planned_metadata(config, ("train",))
    assert fit(config, planned) == encoder
    config.data.directory = str(prepared.directory)
    assert fit(config, builder.planned_metadata(config, ("train",))) == encoder
    config.data.directory = ""
    shapes = make_experiment(config, prepared.classes, encoder).variable_shapes()
    head = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]["head"]))
    described = dry_run.describe(config)
    assert f" {head:,} " in described
    assert "head/metadata" not in described  # one stage, the head


@pytest.mark.parametrize(
    ("features", "message"),
    [(("age", "dx_type"), "gives the label away"), (("size",), "expected some of age, sex, site")],
)
def test_wrong_features_are_refused_before_any_data(
    config: ConfigDict, features: tuple[str, ...], message: str
) -> None:
    config.metadata.features = features
    with pytest.raises(InputError, match=message):
        check(config)


def test_a_phase_may_name_the_metadata_s_layer(config: ConfigDict) -> None:
    config.phases_from_scratch = True
    config.phases = (phase(("head/metadata",), epochs=1),)
    check(config)
    config.metadata.features = ()
    with pytest.raises(InputError, match="which the model does not have"):
        check(config)
