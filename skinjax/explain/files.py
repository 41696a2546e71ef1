"""Maps of image files: a PNG for each, and a table of them."""

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from absl import logging

from skinjax import calibration, logs, plots, trained
from skinjax.config import nearest
from skinjax.data import images
from skinjax.errors import InputError, describe_system_error
from skinjax.explain import DESCRIPTIONS, Explainer, sanity
from skinjax.plots import explanation
from skinjax.predict import image_files
from skinjax.trained import TrainedModel

TABLE = "explanations.csv"
COLUMNS = (
    "image", "predicted", "probability_predicted", "target", "probability_target", "map", "error",
)  # fmt: skip
PREDICTED = "predicted"

_SHOWN = 336  # pixels of an image's side in the figure, at least where the file has them
_SANITY_IMAGES = 16


@dataclass(frozen=True)
class _Item:
    """An image file that was read: as the network takes it, and as it is shown."""

    path: Path
    image_HWC: np.ndarray
    shown_HWC: np.ndarray


@dataclass(frozen=True)
class Result:
    """What `explain_files` wrote.

    Attributes:
      table: the CSV file.
      num_maps: images that have a map.
      errors: a line for each image that could not be read.
      sanity: the sanity check in words; '' where it was not asked for.
    """

    table: Path
    num_maps: int
    errors: tuple[str, ...]
    sanity: str


def explain_files(
    workdir: Path | str,
    patterns: Sequence[str],
    output: Path | str,
    *,
    method: str = "grad_cam",
    target: str = PREDICTED,
    which: str = "best",
    stage: str = "",
    sanity_check: bool = False,
) -> Result:
    """Writes a map over each image, and `explanations.csv`; files that can't be read have a row.

    Patient metadata, for a model that takes them, count as missing.

    Args:
      workdir: of the trained model.
      patterns: files, folders (with all below them) or glob patterns.
      output: a folder, made if missing.
      method: one of `explain.METHODS`.
      target: the class whose map is wanted, or "predicted": each image's own.
      which: "best", "latest" or a step.
      stage: whose feature map Grad-CAM looks at; "" is `grad_cam.find_stage`'s choice.
      sanity_check: test on the first images whether the maps depend on the learned weights.

    Raises:
      InputError: there is no such model, method, stage or class, a pattern matches nothing, no
        image at all can be read, or `output` can't be a folder.
    """
    paths = list(dict.fromkeys(image_files.find(patterns)))
    model = trained.load(workdir, which)
    if target != PREDICTED and target not in model.classes:
        raise InputError(
            f"--target={target} is neither {PREDICTED} nor one of the classes "
            f"{', '.join(model.classes)}{nearest(target, model.classes)}"
        )
    calibrated = calibration.load(model.workdir, model.step, model.classes)
    explainer = Explainer(model, method, stage=stage, calibration=calibrated)
    output = _made(Path(output))
    rows: list[dict[str, str]] = []
    checked = ""
    taken: set[str] = set()
    for batch in _batches(_read(model, paths, rows), _SANITY_IMAGES):
        image_NHWC = np.stack([item.image_HWC for item in batch])
        probability_NC = explainer.probabilities(image_NHWC)
        class_N = probability_NC.argmax(axis=1)
        if target != PREDICTED:
            class_N = np.full(len(batch), model.classes.index(target))
        if sanity_check and not checked:
            cascade = sanity.cascade(explainer, image_NHWC, class_N, key=jax.random.key(0))
            checked = sanity.report(cascade, explainer.resolution())
        map_NHW = explainer.maps(image_NHWC, class_N)
        for item, probability_C, label, map_HW in zip(
            batch, probability_NC, class_N.tolist(), map_NHW, strict=True
        ):
            name = _free_name(item.path, method, taken)
            figure = _figure(explainer, item, probability_C, label, map_HW, calibrated is not None)
            logs.write_bytes(output / name, explanation.png(figure))
            rows.append(_row(model, item.path, probability_C, label, name))
    order = {str(path): number for number, path in enumerate(paths)}
    rows.sort(key=lambda row: order[row["image"]])
    errors = tuple(row["error"] for row in rows if row["error"])
    if len(errors) == len(rows):
        raise InputError(f"none of the {len(rows)} images can be read; the first: {errors[0]}")
    _write_table(output / TABLE, rows)
    return Result(output / TABLE, len(rows) - len(errors), errors, checked)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"--output={folder} can't be a folder, a file is in the way; give another"
        ) from None
    except OSError as error:
        raise InputError(f"can't write to --output: {describe_system_error(error)}") from None
    return folder


def _read(
    model: TrainedModel, paths: Sequence[Path], rows: list[dict[str, str]]
) -> Iterator[_Item]:
    """The images that can be read; for the others a row with the error is added to `rows`."""
    own = model.preprocess
    factor = -(-_SHOWN // own.image_size)
    # The same cut in more pixels: what the network sees of 64 is hard to recognise.
    larger = dataclasses.replace(
        own, image_size=own.image_size * factor, short_side=own.short_side * factor
    )
    for path in paths:
        try:
            image_HWC = images.decode(path)
            yield _Item(path, own(image_HWC), larger(image_HWC))
        except (InputError, OSError) as error:
            logging.warning("%s", error)
            empty = dict.fromkeys(COLUMNS, "")
            rows.append({**empty, "image": str(path), "error": str(error)})


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _figure(
    explainer: Explainer,
    item: _Item,
    probability_C: np.ndarray,
    label: int,
    map_HW: np.ndarray,
    calibrated: bool,
) -> plots.explanation.Figure:
    model = explainer.model
    top = int(probability_C.argmax())
    kind = "calibrated" if calibrated else "not calibrated"
    size = model.image_size
    rows, columns = explainer.resolution()
    caption = (
        f"{item.path.name}\n{model.config.model.name}, step {model.step}; predicted: "
        f"{model.classes[top]}, probability {probability_C[top]:.3f} ({kind})"
    )
    if model.encoder is not None:
        caption += "; patient metadata: missing"
    seen = f"the image; the network takes {size} x {size} pixels of it"
    described = (
        f"{DESCRIPTIONS[explainer.method]}; for {model.classes[label]} "
        f"({probability_C[label]:.3f}); {rows} x {columns} values"
        f"{f' of {explainer.stage}' if explainer.stage else ''}"
    )
    return explanation.overlay(item.shown_HWC, map_HW, caption=caption, titles=(seen, described))


def _row(
    model: TrainedModel, path: Path, probability_C: np.ndarray, label: int, name: str
) -> dict[str, str]:
    top = int(probability_C.argmax())
    values = (str(path), model.classes[top], repr(float(probability_C[top])),
              model.classes[label], repr(float(probability_C[label])), name, "")  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _free_name(path: Path, method: str, taken: set[str]) -> str:
    """A name for the map that no other image has, short enough for any file system."""
    stem = os.fsdecode(os.fsencode(path.stem)[:180])
    names = (f"{stem}{number}_{method}.png" for number in ("", *(f"_{n}" for n in range(2, 10**6))))
    name = next(name for name in names if name.lower() not in taken)
    taken.add(name.lower())
    return name


def _write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: " ".join(text.splitlines()) for key, text in row.items()})
    logs.write_bytes(path, buffer.getvalue().encode("utf-8", "replace"))
