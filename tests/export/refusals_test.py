"""Files that are no exports, damaged ones, and those that would do harm: each is refused."""

import dataclasses
import json
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from jax import export as jax_export

from skinjax.calibration import identity
from skinjax.errors import InputError
from skinjax.export import description, onnx_file, onnx_pooling, stablehlo, timm_file
from skinjax.trained import TrainedModel

SCRIPT = str(Path(__file__).parents[2] / "scripts" / "predict_onnx.py")

Models = Callable[..., TrainedModel]

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "no file of its kind": lambda data: b"\x80\x04pickle" * 99,
    "a bit": lambda data: data[:-5000] + bytes([data[-5000] ^ 255]) + data[-4999:],
}


@pytest.mark.parametrize(
    ("format", "damage"),
    # The others have no checksum: another weight is as good as the first.
    [(format, damage) for format in ("stablehlo", "onnx", "safetensors") for damage in DAMAGE
     if format == "stablehlo" or damage != "a bit"],
)  # fmt: skip
def test_damaged_files_are_told(
    format: str, damage: str, files: dict[str, Path], model: Models, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{format}"
    path.write_bytes(DAMAGE[damage](files[format].read_bytes()))
    load: dict[str, Callable[[Path], Any]] = {
        "stablehlo": stablehlo.load,
        "onnx": onnx_file.load,
        "safetensors": lambda path: timm_file.load(path, model("simple_cnn")),
    }
    with pytest.raises(InputError, match=str(path)):
        load[format](path)


def repack(source: Path, target: Path, function: bytes, **described: Any) -> None:
    with zipfile.ZipFile(source) as archive:
        about = json.loads(archive.read("description.json"))
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("description.json", json.dumps({**about, **described}))
        archive.writestr("function.jax_export", function)


def test_a_function_that_is_no_export_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a"
    repack(files["stablehlo"], path, b"\x00" * 1000)
    with pytest.raises(InputError, match="its function can't be read"):
        stablehlo.load(path)
    with zipfile.ZipFile(files["stablehlo"]) as archive:
        function = archive.read("function.jax_export")
    repack(files["stablehlo"], path, function, **TWO)
    with pytest.raises(InputError, match="for 2 classes"):
        stablehlo.load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("description.json", b"0" * 1000)
    with pytest.raises(InputError, match="is compressed"):
        stablehlo.load(path)


CALL = """    %evil = stablehlo.custom_call @"xla_ffi_python_cpu_c\\61llback"() {
        api_version = 4 : i32, backend_config = {index = 12345678 : ui64}, has_side_effect = true
    } : () -> tensor<f32>
"""


def test_a_function_that_jumps_out_of_xla_is_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    @jax.jit
    def predict(image_BHWC: jax.Array) -> dict[str, jax.Array]:
        zeros_BC = jnp.zeros((image_BHWC.shape[0], 3))
        return {"probabilities": zeros_BC, "logits": zeros_BC}

    shape = jax_export.symbolic_shape("batch, height, width, 3")
    exported = jax_export.export(predict)(jax.ShapeDtypeStruct(shape, np.uint8))
    text = exported.mlir_module()
    place = text.rindex("\n", 0, text.rindex("return")) + 1
    harmful = dataclasses.replace(
        exported, mlir_module_serialized=(text[:place] + CALL + text[place:]).encode()
    )
    data = bytes(harmful.serialize())
    assert b"callback" not in data  # written so that no search of the text finds it
    path = tmp_path / "a"
    repack(files["stablehlo"], path, data)
    with pytest.raises(InputError, match="calls 'xla_ffi_python_cpu_callback', as no export does"):
        stablehlo.load(path)
    repack(files["stablehlo"], path, bytes(exported.serialize()))
    stablehlo.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "says nothing of itself"),
        ("", "says nothing of itself"),
        ("{", "isn't JSON"),
        ("[" * 100_000, "isn't JSON"),
        ('{"format": NaN}', "isn't JSON"),
        ("[]", "lacks classes"),
        ('{"format": 1, "classes": ["a", "a"]}', "lacks classes"),
    ],
)
def test_a_description_that_is_none_is_refused(text: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        description.parse(text, "a.onnx")


def test_a_description_of_a_later_format_or_with_contradictions_is_refused(model: Models) -> None:
    described = description.describe(model("simple_cnn"), identity(3), None, "float32")
    assert description.parse(description.to_text(described), "a") == described
    with pytest.raises(InputError, match="format 2, expected 1"):
        description.parse(description.to_text({**described, "format": 2}), "a")
    for change in ({"classes": ["a", "a", "b"]}, {"descriptions": ["a"]}, {"image_size": 10**6}):
        with pytest.raises(InputError, match="lacks classes, descriptions, image_size"):
            description.parse(description.to_text({**described, **change}), "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": None}, "outputs of its description"),
        ({"outputs": 5}, "outputs of its description"),
        ({"threshold": "x"}, "threshold of its description"),
        ({"threshold": {"positive": ["zzz"], "threshold": 0.5}}, "threshold of its"),
        ({"threshold": {"positive": ["mel"], "threshold": 1e9}}, "threshold of its"),
        ({"patient_metadata": 3}, "patient_metadata of its"),
        ({"patient_metadata": {"columns": ["age"], "missing": ["0"]}}, "patient_metadata of its"),
        ({"patient_metadata": {"columns": ["age"], "missing": [0, 1]}}, "patient_metadata of its"),
        ({"disclaimer": ["x"]}, "disclaimer of its description"),
        ({"outside": [1]}, "lacks classes"),
    ],
)
def test_a_description_whose_values_cannot_be_used_is_refused(
    model: Models, change: dict[str, Any], message: str
) -> None:
    described = description.describe(model("simple_cnn"), identity(3), None, "float32")
    with pytest.raises(InputError, match=message):
        description.parse(description.to_text({**described, **change}), "a")


