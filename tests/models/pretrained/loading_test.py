"""Tensors into variables: every one in its place, or a line that says which isn't."""

import time
import tracemalloc
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from skinjax.errors import InputError
from skinjax.models.pretrained import Published, load
from skinjax.models.pretrained.normalization import IMAGENET


@pytest.fixture
def save(tmp_path: Path, family: Any) -> Any:
    """Writes tensors to a file and describes it."""

    def save(tensors: dict[str, np.ndarray]) -> Published:
        path = tmp_path / "weights.safetensors"
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        safetensors.numpy.save_file(arrays, path)
        return Published(path, "timm", str(path), "resnet50", "timm", IMAGENET, 64)

    return save


def message(published: Published, variables: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        load(published, variables)
    assert "\n" not in str(caught.value)
    assert str(published.path) in str(caught.value)
    return str(caught.value)


def test_each_tensor_is_where_it_belongs(save, tensors, variables, blank) -> None:
    filled, report = load(save(tensors), blank)
    expected = variables | {"params": variables["params"] | {"head": blank["params"]["head"]}}
    jax.tree.map(np.testing.assert_array_equal, filled, expected)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(filled))
    assert all(leaf.flags.c_contiguous for leaf in jax.tree.leaves(filled))
    assert (report.filled, report.head) == (9, False)
    assert set(report.unused) == {"bn1.num_batches_tracked", "fc.weight", "fc.bias"}
    assert report.unexpected == ()
    assert not blank["params"]["backbone"]["stem"]["token"].any()  # the input is left alone


def test_shapes_are_enough_of_variables(save, tensors, variables, blank) -> None:
    shapes = jax.eval_shape(lambda: blank)
    filled, _ = load(save(tensors), shapes)
    kernel = filled["params"]["backbone"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, variables["params"]["backbone"]["stem"]["conv"]["kernel"])
    assert isinstance(filled["params"]["head"]["logits"]["bias"], jax.ShapeDtypeStruct)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(save, tensors, blank, dtype) -> None:
    narrow = {name: (array / 8192).astype(dtype) for name, array in tensors.items()}
    filled, _ = load(save(narrow), blank)
    bias = filled["params"]["backbone"]["block1"]["dense"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, narrow["blocks.0.fc.bias"].astype(np.float32))


def test_the_head_is_filled_when_it_is_asked_for_and_fits(save, tensors, variables, blank) -> None:
    filled, report = load(save(tensors), blank, with_head=True)
    jax.tree.map(np.testing.assert_array_equal, filled, variables)
    assert report.head
    assert report.unused == ("bn1.num_batches_tracked",)


def test_another_head_stays_fresh(save, tensors, blank) -> None:
    published = save(tensors | {"fc.weight": np.ones((3, 6), np.float32), "fc.bias": np.ones(3)})
    filled, report = load(published, blank, with_head=True)
    assert not report.head
    assert filled["params"]["head"] is not blank["params"]["head"]
    assert not filled["params"]["head"]["logits"]["kernel"].any()
    deeper = blank | {"params": blank["params"] | {"head": {"dense_0": {}, "logits": {}}}}
    assert not load(save(tensors), deeper, with_head=True)[1].head


def test_missing_tensors_are_named_and_counted(save, tensors, blank) -> None:
    del tensors["bn1.running_var"]
    assert "has no tensor 'bn1.running_var' of the 9" in message(save(tensors), blank)
    del tensors["conv1.weight"], tensors["token"]
    text = message(save(tensors), blank)
    assert "has no tensor 'token', nor 2 others of the 9 that resnet50 of variant 'timm'" in text


def test_a_file_of_another_network_stops(save, tensors, blank) -> None:
    renamed = {f"model.{name}": array for name, array in tensors.items()}
    assert "has no tensor 'token', nor 8 others" in message(save(renamed), blank)


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (8, 3, 3, 3), (4, 1, 3, 3), (4, 27)])
def test_a_wrong_shape_is_named(save, tensors, blank, shape) -> None:
    tensors["conv1.weight"] = np.zeros(shape, np.float32)
    text = message(save(tensors), blank)
    assert f"tensor 'conv1.weight' has shape {shape}" in text
    assert "resnet50's backbone/stem/conv/kernel of (3, 3, 3, 4)" in text


def test_a_value_that_is_not_finite_is_named(save, tensors, blank) -> None:
    tensors["bn1.running_var"][2] = np.nan
    assert "tensor 'bn1.running_var' has values that aren't finite" in message(save(tensors), blank)


def test_tensors_without_a_place_are_listed_in_a_warning(save, tensors, blank, caplog) -> None:
    extra = {f"extra.{n}.weight": np.ones(1, np.float32) for n in range(7)}
    extra["AuxLogits.fc.weight"] = np.ones(1, np.float32)
    _, report = load(save(tensors | extra), blank)
    assert len(report.unexpected) == 7
    assert "AuxLogits.fc.weight" in report.unused
    assert "has 7 tensors that resnet50 has no place for: extra.0.weight" in caplog.text
    assert "extra.5.weight" not in caplog.text


def test_a_layer_used_in_part_stops(save, tensors, blank) -> None:
    tensors["conv1.bias"] = np.ones(4, np.float32)
    assert "has 'conv1.bias', which resnet50 of variant 'timm' has no place for in that layer" in (
        message(save(tensors), blank)
    )


def test_the_family_adapts_what_has_another_shape(save, tensors, blank, family) -> None:
    asked: list[tuple] = []

    def adapt(leaf_path: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        asked.append((leaf_path, array.shape, shape))
        return array[:, :1]

    family.adapt = adapt
    tensors["token"] = np.concatenate([tensors["token"]] * 2, 1)
    filled, _ = load(save(tensors), blank)
    assert asked == [("stem/token", (1, 2, 4), (1, 1, 4))]
    assert filled["params"]["backbone"]["stem"]["token"].shape == (1, 1, 4)
    family.adapt = lambda leaf_path, array, shape: array
    assert "tensor 'token' has shape (1, 2, 4)" in message(save(tensors), blank)


def test_a_damaged_file_is_refused(save, tensors, blank) -> None:
    published = save(tensors)
    content = published.path.read_bytes()
    published.path.write_bytes(content[:-30])
    assert "is cut off: tensor" in message(published, blank)


def test_a_large_file_loads_in_no_time_and_little_more_memory_than_its_own(
    tmp_path: Path, family: Any
) -> None:
    """A third of the issue's 100 MB, with slack; scripts/benchmarks/load_weights.py has it all."""
    family.timm_name = lambda layer: layer.replace("/", ".")
    names = [f"dense{number}" for number in range(8)]
    array = np.ones((1000, 1000), np.float32)
    path = tmp_path / "large.safetensors"
    safetensors.numpy.save_file({f"{name}.weight": array for name in names}, path)
    size = path.stat().st_size
    shape = jax.ShapeDtypeStruct(array.shape, np.float32)
    backbone = {name: {"kernel": shape} for name in names}
    variables = {"params": {"backbone": backbone, "head": {}}}
    published = Published(path, "timm", str(path), "resnet50", "timm", IMAGENET, 64)
    tracemalloc.start()
    start = time.process_time()
    load(published, variables)
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 1.6 * size  # the file's own pages, mapped, come on top
