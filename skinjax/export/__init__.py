"""Leaving JAX: a trained model as one file for other programs, checked before it counts.

- StableHLO (`stablehlo`): for JAX and XLA, from uint8 RGB images of any size.
- ONNX (`onnx_file`): for ONNX Runtime and others, likewise. See scripts/predict_onnx.py.
- safetensors (`timm_file`): the weights alone, under timm's names.

Each has `load`, which gives an object with the file's `description` and `call`.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from skinjax import calibration, logs, trained
from skinjax import threshold as threshold_lib
from skinjax.errors import InputError, describe_system_error
from skinjax.export import check, description, network, onnx_file, stablehlo, timm_file
from skinjax.export.description import Description
from skinjax.export.network import Network

__all__ = ["FORMATS", "export", "onnx_file", "stablehlo", "timm_file"]

# Format to the file that is written into a folder.
FORMATS = {
    "stablehlo": "model.stablehlo",
    "onnx": "model.onnx",
    "safetensors": "model.safetensors",
}


def export(
    workdir: Path | str,
    output: Path | str,
    *,
    format: str,
    which: str = "best",
    dtype: str = "float32",
    image_folder: Path | str | None = None,
) -> dict[str, Any]:
    """Exports a checkpoint, reads the file back, and compares the two on real images.

    Args:
      workdir: that was trained in.
      output: a file, or a folder (it exists, ends in "/", or is of safetensors and doesn't end in
        .safetensors), where the file gets the name in `FORMATS`.
      format: one of `FORMATS`.
      which: "best", "latest" or a step.
      dtype: of the weights: "float32", "bfloat16" or "float16"; it is computed in float32.
      image_folder: to compare on; None is the run's own data.raw_dir.

    Returns:
      What is also written beside the file as NAME.check.json: see `check.compare`.

    Raises:
      InputError: there is no such run, it can't be exported so or to there, there are no images,
        or the two differ: then nothing is written.
    """
    if format not in FORMATS:
        raise InputError(f"--format={format} is none of {', '.join(FORMATS)}")
    target = _target(output, format)
    is_folder = target != Path(output)
    if format == "safetensors" and is_folder:
        timm_file.check_config(target)
    model = trained.load(workdir, which)
    fitted = calibration.load(model.workdir, model.step, model.classes)
    chosen = threshold_lib.load(model.workdir, model.step, model.classes, fitted)
    applied = fitted or calibration.identity(len(model.classes))
    exported = network.create(model, applied, dtype)
    decision = (chosen.positive, chosen.threshold) if chosen else None
    described = description.describe(model, applied, decision, dtype)
    image_list = check.find_images(_folders(image_folder, model.config.data.raw_dir))
    _make(target)
    # Beside the target, so that the renaming is within one file system.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
        written = Path(folder) / target.name
        resizes = format != "safetensors" and not described["outside"]
        _write(written, exported, described, format, is_folder=is_folder)
        loaded = _load(written, exported, format)
        compared = check.compare(loaded, exported, image_list, resizes=resizes)
        result = {
            "file": target.name,
            "format": format,
            "dtype": dtype,
            "bytes": written.stat().st_size,
            "step": model.step,
            "calibration": applied.method,
            "outside": described["outside"],
            **compared,
        }
        logs.write_json(written.with_name(f"{target.name}.check.json"), result)
        for file in sorted(Path(folder).iterdir()):
            os.replace(file, target.parent / file.name)
    return {**result, "path": target}


def _write(
    path: Path, exported: Network, described: Description, format: str, *, is_folder: bool
) -> None:
    if format == "safetensors":
        described = timm_file.describe(described, exported.model)
        timm_file.write(path, exported, described)
        if is_folder:
            timm_file.write_config(path, described, exported.model)
    else:
        (stablehlo if format == "stablehlo" else onnx_file).write(path, exported, described)


def _load(path: Path, exported: Network, format: str) -> check.Export:
    if format == "safetensors":
        return timm_file.load(path, exported.model)
    return stablehlo.load(path) if format == "stablehlo" else onnx_file.load(path)


def _target(output: Path | str, format: str) -> Path:
    target = Path(output)
    named_folder = str(output).endswith("/") or target.is_dir()
    if named_folder or (format == "safetensors" and target.suffix != ".safetensors"):
        return target / FORMATS[format]
    return target


def _make(target: Path) -> None:
    """Makes the folder of the file to write."""
    if target.is_dir():
        raise InputError(f"{target} is a folder; give --output=FILE another name, or remove it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"{target.parent} can't be a folder, a file is in the way; give another --output"
        ) from None
    except OSError as error:
        raise InputError(f"can't write to --output: {describe_system_error(error)}") from None


def _folders(image_folder: Path | str | None, raw_dir: str) -> list[Path | str]:
    if image_folder is not None:
        return [image_folder]
    if not raw_dir:
        raise InputError(
            "an export is checked on real images, and this run has no data.raw_dir; pass"
            " --images=FOLDER"
        )
    return [folder for folder in raw_dir.split(os.pathsep) if folder]
