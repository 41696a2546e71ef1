"""Each format, read back: what it computes, and what it says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import safetensors

from skinjax.calibration import Calibration, identity
from skinjax.errors import InputError
from skinjax.export import description, network, onnx_file, stablehlo, timm_file
from skinjax.trained import TrainedModel

Models = Callable[..., TrainedModel]
Images = Callable[..., np.ndarray]
Reference = Callable[..., np.ndarray]
Write = Callable[..., network.Network]


@pytest.mark.parametrize("format", [stablehlo, onnx_file])
def test_images_of_any_size_and_number_give_the_models_probabilities(
    format: Any,
    files: dict[str, Path],
    model: Models,
    images: Images,
    calibration: Calibration,
    reference: Reference,
) -> None:
    loaded = format.load(files["stablehlo" if format is stablehlo else "onnx"])
    for shape, limit in (((3, 16, 16), 1e-6), ((1, 40, 56), 1e-3)):
        image_BHWC = images(*shape)
        found = loaded.call(image_BHWC)
        wanted_BC = reference(model("simple_cnn"), calibration, image_BHWC)
        np.testing.assert_allclose(found["probabilities"], wanted_BC, atol=limit)
        assert found["logits"].shape == wanted_BC.shape
    about = loaded.description
    assert about["classes"] == ["bkl", "mel", "nv"]
    assert about["descriptions"][1] == "melanoma"
    assert about["threshold"] == {"positive": ["mel"], "threshold": 0.4}
    assert about["calibration"] == calibration.to_json()
    assert "not for diagnosis" in about["disclaimer"]


def test_probabilities_below_float32s_least_are_calibrated_as_the_table_is(model: Models) -> None:
    made = model("simple_cnn")
    made.variables["params"]["head"]["logits"]["bias"][:] = (0, 200, 0)
    calibration = Calibration("temperature", (0.05,) * 3, (0.0,) * 3)
    image_BSSC = np.zeros((1, 16, 16, 3), np.float32)
    outputs = jax.jit(network.create(made, calibration).outputs)(image_BSSC)
    probability_BC = np.asarray(jax.nn.softmax(outputs["logits"]))
    assert probability_BC.min() == 0
    np.testing.assert_allclose(
        outputs["probabilities"], calibration.apply(probability_BC), rtol=1e-4
    )


def test_onnx_of_a_network_with_pooling_and_batch_norm(
    write: Write, model: Models, images: Images, reference: Reference, tmp_path: Path
) -> None:
    made = model("resnet18", 32, model__width=8)
    write(onnx_file, tmp_path / "a.onnx", made, identity(3))
    image_BHWC = images(2, 32, 32)
    found = onnx_file.load(tmp_path / "a.onnx").call(image_BHWC)["probabilities"]
    np.testing.assert_allclose(found, reference(made, identity(3), image_BHWC), atol=1e-5)
    operators = [node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node]
    assert operators.count("MaxPool") == 1
    assert operators.count("Resize") == 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_half_the_size(
    write: Write, dtype: str, model: Models, images: Images, tmp_path: Path, files: dict[str, Path]
) -> None:
    made, image_BHWC = model("simple_cnn"), images(4, 16, 16)
    path = tmp_path / "half"
    exported = write(onnx_file, path, made, identity(3), dtype)
    assert path.stat().st_size < 0.75 * files["onnx"].stat().st_size
    wanted = jax.jit(exported.outputs)(image_BHWC)["logits"]
    found = onnx_file.load(path).call(image_BHWC)["logits"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    whole = jax.jit(network.create(made, identity(3)).outputs)(image_BHWC)["logits"]
    assert 1e-5 < np.abs(found - whole).max() < 0.1
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    assert getattr(onnx.TensorProto, dtype.upper()) in kinds


def test_a_weight_too_large_for_float16_is_named(model: Models) -> None:
    made = model("simple_cnn")
    made.variables["params"]["head"]["logits"]["kernel"][0, 0] = 1e5
    with pytest.raises(InputError, match=r"head/logits/kernel has a weight of 1e\+05.*bfloat16"):
        network.create(made, identity(3), "float16")
    network.create(made, identity(3), "bfloat16")


def test_patient_metadata_is_a_second_input(
    write: Write, model: Models, images: Images, reference: Reference, tmp_path: Path
) -> None:
    made = model("simple_cnn", metadata__features=("age", "sex"), metadata__width=4)
    assert made.encoder is not None
    row = made.encoder.encode([{"age": 70.0, "sex": "male"}])
    image_BHWC = images(1, 16, 16)
    wanted = reference(made, identity(3), image_BHWC, row)
    for format in (onnx_file, stablehlo):
        path = tmp_path / "a"
        write(format, path, made, identity(3))
        loaded = format.load(path)
        found = loaded.call(image_BHWC, row)["probabilities"]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        about = loaded.description["patient_metadata"]
        assert about["columns"] == list(made.encoder.names)
        assert about["missing"] == [0, 1, 0, 0, 1]
        missing = np.array([about["missing"]], np.float32)
        assert np.abs(loaded.call(image_BHWC, missing)["logits"] - loaded.call(image_BHWC, row)[
            "logits"]).max() > 1e-3  # fmt: skip


def test_steps_that_only_opencv_does_are_left_outside(
    write: Write, model: Models, images: Images, reference: Reference, tmp_path: Path
) -> None:
    made = model("simple_cnn", data__preprocess={"clahe": True})
    image_BHWC = images(2, 30, 40)
    wanted = reference(made, identity(3), image_BHWC)
    resized = np.stack([made.preprocess(one) for one in image_BHWC])
    for format in (onnx_file, stablehlo):
        path = tmp_path / "a"
        write(format, path, made, identity(3))
        loaded = format.load(path)
        assert loaded.description["outside"] == ["clahe"]
        assert "clahe" in loaded.description["image"]
        np.testing.assert_allclose(loaded.call(resized)["probabilities"], wanted, atol=1e-5)
        with pytest.raises(Exception, match=r"(?i)dimension|shape"):
            loaded.call(image_BHWC)


def test_safetensors_has_timms_names_in_pytorchs_order(
    write: Write, model: Models, tmp_path: Path
) -> None:
    made = model("resnet18", 32, model__width=8)
    path = tmp_path / "a.safetensors"
    write(timm_file, path, made, identity(3), "bfloat16")
    with safetensors.safe_open(path, framework="np") as file:
        names = set(file.keys())
        kernel = file.get_tensor("layer2.0.downsample.0.weight")
        about = json.loads(file.metadata()["skinjax"])
    assert {"conv1.weight", "bn1.running_mean", "layer4.1.bn2.bias", "fc.weight"} <= names
    own = made.variables["params"]["backbone"]["layer2"]["block0"]["downsample_conv"]["kernel"]
    np.testing.assert_allclose(kernel[5, 3, 0, 0].astype(np.float32), own[0, 0, 3, 5], rtol=0.01)
    assert kernel.dtype.name == "bfloat16"
    assert about["tensors"]["head"] == "timm's name, fc"
    assert about["tensors"]["timm"] is None  # of this width timm has none
    loaded = timm_file.load(path, made)
    kept = network.create(made, identity(3), "bfloat16").variables
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, jax.tree.map(np.float32, kept))


def test_a_head_that_timm_lacks_keeps_its_names(
    write: Write, model: Models, tmp_path: Path
) -> None:
    head = (("dense", 4), ("batch_norm",), ("relu",))
    for name, first in (("resnet18", "conv1.weight"), ("simple_cnn", "conv1.conv.weight")):
        made = model(name, 32, model__head=head, model__width=8 if name == "resnet18" else 64)
        path = tmp_path / f"{name}.safetensors"
        write(timm_file, path, made, identity(3))
        with safetensors.safe_open(path, framework="np") as file:
            assert {first, "head.dense_0.weight", "head.batch_norm_1.running_var"} <= set(
                file.keys()
            )
        loaded = timm_file.load(path, made)
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, made.variables)
        assert loaded.description["tensors"]["head"] == "skinjax's names, head.LAYER"


def test_config_json_is_timms_where_timm_has_the_network(model: Models) -> None:
    made = model("vit_small_patch16", 32)
    described = description.describe(made, identity(3), None, "float32")
    config = timm_file.timm_config(timm_file.describe(described, made), made)
    assert config["architecture"] == "vit_small_patch16_224"
    assert config["model_args"] == {"img_size": 32}
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert config["label_names"] == ["bkl", "mel", "nv"]
    narrow = model("resnet18", 32, model__width=8)
    assert "architecture" not in timm_file.timm_config(described, narrow)


def test_weights_of_other_classes_are_refused(files: dict[str, Path], model: Models) -> None:
    made = model("simple_cnn")
    object.__setattr__(made, "classes", ("a", "b", "c"))
    with pytest.raises(InputError, match="has the classes bkl, mel, nv, expected a, b, c"):
        timm_file.load(files["safetensors"], made)


def test_converting_to_onnx_leaves_jax_as_it_was(model: Models) -> None:
    """What jax2onnx leaves of its own in jnp would fail in whatever the process does next."""
    before = dict(vars(jnp))
    made = network.create(model("simple_cnn"), identity(3))
    onnx_file._convert(made, 20)
    assert {name for name, value in before.items() if vars(jnp)[name] is not value} == set()
