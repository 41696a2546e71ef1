"""What a name stands for, and what a checkpoint says of itself."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from skinjax.config import default_config
from skinjax.errors import InputError
from skinjax.models.pretrained import find


def message(config: Any, source: str | Path) -> str:
    config.model.pretrained = str(source)
    with pytest.raises(InputError) as caught:
        find(config.model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def found(config: Any, source: str | Path) -> Any:
    config.model.pretrained = str(source)
    return find(config.model)


def describe(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_says_everything(config, folder) -> None:
    published = found(config, folder)
    assert (published.path, published.layout) == (folder / "model.safetensors", "timm")
    assert (published.name, published.variant, published.image_size) == ("resnet50", "tf", 72)
    assert published.normalization.mean == (0.4, 0.5, 0.6)
    assert published.normalization.std == (0.1, 0.2, 0.3)
    assert published.assumed == ""


def test_a_file_with_its_config_beside_it_is_the_same(config, folder) -> None:
    path = folder / "model.safetensors"
    expected = dataclasses.replace(found(config, folder), origin=str(path))
    assert found(config, path) == expected


def test_the_older_flat_config(config, folder) -> None:
    flat = {
        "architecture": "resnet50",
        "num_classes": 2,
        "input_size": [3, 96, 96],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    }
    (folder / "config.json").write_text(json.dumps(flat))
    published = found(config, folder)
    assert (published.variant, published.image_size) == ("timm", 96)
    assert published.normalization.std == (0.25, 0.25, 0.25)


def test_a_repository_and_its_commit(config, hub) -> None:
    published = found(config, "timm/tiny@v1")
    assert published.origin == "timm/tiny@cccccccccccc"
    assert published.path.name == "model.safetensors"
    assert published.variant == "tf"


@pytest.mark.parametrize(
    ("name", "variant", "mean"),
    [
        ("resnet50", "", 0.485),
        ("inception_v3", "", 0.5),
        ("vit_small_patch16", "", 0.5),
        ("efficientnetv2_s", "tf", 0.5),
        ("efficientnetv2_s", "timm", 0.485),
    ],
)
def test_a_lone_file_is_what_the_config_says(config, folder, family, name, variant, mean) -> None:
    family.NAMES += (name,)
    (folder / "config.json").unlink()
    config.model.name, config.model.variant = name, variant
    published = found(config, folder / "model.safetensors")
    assert (published.name, published.variant) == (name, variant or "timm")
    assert published.image_size == 64
    assert published.normalization.mean[0] == mean
    assert "has no config.json beside it" in published.assumed
    assert f"mean ({mean}," in published.assumed


def test_a_config_of_something_else_beside_a_lone_file_is_let_be(config, folder) -> None:
    (folder / "config.json").write_text('{"model": {}}')
    published = found(config, folder / "model.safetensors")
    assert published.variant == "timm"
    assert "has no config.json beside it" in published.assumed
    assert "its config.json names no architecture" in message(config, folder)


def test_a_checkpoint_of_another_network(config, folder) -> None:
    config.model.name = "resnet18"
    text = message(config, folder)
    assert f"{folder} is resnet50, but config.model.name is resnet18" in text
    describe(folder, architecture="resnet5")
    text = message(config, folder)
    assert "of timm's architecture 'resnet5', which isn't built here" in text
    assert "did you mean resnet50?" in text


def test_a_config_without_normalization_gets_the_usual_one(config, folder) -> None:
    describe(folder, pretrained_cfg={"input_size": [3, 72, 80]})
    published = found(config, folder)
    assert published.normalization.mean == (0.485, 0.456, 0.406)
    assert published.image_size == 64  # not square
    assert "has no mean and std" in published.assumed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": 3}, "names no architecture"),
        ({"model_args": {"img_size": 72, "act_layer": "gelu"}}, "model_args act_layer"),
        ({"pretrained_cfg": {"mean": [0.5], "std": [1, 1, 1]}}, "has mean [0.5] and std [1, 1, 1]"),
        ({"pretrained_cfg": {"mean": "x", "std": [1, 1, 1]}}, "has mean x"),
        ({"pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "has std [1, 0, 1]"),
        ({"pretrained_cfg": {"input_size": [1, 28, 28]}}, "takes images of 1 channels"),
    ],
)
def test_a_config_that_can_not_be_followed(config, folder, changes, words) -> None:
    describe(folder, **changes)
    assert words in message(config, folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\udcff"])
def test_a_config_that_is_no_json_object(config, folder, content) -> None:
    (folder / "config.json").write_text(content, errors="surrogateescape")
    assert str(folder / "config.json") in message(config, folder)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".pkl", ".PTH"])
def test_pickle_is_never_opened(config, tmp_path, suffix) -> None:
    path = tmp_path / f"weights{suffix}"
    text = message(config, path)  # not even looked for
    assert "is a pickle by its name" in text
    assert "weights_only=True" in text
    assert f"torch.load('{path}'" in text


def test_a_pickle_with_another_name(config, tmp_path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"\x80\x04\x95" + bytes(100))
    assert "should be safetensors, but is a pickle" in message(config, path)


def test_names_that_are_nothing(config, tmp_path, folder) -> None:
    text = message(config, "resnet50.a1_in1k")
    assert "expected a repository of the Hugging Face hub" in text
    assert text.endswith("did you mean timm/resnet50.a1_in1k?")
    assert "expected a repository" in message(config, "https://huggingface.co/timm/resnet50")
    assert "expected a repository" in message(config, "/no/such/folder")
    assert "can't be read (No such file" in message(config, tmp_path / "no.safetensors")
    assert "can't be read (No such file" in message(config, tmp_path / "no.h5")
    assert "Keras's zip archive" in message(config, "model.keras")
    (folder / "model.safetensors").unlink()
    assert "is a folder without model.safetensors" in message(config, folder)


def test_a_home_folder_is_found(config, folder, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert found(config, "~/clone").path == folder / "model.safetensors"


def test_networks_without_published_weights_say_so(folder) -> None:
    config = default_config()
    config.model.name = "simple_cnn"
    assert "no published weights of simple_cnn" in message(config, folder)
