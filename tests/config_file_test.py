"""Tests of config files and what the command line changes in them."""

from pathlib import Path

import pytest

from skinjax import config as config_lib
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
        ("--config.optimizer=1", "a section, not a field; it has optimizer.accumulate, "),
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


def test_a_search_space_is_that_of_the_variant(tmp_path: Path) -> None:
    file = tmp_path / "space.py"
    file.write_text(
        "def get_config(variant=''):\n    return variant\n"
        "def get_search_space(variant=''):\n    return {'seed': variant, 'epochs': 1}\n"
    )
    assert config_file.load_search_space(f"{file}:long", []) == {"seed": "long", "epochs": 1}
    assert config_file.load_search_space(str(file), ["--config.batch_size=2"])["seed"] == ""
    with pytest.raises(InputError, match=r"--config\.epochs is searched"):
        config_file.load_search_space(str(file), ["--config.epochs=2"])
    file.write_text("def get_search_space():\n    return {}\n")
    assert config_file.load_search_space(f"{file}:long", []) == {}
    file.write_text("")
    with pytest.raises(InputError, match=r"has no get_search_space\(\); tune searches"):
        config_file.load_search_space(str(file), [])


def test_a_written_config_file_gives_the_very_config(path: str, tmp_path: Path) -> None:
    config = config_file.load(
        path,
        [
            "--config.optimizer.learning_rate=0.012345678901234567",
            "--config.model.head=(('dense',16),('relu',))",
            "--config.data.columns.label=dx",
            "--config.data.strict",
            "--config.phases[0].learning_rate_factor=0.5",
        ],
    )
    file = tmp_path / "written.py"
    file.write_text(config_file.source(config, 'Says "so",\\ with\ntwo lines.', always=("seed",)))
    assert "config.seed = 0\n" in file.read_text()
    assert "batch_size" not in file.read_text()
    loaded = config_file.load(str(file), [])
    assert config_lib.differences(loaded, config) == []
    assert loaded == config  # tuples too, which JSON has not
    default = config_lib.default_config()
    file.write_text(config_file.source(default, "Nothing."))
    assert config_file.load(str(file), []) == default


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.py")), ids=lambda file: file.stem)
def test_every_config_of_the_project_loads(file: Path) -> None:
    config = config_file.load(str(file), [])
    config_lib.check(config)
    assert config_lib.field_names(config) == config_lib.field_names(config_lib.default_config())
