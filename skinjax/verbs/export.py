"""The verb `export`: write a checkpoint as a file for other programs."""

import argparse
from collections.abc import Sequence
from typing import Any

from skinjax.verbs.arguments import DISCLAIMER, add_run, refuse, start_jax

SUMMARY = "write a checkpoint as StableHLO, ONNX or safetensors"
DESCRIPTION = (
    "Writes a checkpoint as a file for other programs: the calibrated network with its"
    " preprocessing and class names as StableHLO or ONNX, or its weights under timm's names as"
    " safetensors. The file is read back and compared with the checkpoint on real images before it"
    " counts as done; the differences are beside it, in NAME.check.json."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_run(verb)
    verb.add_argument("--format", required=True, metavar="stablehlo|onnx|safetensors", help="which")
    verb.add_argument(
        "--output", required=True, metavar="FILE_OR_DIR",
        help="the file to write, or a folder for model.stablehlo, model.onnx, or"
        " model.safetensors with timm's config.json",
    )  # fmt: skip
    verb.add_argument(
        "--dtype", default="float32", metavar="float32|bfloat16|float16",
        help="of the weights in the file; they are computed with in float32 (default: float32)",
    )  # fmt: skip
    verb.add_argument(
        "--images", metavar="DIR",
        help="images to compare on, in place of the run's data.raw_dir; sixteen of them are taken",
    )  # fmt: skip


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "export", add_flags)
    start_jax()
    from skinjax.export import export

    done = export(
        arguments.workdir,
        arguments.output,
        format=arguments.format,
        which=arguments.checkpoint,
        dtype=arguments.dtype,
        image_folder=arguments.images,
    )
    print(f"{done['path']}: step {done['step']}, {done['bytes'] / 1e6:.1f} MB, {done['dtype']}")
    print("\n".join(_lines(done)))
    print(DISCLAIMER)


def _lines(done: dict[str, Any]) -> list[str]:
    """What was compared, in words."""
    resized, originals = done["from_resized"], done["from_originals"]
    lines = [
        f"read back and compared on {done['num_images']} images"
        f" ({', '.join(done['image_sizes'])}): probabilities from resized images differ by up to"
        f" {resized['probabilities']:.1e} (limit {resized['limit']:.0e}), from the originals by up"
        f" to {originals['greatest']:.1e}, {originals['mean']:.1e} in the mean;"
        f" {originals['same_class']:.1%} are of the same class"
    ]
    if done["outside"]:
        lines.append(
            f"{', '.join(done['outside'])} and the resizing are OpenCV's and not inside: the file"
            " takes images that are preprocessed (skinjax.data.preprocess)"
        )
    if done["format"] == "safetensors":
        lines.append("weights only: the file's description says what is done before and behind")
    if done["calibration"] == "none":
        lines.append(
            "the checkpoint has no calibration, so probabilities are softmax's; see: calibrate"
        )
    return lines
