"""Tests of the loop: whole runs of seconds, unbroken and broken."""

import csv
import gzip
import json
import re
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import checkpoint, models, profiling, run_log, workdir
from skinjax.config import phase
from skinjax.data import builder, synthetic
from skinjax.errors import InputError, NonFiniteLossError, OriginError, StoppedError
from skinjax.experiment import Experiment
from skinjax.loop import Loop
from skinjax.profiling import Profiler
from skinjax.train import train


@pytest.fixture
def gradual(config: ConfigDict) -> ConfigDict:
    """Two phases, the second with one more stage."""
    config.phases_from_scratch = True
    config.phases = (phase(("head",), epochs=1), phase(("dense", "head"), epochs=1))
    config.checkpoint.every_steps = 2
    config.batch_size = 16
    return config


def parameters(run: Path) -> Any:
    checkpointer, _ = checkpoint.open_run(run)
    return checkpointer.restore_variables(checkpointer.choose("latest"))


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Sends this process a real SIGTERM when the given step has been read."""
    original = run_log.RunLog.step

    def with_signal(self: Any, **pending: Any) -> None:
        original(self, **pending)
        if pending["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(run_log.RunLog, "step", with_signal)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_everything_that_it_should(config: ConfigDict, tmp_path: Path) -> None:
    config.log.tensorboard = True
    best = train(config, tmp_path / "run")
    assert best["metrics"].keys() >= {"balanced_accuracy", "macro_roc_auc", "loss"}
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {
        "config.json", "versions.json", "steps.csv", "history.csv", "history.png", "checkpoints",
        "tensorboard",
    }  # fmt: skip
    rows = read_csv(tmp_path / "run" / "history.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(row[name] for row in rows for name in row)
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_stopped_and_resumed_is_bit_identical(
    gradual: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within a phase and at its very end, which the resumed run starts the next from."""
    train(gradual, tmp_path / "unbroken")
    steps_per_epoch = int(read_csv(tmp_path / "unbroken" / "history.csv")[0]["step"])
    # A step is read, and the signal sent, while the next one runs: the second stop is at the
    # boundary of the phases.
    for step in (1, steps_per_epoch - 1, steps_per_epoch + 2):
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(StoppedError, match=r"stopped by SIGTERM after step \d+") as caught:
                train(gradual, tmp_path / "broken")
            assert caught.value.signum == signal.SIGTERM
    train(gradual, tmp_path / "broken")
    jax.tree.map(
        np.testing.assert_array_equal,
        parameters(tmp_path / "unbroken"),
        parameters(tmp_path / "broken"),
    )
    unbroken, broken = (read_csv(tmp_path / run / "history.csv") for run in ("unbroken", "broken"))
    assert [row["val_loss"] for row in unbroken] == [row["val_loss"] for row in broken]
    assert len(read_csv(tmp_path / "unbroken" / "steps.csv")) == len(
        read_csv(tmp_path / "broken" / "steps.csv")
    )


def test_only_the_phase_s_stages_are_trained(gradual: ConfigDict, tmp_path: Path) -> None:
    gradual.checkpoint.every_steps = 0
    train(gradual, tmp_path / "run")
    counts_C = np.ones(7)
    before = Experiment.create(gradual, tuple("abcdefg"), counts_C).init_variables()["params"]
    checkpointer, _ = checkpoint.open_run(tmp_path / "run")
    after = [checkpointer.restore_variables(step)["params"] for step in checkpointer.steps()]
    changed = {("conv1", 0): False, ("dense", 0): False, ("conv1", 1): False, ("dense", 1): True}
    for (stage, phase_index), expected in changed.items():
        same = jax.tree.map(
            np.array_equal, before["backbone"][stage], after[phase_index]["backbone"][stage]
        )
        assert all(jax.tree.leaves(same)) is not expected, (stage, phase_index)
    assert not np.array_equal(
        before["head"]["logits"]["kernel"], after[0]["head"]["logits"]["kernel"]
    )


