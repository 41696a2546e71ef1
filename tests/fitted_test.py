"""Tests of what is fitted to a checkpoint."""

import json
import os
from pathlib import Path

import pytest

from skinjax import fitted
from skinjax.errors import InputError


def describe(workdir: Path, step: int, digest: str) -> None:
    folder = workdir / "checkpoints" / str(step) / "description"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata").write_text(json.dumps({"digest": digest}))


def test_each_checkpoint_has_its_own(tmp_path: Path) -> None:
    path = fitted.write_json(tmp_path, 3, fitted.CALIBRATION, {"a": [1.5]})
    assert path == fitted.path(tmp_path, 3, fitted.CALIBRATION)
    assert fitted.read_json(tmp_path, 3, fitted.CALIBRATION) == {"a": [1.5]}
    assert fitted.read_json(tmp_path, 4, fitted.CALIBRATION) is None
    assert fitted.read_json(tmp_path, 3, fitted.THRESHOLD) is None


def test_a_checkpoint_trained_anew_does_not_take_the_old_ones(tmp_path: Path) -> None:
    describe(tmp_path, 3, "abc")
    fitted.write_json(tmp_path, 3, fitted.CALIBRATION, {"a": 1})
    assert fitted.read_json(tmp_path, 3, fitted.CALIBRATION) == {"a": 1}
    describe(tmp_path, 3, "other")
    with pytest.raises(InputError, match="has digest 'abc', expected other; delete it"):
        fitted.read_json(tmp_path, 3, fitted.CALIBRATION)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read"),
        ("[1]", "holds a list, no object"),
        ("[" * 100_000, "can't be read"),
        ('{"format": 1, "step": 3, "digest": "", "a": NaN}', "NaN is no number"),
        ('{"format": 2, "step": 3, "digest": ""}', "has format 2, expected 1"),
        ('{"format": 1, "step": 4, "digest": ""}', "has step 4, expected 3"),
        (" " * (1 << 20) + "{}", "can't be read"),
    ],
)
def test_what_is_broken_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = fitted.write_json(tmp_path, 3, fitted.CALIBRATION, {})
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        fitted.read_json(tmp_path, 3, fitted.CALIBRATION)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = fitted.write_json(tmp_path, 3, fitted.CALIBRATION, {})
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="can't be read"):
        fitted.read_json(tmp_path, 3, fitted.CALIBRATION)
