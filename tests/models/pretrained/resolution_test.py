"""Fields that are left to the checkpoint."""

from typing import Any

import pytest

from skinjax.errors import InputError
from skinjax.models import pretrained


def fields(config: Any) -> tuple:
    normalize = config.normalize
    return config.model.variant, normalize.mean, normalize.std, config.data.image_size


def test_what_is_open_follows_the_checkpoint(config, folder, caplog) -> None:
    config.model.pretrained = str(folder)
    resolved = pretrained.resolve(config)
    assert fields(resolved) == ("tf", (0.4, 0.5, 0.6), (0.1, 0.2, 0.3), 72)
    assert fields(config) == ("", (), (), 0)  # a copy
    assert resolved.is_locked
    assert not caplog.records


def test_without_a_checkpoint_it_is_imagenet_and_the_networks_own_size(config) -> None:
    config.model.pretrained = ""
    expected = ("timm", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 64)
    assert fields(pretrained.resolve(config)) == expected


def test_a_resolved_config_is_itself_and_asks_nobody(config, folder) -> None:
    config.model.pretrained = str(folder)
    resolved = pretrained.resolve(config)
    for path in folder.iterdir():
        path.unlink()
    again = pretrained.resolve(resolved)
    assert again.to_dict() == resolved.to_dict()


def test_explicit_values_win_with_one_warning_each(config, folder, caplog) -> None:
    config.model.pretrained = str(folder)
    config.model.variant = "timm"
    config.normalize.mean, config.normalize.std = (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)
    resolved = pretrained.resolve(config)
    assert fields(resolved) == ("timm", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), 72)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert "config.model.variant is 'timm', but" in texts[0]
    assert "config.normalize has mean (0.5, 0.5, 0.5)" in texts[1]


def test_the_same_explicit_values_are_no_news(config, folder, caplog) -> None:
    config.model.pretrained = str(folder)
    config.normalize.mean, config.normalize.std = (0.4, 0.5, 0.6), (0.1, 0.20001, 0.3)
    assert pretrained.resolve(config).normalize.std == (0.1, 0.20001, 0.3)
    assert not caplog.records
    config.normalize.std = (0.1, 0.21, 0.3)
    pretrained.resolve(config)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("size", [0, 224])
def test_the_image_size_alone(config, folder, size) -> None:
    config.model.pretrained = str(folder)
    config.data.image_size = size
    assert pretrained.resolve(config).data.image_size == (size or 72)


def test_another_network_stops(config, folder) -> None:
    config.model.pretrained = str(folder)
    config.model.name = "resnet18"
    with pytest.raises(InputError, match=r"is resnet50, but config\.model\.name is resnet18"):
        pretrained.resolve(config)


def test_what_is_assumed_of_a_lone_file_is_said_once(config, folder, caplog) -> None:
    (folder / "config.json").unlink()
    config.model.pretrained = str(folder / "model.safetensors")
    resolved = pretrained.resolve(config)
    assert fields(resolved)[0] == "timm"
    pretrained.resolve(resolved)
    pretrained.find(resolved.model)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "has no config.json beside it" in caplog.text


def test_a_resumed_run_follows_its_first_start(config, folder) -> None:
    config.model.pretrained = str(folder)
    first = pretrained.resolve(config)
    for path in folder.iterdir():
        path.unlink()
    config.epochs = 7
    resumed = pretrained.resolve(pretrained.follow(config, first))
    assert fields(resumed) == fields(first)
    assert resumed.epochs == 7
    config.model.pretrained = ""
    assert fields(pretrained.follow(config, first)) == ("", (), (), 0)
