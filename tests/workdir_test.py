"""Tests of the work directory."""

from pathlib import Path

import pytest

from skinjax import config as config_lib
from skinjax import workdir
from skinjax.errors import InputError


def test_a_free_or_equal_directory_is_accepted(tmp_path: Path) -> None:
    config = config_lib.default_config()
    workdir.check_config(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()
    workdir.check_config(tmp_path, config)
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    config.log.every_steps = 3
    config.data.raw_dir = "elsewhere"
    workdir.check_config(tmp_path, config)


def test_another_config_is_refused_by_field(tmp_path: Path) -> None:
    config = config_lib.default_config()
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    config.optimizer.learning_rate = 0.25
    with pytest.raises(InputError, match=r"another config \(optimizer.learning_rate: 0.25 here"):
        workdir.check_config(tmp_path, config)


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds files that are no training run"):
        workdir.check_config(tmp_path, config_lib.default_config())
    with pytest.raises(InputError, match="is a file"):
        workdir.check_config(tmp_path / "thesis.tex", config_lib.default_config())


def test_a_directory_in_use_is_refused_and_free_afterwards(tmp_path: Path) -> None:
    with (
        workdir.claim(tmp_path),
        pytest.raises(InputError, match="in use by another run"),
        workdir.claim(tmp_path),
    ):
        pass
    with workdir.claim(tmp_path):
        pass


def test_a_run_of_a_version_without_variants_goes_on(tmp_path: Path) -> None:
    config = config_lib.default_config()
    (tmp_path / "config.json").write_text(config_lib.to_json(config))
    config.model.variant = "timm"
    workdir.check_config(tmp_path, config)