TWO: dict[str, Any] = {"classes": ["a", "b"], "descriptions": ["a", "b"], "threshold": None}
# Those that scripts/predict_onnx.py refuses on its own.
BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no description": lambda about: None,
    "no JSON": lambda about: "{",
    "a list": lambda about: [],
    "no classes": lambda about: {**about, "classes": None},
    "two classes": lambda about: {**about, **TWO},
    "no metadata": lambda about: {k: v for k, v in about.items() if k != "patient_metadata"},
    "threshold of text": lambda about: {**about, "threshold": "x"},
    "threshold of no class": lambda about: {
        **about,
        "threshold": {"positive": ["z"], "threshold": 0.1},
    },
}


@pytest.mark.parametrize("fault", BROKEN)
def test_an_onnx_file_that_says_something_else_of_itself_is_refused(
    fault: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, path = onnx.load(files["onnx"]), tmp_path / "a.onnx"
    about = BROKEN[fault](json.loads(made.metadata_props[0].value))
    del made.metadata_props[:]
    if about is not None:
        text = about if isinstance(about, str) else json.dumps(about)
        onnx.helper.set_model_props(made, {"skinjax": text})
    onnx.save(made, path)
    with pytest.raises(InputError, match=str(path)):
        onnx_file.load(path)
    monkeypatch.setattr("sys.argv", ["predict_onnx.py", str(path), str(tmp_path)])
    with pytest.raises(
        SystemExit, match=r"a\.onnx is no export of skinjax, or is damaged \([^\n]*$"
    ):
        runpy.run_path(SCRIPT, run_name="__main__")


def test_an_onnx_file_cannot_name_others(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, path = onnx.load(files["onnx"]), tmp_path / "a.onnx"
    onnx.save(made, path, save_as_external_data=True, location="others", size_threshold=400)
    assert (tmp_path / "others").stat().st_size > 1000
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"External data path does not exist"):
        onnx_file.load(path)
    monkeypatch.setattr("sys.argv", ["predict_onnx.py", str(path), str(tmp_path)])
    with pytest.raises(SystemExit, match="External data path does not exist"):
        runpy.run_path(SCRIPT, run_name="__main__")
    for content in (b"", b"\0\1\2" * 99):
        path.write_bytes(content)
        with pytest.raises(SystemExit, match="can't be read as ONNX"):
            runpy.run_path(SCRIPT, run_name="__main__")


@pytest.mark.parametrize("fault", ["window", "shape"])
def test_a_pooling_of_another_form_is_named(fault: str) -> None:
    make, axes = onnx.helper.make_node, ["axes"]
    window = [1, 2, 2, 2 if fault == "window" else 1]
    nodes = [
        make("Unsqueeze", ["image", *axes], ["a"]), make("Unsqueeze", ["a", *axes], ["b"]),
        make("MaxPool", ["b"], ["c"], "pool_7", kernel_shape=window),
        make("Squeeze" if fault == "window" else "Relu", ["c"], ["d"]),
    ]  # fmt: skip
    with pytest.raises(InputError, match="operator MaxPool, pool_7 with the window"):
        onnx_pooling.mend(onnx.helper.make_graph(nodes, "network", [], []))