@pytest.mark.parametrize("carry_moments", [True, False])
def test_resuming_keeps_batch_norm_and_the_loss_scale(
    gradual: ConfigDict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_classifier: Any,
    carry_moments: bool,
) -> None:
    """In float16, on a network with batch norm, evaluated every second epoch."""

    def create(settings: ConfigDict, *, num_classes: int, **others: Any) -> Any:
        del others
        return tiny_classifier(num_classes=num_classes, dtype=settings.dtype)

    monkeypatch.setattr(models, "create", create)
    gradual.model.dtype = "float16"
    gradual.phases = (phase(("head",), epochs=1), phase(("block1", "head"), epochs=1))
    gradual.optimizer.carry_moments = carry_moments
    gradual.evaluate.every_epochs = 2
    gradual.checkpoint.every_steps = 0
    train(gradual, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        stop_after(patch, 12)
        with pytest.raises(StoppedError):
            train(gradual, tmp_path / "broken")
    train(gradual, tmp_path / "broken")
    jax.tree.map(
        np.testing.assert_array_equal,
        parameters(tmp_path / "unbroken"),
        parameters(tmp_path / "broken"),
    )


def test_checkpoints_of_other_data_are_refused_and_left_alone(
    config: ConfigDict, tmp_path: Path
) -> None:
    config.epochs = 1
    train(config, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_text()
    synthetic.write(tmp_path / "other", num_lesions=40, image_size=32, seed=1)
    config.data.raw_dir = str(tmp_path / "other")
    with pytest.raises(OriginError, match="checkpoints are of other data"):
        train(config, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_text() == before
    assert not (tmp_path / "run" / "unreadable_checkpoints").exists()


def test_without_a_readable_checkpoint_nothing_is_thrown_away(
    config: ConfigDict, tmp_path: Path
) -> None:
    config.epochs = 1
    train(config, tmp_path / "run")
    (only,) = (tmp_path / "run" / "checkpoints").glob("[0-9]*")
    (only / "description" / "metadata").write_text("{")
    with pytest.raises(InputError, match=f"none of the checkpoints {only.name} can be read"):
        train(config, tmp_path / "run")
    assert only.is_dir()
    assert len(read_csv(tmp_path / "run" / "history.csv")) == 1


def test_a_checkpoint_cut_off_in_the_middle_is_passed_over(
    gradual: ConfigDict, tmp_path: Path
) -> None:
    train(gradual, tmp_path / "whole")
    train(gradual, tmp_path / "cut")
    latest = max(int(path.name) for path in (tmp_path / "cut" / "checkpoints").iterdir())
    for file in (tmp_path / "cut" / "checkpoints" / str(latest) / "variables").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    train(gradual, tmp_path / "cut")
    assert (tmp_path / "cut" / "unreadable_checkpoints" / str(latest)).is_dir()
    jax.tree.map(
        np.testing.assert_array_equal, parameters(tmp_path / "whole"), parameters(tmp_path / "cut")
    )


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.optimizer.update(learning_rate=1e25, clip_norm=0.0, warmup_fraction=0.9)
    config.optimizer.start_factor = 1e-28
    config.checkpoint.every_steps = 1
    with pytest.raises(NonFiniteLossError, match=r"the loss at step \d+ is not finite"):
        train(config, tmp_path / "run")
    kept = parameters(tmp_path / "run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept["params"]))


def test_training_on_all_splits_validates_on_none(config: ConfigDict, tmp_path: Path) -> None:
    config.data.train_on = "all"
    config.epochs = 1
    best = train(config, tmp_path / "run")
    assert best["metrics"] == {}
    (row,) = read_csv(tmp_path / "run" / "history.csv")
    assert row["val_loss"] == ""
    prepared = builder.prepare(config)
    images = sum(sum(counts) for counts in prepared.counts.values())
    assert int(row["train_num_examples"]) == images // config.batch_size * config.batch_size
    assert images > sum(prepared.counts["train"])


def test_a_work_directory_in_use_is_left_alone(config: ConfigDict, tmp_path: Path) -> None:
    with (
        workdir.claim(tmp_path / "run"),
        pytest.raises(InputError, match="in use by another run"),
    ):
        train(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("raw_dir", "/nowhere/ham10000", "/nowhere/ham10000"),
        ("split", (0.5, 0.1, 0.1), "split"),
    ],
)
def test_a_wrong_input_leaves_nothing_behind(
    config: ConfigDict, tmp_path: Path, field: str, value: Any, message: str
) -> None:
    config.data[field] = value
    with pytest.raises(InputError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_size_that_the_devices_do_not_divide_names_the_nearest(
    config: ConfigDict, tmp_path: Path
) -> None:
    config.parallel.num_devices = 8
    config.batch_size = 30
    with pytest.raises(InputError, match="8 devices don't divide; the nearest valid size is 32"):
        train(config, tmp_path / "run")


def scripted(monkeypatch: pytest.MonkeyPatch, values: dict[int, float]) -> None:
    """Gives validation these balanced accuracies by step, and counts on nothing else."""
    original = Loop._validate

    def validate(self: Any, step: int, state: Any) -> dict[str, Any]:
        return original(self, step, state) | {"balanced_accuracy": values[step]}

    monkeypatch.setattr(Loop, "_validate", validate)


@pytest.fixture
def stopping(gradual: ConfigDict) -> ConfigDict:
    """Two phases of ten steps, evaluated every two, which end after two without a gain."""
    gradual.phases = (phase(("head",), steps=10), phase(("dense", "head"), steps=10))
    gradual.evaluate.every_steps = 2
    gradual.early_stopping.patience = 2
    gradual.plateau.patience = 1
    gradual.checkpoint.keep_best = 2
    return gradual


EVALUATED = {2: 0.5, 4: 0.6, 6: 0.4, 8: 0.3, 10: 0.2, 12: 0.7, 14: 0.1, 16: 0.2}


def test_early_stopping_ends_each_phase_and_the_run(
    stopping: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, EVALUATED)
    seen: list[int] = []
    best = train(stopping, tmp_path / "run", lambda step, values: seen.append(step))
    assert seen == [2, 4, 6, 8, 10, 12, 14, 16]
    assert (best["step"], best["metrics"]["balanced_accuracy"]) == (12, 0.7)
    rows = read_csv(tmp_path / "run" / "history.csv")
    assert [(row["step"], row["phase"]) for row in rows[3:5]] == [("8", "0"), ("10", "1")]
    rates = [float(row["learning_rate"]) for row in read_csv(tmp_path / "run" / "steps.csv")]
    assert len(rates) == 1  # log.every_steps is 10
    # The same command again has nothing to do.
    again = train(stopping, tmp_path / "run", lambda step, values: seen.append(step))
    assert again == best
    assert len(seen) == 8


def test_the_next_phase_may_begin_with_the_best_parameters(
    stopping: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, EVALUATED)
    stopping.early_stopping.restore_best = True
    stopping.checkpoint.keep_best = 10
    started: dict[int, Any] = {}
    original = Loop._enter

    def enter(self: Any, state: Any, phase: Any) -> Any:
        started[phase.index] = jax.device_get(state)
        return original(self, state, phase)

    monkeypatch.setattr(Loop, "_enter", enter)
    train(stopping, tmp_path / "run")
    checkpointer, _ = checkpoint.open_run(tmp_path / "run")
    best = checkpointer.restore_variables(4)
    jax.tree.map(np.testing.assert_array_equal, started[1].params, best["params"])
    assert int(started[1].step) == 8
    assert float(started[1].learning_rate_scale) == 1


def test_a_run_with_everything_on_resumes_bit_identically(
    stopping: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Averages, parts, mixing, balance, a plateau and early stopping, stopped where it hurts."""
    stopping.update(ema={"decay": 0.9}, batch_size=16)
    stopping.optimizer.update(accumulate=2, name="lamb", layer_decay=0.8)
    stopping.augment.update(mixup_alpha=0.2)
    stopping.data.balance = 1.0
    stopping.checkpoint.every_steps = 3
    stopping.early_stopping.restore_best = True
    scripted(monkeypatch, EVALUATED)
    train(stopping, tmp_path / "unbroken")
    for step in (4, 7, 11):
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(StoppedError):
                train(stopping, tmp_path / "broken")
    train(stopping, tmp_path / "broken")
    unbroken, broken = (tmp_path / run for run in ("unbroken", "broken"))
    jax.tree.map(np.testing.assert_array_equal, parameters(unbroken), parameters(broken))
    columns = ("step", "phase", "learning_rate", "val_loss")
    unbroken_rows, broken_rows = (
        [[row[name] for name in columns] for row in read_csv(run / "history.csv")]
        for run in (unbroken, broken)
    )
    assert unbroken_rows == broken_rows
    checkpointer, _ = checkpoint.open_run(broken)
    about = checkpointer.describe(checkpointer.choose("latest"))
    assert about.monitor["waited"] == 2


def test_a_plateau_lowers_the_rate_that_the_step_takes(
    stopping: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping.early_stopping.patience = 0
    scripted(monkeypatch, dict.fromkeys(range(2, 22, 2), 0.5))
    taken: list[float] = []
    original = Loop._validate

    def validate(self: Any, step: int, state: Any) -> Any:
        taken.append(float(state.learning_rate_scale))
        return original(self, step, state)

    monkeypatch.setattr(Loop, "_validate", validate)
    train(stopping, tmp_path / "run")
    # Of each phase the first evaluation is the best one, and every other halves the rate.
    assert taken == [1, 1, 0.5, 0.25, 0.125] * 2


@pytest.mark.parametrize("steps", [4, 13])
def test_the_last_step_is_saved_where_nothing_is_validated(
    config: ConfigDict, tmp_path: Path, steps: int
) -> None:
    """Neither fills an epoch of ten steps or so."""
    config.data.train_on = "all"
    config.batch_size = 10
    config.steps = steps
    config.log.every_steps = 1
    best = train(config, tmp_path / "run")
    assert best["step"] == steps
    assert read_csv(tmp_path / "run" / "steps.csv")[-1]["step"] == str(steps)
    assert read_csv(tmp_path / "run" / "history.csv")[-1]["step"] == str(steps)


def test_what_is_evaluated_and_kept_are_the_averages(config: ConfigDict, tmp_path: Path) -> None:
    config.epochs = 1
    train(config, tmp_path / "raw")
    config.ema.update(decay=0.999999, warmup=False)
    train(config, tmp_path / "averaged")
    counts_C = np.ones(7)
    initial = Experiment.create(config, tuple("abcdefg"), counts_C).init_variables()
    averaged = parameters(tmp_path / "averaged")
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        averaged["params"], jax.device_get(initial["params"]),
    )  # fmt: skip
    losses = [
        read_csv(tmp_path / run / "history.csv")[0]["val_loss"] for run in ("raw", "averaged")
    ]
    assert losses[0] != losses[1]
    trained = [
        read_csv(tmp_path / run / "history.csv")[0]["train_loss"] for run in ("raw", "averaged")
    ]
    assert trained[0] == trained[1]


def test_nothing_compiles_after_the_first_evaluation(config: ConfigDict, tmp_path: Path) -> None:
    """Where the last batch is not full, the rate falls, and the images are on the device."""
    config.epochs = 3
    config.evaluate.batch_size = 10
    config.plateau.update(patience=1, min_delta=1e3)
    config.data.on_device = "on"
    compiled: list[str] = []

    def note(event: str, seconds: float, **others: Any) -> None:
        del seconds
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(others.get("fun_name")))

    seen: list[int] = []
    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        train(config, tmp_path / "run", lambda step, values: seen.append(len(compiled)))
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
    images = sum(builder.prepare(config).counts["val"])
    assert images % 10
    assert seen[0] > 0
    assert compiled[seen[0] :] == []


def test_a_profile_is_a_trace_of_a_few_steps(config: ConfigDict, tmp_path: Path) -> None:
    config.profile = True
    config.epochs = 1
    config.data.train_on = "all"
    train(config, tmp_path / "run")
    (trace,) = (tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz")
    with gzip.open(trace, "rt") as file:
        text = file.read()
    images = sum(sum(counts) for counts in builder.prepare(config).counts.values())
    steps = images // config.batch_size
    traced = set(re.findall(r'"step_num": ?"?(\d+)', text))
    assert traced == {str(step) for step in range(max(2, steps - 4), steps + 1)}
    assert "wait for a batch" in text


def test_a_profile_says_which_steps_are_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that has ended already, and of one that is stopped within the trace."""
    said: list[str] = []
    for name in ("info", "warning"):
        note = lambda text, *values: said.append(text % values)  # noqa: E731
        monkeypatch.setattr(profiling.logging, name, note)
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *args, **options: None)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: None)
    Profiler(tmp_path, start_step=0, total_steps=20, enabled=False).close()
    assert said == []
    Profiler(tmp_path, start_step=20, total_steps=20, enabled=True).close()
    assert said.pop() == "no trace: the run ended before step 22"
    profiler = Profiler(tmp_path, start_step=0, total_steps=20, enabled=True)
    for step in range(1, 13):
        with profiler.step(step):
            pass
        profiler.after(step, ())
    profiler.close()
    profiler.close()
    assert len(said) == 1
    assert said[0].startswith("a trace of steps 11 to 12 is in ")


def test_a_run_of_an_earlier_version_goes_on(
    config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its config has no `profile` and no `data.on_device`, its logs no share of waiting."""
    config.log.every_steps = 1
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            train(config, tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    del settings["profile"], settings["data"]["on_device"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    for name in ("steps.csv", "history.csv"):
        lines = (tmp_path / "run" / name).read_text().splitlines()
        rows = [line.split(",") for line in lines]
        place = rows[0].index("waiting")
        kept = [",".join(row[:place] + row[place + 1 :]) + "\n" for row in rows]
        (tmp_path / "run" / name).write_text("".join(kept))
    train(config, tmp_path / "run")
    shares = [row["waiting"] for row in read_csv(tmp_path / "run" / "steps.csv")]
    assert shares[0] == ""
    assert 0 <= float(shares[-1]) <= 1


def test_folds_without_a_fold_are_left_to_cross_validation(
    config: ConfigDict, tmp_path: Path
) -> None:
    config.data.folds = 5
    with pytest.raises(InputError, match=r"data\.fold is -1.*cross_validate"):
        train(config, tmp_path / "run")
