"""Tests of config files and what the command line changes in them."""

from pathlib import Path

import pytest

from skinjax import config_file
from skinjax.errors import InputError

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "experiment.py"
    file.write_text(
        "from skinjax.config import default_config, phase\n"
        "def get_config(variant=''):\n"
        "    config = default_config()\n"
        "    config.epochs = 7 if variant == 'long' else 3\n"
        "    config.phases = (phase(('head',), epochs=2), phase(('*',), epochs=1))\n"
        "    return config\n"
    )
    return str(file)


def test_fields_are_set_with_their_types(path: str) -> None:
    config = config_file.load(
        path,
        [
            "--config.optimizer.learning_rate=1e-4",
            "--config.data.strict",
            "--config.data.split=(0.8,0.1,0.1)",
            "--config.augment.crop_scale=(0.5,1.0)",
            "--config.model.head=(('dense',16),('relu',))",
            "--config.phases[1].epochs=5",
            "--config.log.progress=false",
        ],
    )
    assert config.epochs == 3
    assert config.optimizer.learning_rate == 1e-4
    assert config.data.strict is True
    assert config.data.split == (0.8, 0.1, 0.1)
    assert config.augment.crop_scale == (0.5, 1.0)
    assert config.model.head == (("dense", 16), ("relu",))
    assert config.phases[1].epochs == 5
    assert config.log.progress is False


def test_a_variant_goes_behind_a_colon(path: str) -> None:
    assert config_file.load(f"{path}:long", []).epochs == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.optimizer.lerning_rate=1", "did you mean optimizer.learning_rate?"),
        ("--config.optimiser.learning_rate=1", "did you mean optimizer.learning_rate?"),
        ("--config.optimizer=1", "a section, not a field; it has optimizer.b1"),
        ("--config.epochs=many", "epochs"),
        ("--config.epochs=1.5", "epochs"),
        ("--config.batch_size", "lacks a value"),
        ("--config.phases[1].epoch=5", "epoch"),
        ("--confg.epochs=1", "unknown argument --confg.epochs=1"),
    ],
)
def test_a_wrong_override_is_one_clear_line(path: str, override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        config_file.load(path, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_file_that_fails_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        config_file.load(str(tmp_path / "missing.py"), [])
    broken = tmp_path / "broken.py"
    broken.write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(InputError, match="division by zero"):
        config_file.load(str(broken), [])


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.py")), ids=lambda file: file.stem)
def test_every_config_of_the_project_loads(file: Path) -> None:
    from skinjax import config as config_lib

    config = config_file.load(str(file), [])
    config_lib.check(config)
    assert config_lib.field_names(config) == config_lib.field_names(config_lib.default_config())
