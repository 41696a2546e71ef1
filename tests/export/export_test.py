"""Exporting as a whole: checked before it counts, and used without JAX."""

import argparse
import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from skinjax import calibration as calibration_lib
from skinjax import threshold, trained
from skinjax.calibration import Calibration
from skinjax.data import images as image_files
from skinjax.data.images import encode_png
from skinjax.errors import InputError
from skinjax.export import check, export, onnx_file
from skinjax.threshold import Threshold
from skinjax.trained import TrainedModel
from skinjax.verbs import export as verb

SCRIPT = Path(__file__).parents[2] / "scripts" / "predict_onnx.py"


@pytest.fixture
def run(
    tmp_path: Path,
    model: Callable[..., TrainedModel],
    images: Callable[..., np.ndarray],
    calibration: Calibration,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A work directory with a calibration and a threshold, whose checkpoint is in memory."""
    workdir = tmp_path / "run"
    made = model("simple_cnn", data__raw_dir=str(tmp_path / "raw"))
    object.__setattr__(made, "workdir", workdir)
    monkeypatch.setattr(trained, "load", lambda workdir, which: made)
    calibration_lib.save(workdir, made.step, calibration, made.classes, 100)
    (tmp_path / "raw").mkdir()
    for number, size in enumerate([(16, 16), (40, 50), (40, 50)]):
        path = tmp_path / "raw" / f"{number}.png"
        path.write_bytes(encode_png(images(*size)))
    (tmp_path / "raw" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return workdir


def outputs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("run", "raw"))


def test_an_onnx_export_predicts_without_jax(
    run: Path, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], reference: Callable[..., np.ndarray],
    images: Callable[..., np.ndarray], model: Callable[..., TrainedModel],
) -> None:  # fmt: skip
    monkeypatch.setattr(
        threshold,
        "load",
        lambda *arguments: Threshold(("mel",), 0.2, {"sensitivity": 0.9}, None, {}, None),
    )
    parser = argparse.ArgumentParser()
    verb.add_flags(parser)
    output = tmp_path / "out" / "lesions.onnx"
    arguments = [f"--workdir={run}", "--format=onnx", f"--output={output}"]
    verb.run(parser.parse_args(arguments), [])
    told = capsys.readouterr().out
    assert "compared on 3 images (16x16, 50x40)" in told
    assert "not for diagnosis" in told
    compared = json.loads((tmp_path / "out" / "lesions.onnx.check.json").read_text())
    assert compared["from_resized"]["probabilities"] < 1e-6
    assert compared["from_originals"]["greatest"] < 1e-3
    assert compared["calibration"] == "vector"

    grey_HW = (images(40, 50)[..., 0].astype(np.uint16) << 8) + 255
    Image.fromarray(grey_HW).save(tmp_path / "raw" / "grey16.png")
    Image.fromarray(grey_HW.astype(np.float32)).save(tmp_path / "raw" / "float.png", "TIFF")
    # With JAX and this package made impossible to import.
    blocked = "import sys, runpy; sys.modules.update(jax=None, skinjax=None); sys.argv[:] = "
    command = [str(SCRIPT), str(output), str(tmp_path / "raw")]
    code = f"{blocked}{command!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [Path(row["image"]).name for row in rows] == [
        "0.png", "1.png", "2.png", "broken.jpg", "float.png", "grey16.png",
    ]  # fmt: skip
    assert "not for diagnosis" in done.stderr
    assert rows[3]["error"]
    wanted_C = reference(model("simple_cnn"), calibration, images(16, 16)[None])[0]
    found_C = [float(rows[0][f"prob_{name}"]) for name in ("bkl", "mel", "nv")]
    np.testing.assert_allclose(found_C, wanted_C, atol=2e-6)
    assert "floating-point" in rows[4]["error"]
    decoded_HWC = image_files.decode(tmp_path / "raw" / "grey16.png")
    wanted_C = reference(model("simple_cnn"), calibration, decoded_HWC[None])[0]
    found_C = [float(rows[5][f"prob_{name}"]) for name in ("bkl", "mel", "nv")]
    np.testing.assert_allclose(found_C, wanted_C, atol=1e-3)
    wanted_C = reference(model("simple_cnn"), calibration, images(16, 16)[None])[0]
    assert rows[0]["predicted"] == ("bkl", "mel", "nv")[wanted_C.argmax()]
    assert rows[0]["decision"] == ("mel" if wanted_C[1] >= 0.2 else "none")


def test_an_export_that_differs_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "a.onnx"
    output.write_bytes(b"an earlier one")
    write = onnx_file.write

    def wrong(path: Path, *arguments: Any) -> None:
        write(path, *arguments)
        made = onnx.load(path)
        for tensor in made.graph.initializer:
            if len(tensor.dims) == 4:
                array = onnx.numpy_helper.to_array(tensor) * 1.01
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        onnx.save(made, path)

    monkeypatch.setattr(onnx_file, "write", wrong)
    with pytest.raises(InputError, match=r"differs from the model by .* nothing was written"):
        export(run, output, format="onnx")
    assert output.read_bytes() == b"an earlier one"
    assert outputs(tmp_path) == ["a.onnx"]


def test_safetensors_is_a_file_or_a_folder(run: Path, tmp_path: Path) -> None:
    done = export(run, tmp_path / "weights", format="safetensors")
    assert done["path"] == tmp_path / "weights" / "model.safetensors"
    assert outputs(tmp_path / "weights") == [
        "config.json", "model.safetensors", "model.safetensors.check.json",
    ]  # fmt: skip
    assert done["from_originals"]["greatest"] < 1e-6
    export(run, tmp_path / "weights", format="safetensors")  # over its own config.json
    export(run, tmp_path / "a.safetensors", format="safetensors", dtype="float16")
    assert outputs(tmp_path) == ["a.safetensors", "a.safetensors.check.json", "weights"]
    compared = json.loads((tmp_path / "a.safetensors.check.json").read_text())
    assert compared["from_resized"]["probabilities"] < 1e-6
    assert 1e-6 < compared["from_originals"]["greatest"] < 1e-2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "pickle"}, "--format=pickle is none of stablehlo, onnx, safetensors"),
        ({"format": "onnx", "dtype": "int8"}, "--dtype=int8 is none of float32"),
        ({"format": "onnx", "image_folder": "nowhere"}, "nowhere.*pass some by --images"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Path, tmp_path: Path, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        export(run, tmp_path / "a", **arguments)  # type: ignore[arg-type]
    assert outputs(tmp_path) == []


@pytest.mark.parametrize("name", ["weights", "weights/"])
def test_a_runs_config_is_not_written_over(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "weights").mkdir()
    for text in ("{}", "", "[" * 100_000, '{"data": {}, "skinjax": "1"}'):
        (tmp_path / "weights" / "config.json").write_text(text)
        with pytest.raises(InputError, match=r"config.json is not of an export.*NAME\.safetensors"):
            export(run, f"{tmp_path}/{name}", format="safetensors")
        assert outputs(tmp_path / "weights") == ["config.json"]
        assert (tmp_path / "weights" / "config.json").read_text() == text


@pytest.mark.parametrize("output", ["file/a.onnx", "file/b/a.onnx"])
def test_an_output_below_a_file_is_told(run: Path, tmp_path: Path, output: str) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(InputError, match="a file is in the way; give another --output"):
        export(run, tmp_path / output, format="onnx")


def test_a_run_without_images_is_told_to_pass_some(run: Path, tmp_path: Path) -> None:
    trained.load(run, "best").config.data.raw_dir = ""
    with pytest.raises(InputError, match=r"has no data\.raw_dir; pass --images=FOLDER"):
        export(run, tmp_path / "a.onnx", format="onnx")


def test_few_sizes_are_compared(tmp_path: Path, images: Callable[..., np.ndarray]) -> None:
    for number in range(30):
        image_HWC = images(8 + number % 5, 9)
        (tmp_path / f"{number:02}.png").write_bytes(encode_png(image_HWC))
    found = check.find_images([tmp_path])
    assert len(found) == check.NUM_IMAGES
    assert len({image_HWC.shape for image_HWC in found}) == 3


def test_a_folder_of_files_that_are_no_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"no image can be read.*--images=FOLDER"):
        check.find_images([tmp_path])


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(InputError, match="export does not know --fromat=onnx"):
        verb.run(argparse.Namespace(), ["--fromat=onnx"])
