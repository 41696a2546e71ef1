"""Tests of what is said where memory was not enough."""

import jax
import pytest

from skinjax import out_of_memory
from skinjax.config import default_config
from skinjax.errors import OutOfMemoryError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9.31GiB.\nmore"
            ),
            r"^the device ran out of memory \(no room for 9.31GiB\): try less$",
        ),
        (
            jax.errors.JaxRuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY"),
            "^the device ran out of memory: try less$",
        ),
        (MemoryError(), "^this machine ran out of memory: try less$"),
    ],
)
def test_it_is_one_line_with_the_advice(error: Exception, message: str) -> None:
    with (
        pytest.raises(OutOfMemoryError, match=message),
        out_of_memory.explained(lambda: "try less"),
    ):
        raise error


def test_other_errors_pass() -> None:
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="INVALID_ARGUMENT"),
        out_of_memory.explained(lambda: ""),
    ):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes")


@pytest.mark.parametrize(
    ("batch_size", "parts", "num_devices", "mixup", "smaller", "more_parts"),
    [
        (64, 1, 1, 0.0, 32, 2),
        (64, 2, 1, 0.0, 32, 4),
        (24, 1, 8, 0.0, 8, 3),
        (12, 1, 2, 0.2, 4, 2),  # each device has pairs
        (8, 1, 8, 0.0, None, None),
    ],
)
def test_what_to_try_is_what_devices_parts_and_pairs_divide(
    batch_size: int,
    parts: int,
    num_devices: int,
    mixup: float,
    smaller: int | None,
    more_parts: int | None,
) -> None:
    config = default_config()
    config.batch_size = batch_size
    config.optimizer.accumulate = parts
    config.augment.mixup_alpha = mixup
    line = out_of_memory.advice_for_training(config, num_devices, None, images_on_devices=False)
    assert f"config.batch_size={batch_size}" in line
    assert ("--config.batch_size=" in line) == (smaller is not None)
    assert smaller is None or f"--config.batch_size={smaller}," in line
    assert ("optimizer.accumulate=" in line) == (more_parts is not None)
    assert more_parts is None or f"--config.optimizer.accumulate={more_parts} " in line


def test_a_run_with_checkpoints_goes_on_with_the_same_batch() -> None:
    config = default_config()
    line = out_of_memory.advice_for_training(config, 1, saved_step=120, images_on_devices=False)
    assert "step 120 is saved: the same command with --config.optimizer.accumulate=2 or " in line
    assert "--config.batch_size=32 or --config.model.dtype=bfloat16 in a new --workdir" in line
    config.batch_size = 1
    config.model.update(remat=True, dtype="bfloat16")
    line = out_of_memory.advice_for_training(config, 1, saved_step=120, images_on_devices=False)
    assert "smaller config.data.image_size" in line


@pytest.mark.parametrize("saved_step", [None, 120])
def test_images_on_the_devices_are_the_first_to_go(saved_step: int | None) -> None:
    config = default_config()
    line = out_of_memory.advice_for_training(config, 1, saved_step, images_on_devices=True)
    assert "--config.data.on_device=off, --config.optimizer.accumulate=2" in line
    assert saved_step is None or "the same command with --config.data.on_device=off" in line


def test_evaluation_names_its_own_batch_size() -> None:
    assert "evaluate.batch_size=24" in out_of_memory.advice_for_evaluation(56, 8)
    assert "evaluate.batch_size" not in out_of_memory.advice_for_evaluation(8, 8)
