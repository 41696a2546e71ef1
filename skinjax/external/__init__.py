"""An external test: a trained model on a data set of another make, its classes mapped.

For research and education, not for diagnosis.
"""

import dataclasses
import itertools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from scipy.special import softmax
from tqdm import tqdm

from skinjax import calibration, evaluation_files, logs, test_time, trained
from skinjax import workdir as workdir_lib
from skinjax.calibration import Calibration
from skinjax.errors import InputError
from skinjax.external import report as external_report
from skinjax.external import selection
from skinjax.external.selection import Selection
from skinjax.predict import outputs
from skinjax.trained import TrainedModel


def evaluate(
    workdir: Path | str,
    data: Path | str,
    *,
    which: str = "best",
    dataset: str = "",
    mapping: Path | str = "",
    name: str = "",
    tta: str = "none",
    num_resamples: int = evaluation_files.NUM_RESAMPLES,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Evaluates a checkpoint on a data set that it was not trained on.

    Left out are images that the run was trained or validated on (`seen_images.find`), images of
    classes that the model does not have (`class_mapping`), images with two labels and further rows
    of one (`known_lesions.doubles`), and files that can't be read: all of them are listed in
    `left_out.csv`, and counted in the report.

    Writes `evaluation/external_<name>/` (with views `external_<name>_<tta>/`) as `evaluate` writes
    a split, and external.md and external.json beside, where the metrics stand next to those of the
    internal test, in the same classes.

    Args:
      workdir: of the run.
      data: the folder of the published files, several joined with os.pathsep; or of a prepared
        data set.
      which: "best", "latest" or a step.
      dataset: the published layout, one of `config.data.dataset`; '' is told by the files.
      mapping: a file, see `class_mapping_file.read`; '' is by the known tables.
      name: of the folder; '' is that of `data`.
      tta: the views of an image to take the mean over, one of `test_time.KINDS`.
      num_resamples: of the bootstrap; 0 is no intervals.
      batch_size: images at once; changes nothing but memory and speed.

    Returns:
      The metrics, as in `metrics.json`, with the key `external`.

    Raises:
      InputError: there is no such run, checkpoint, data or mapping, no image is left, or a number
        is negative.
    """
    test_time.check(tta)
    if num_resamples < 0:
        raise InputError(f"--num_resamples={num_resamples} is negative; give 0 or more")
    if batch_size < 1:
        raise InputError(f"--batch_size={batch_size} is too small; give 1 or more")
    workdir = Path(workdir)
    split = f"external_{_checked_name(name or Path(data).name)}"
    split += "" if tta == "none" else f"_{tta}"
    model = trained.load(workdir, which)
    test = selection.choose(workdir, model, str(data), dataset, mapping)
    probability_NC = _predict(model, test, tta, batch_size)
    test.check_any_left()

    rows = [test.named(place, split) for place in test.places]
    label_N = np.array([test.mapping.classes.index(row["label"]) for row in rows])
    own = calibration.load(workdir, model.step, model.classes) if tta == "none" else None
    table = external_report.table(rows, probability_NC, label_N, test.mapping, own)
    uncalibrated = _why_uncalibrated(test, own, tta)
    directory = workdir_lib.evaluation_dir(workdir, split)
    directory.mkdir(parents=True, exist_ok=True)
    logs.write_text(directory / "left_out.csv", test.left_out_csv())
    title = f"{model.config.model.name} on {split.removeprefix('external_')} (external test)"
    checkpoint = f"{which}: step {model.step}, epoch {model.epoch:g}"
    result = evaluation_files.write(
        directory,
        split,
        rows,
        table.probability_NK,
        test.mapping.classes,
        title=title,
        checkpoint=checkpoint,
        split_counts=None,
        # Where probabilities are added up, the model's own calibration has no place any more.
        calibration=None if uncalibrated else own,
        num_resamples=num_resamples,
        extra={
            "step": model.step,
            "test_time_augmentation": tta,
            "external": {**test.summary(), "uncalibrated": uncalibrated},
        },
        note=test.note(),
    )
    compared = _compare(workdir, model, test, table, own, tta=tta, num_resamples=num_resamples)
    logs.write_json(directory / "external.json", {**test.summary(), **compared})
    about = [f"Checkpoint: {checkpoint}", *test.lines(), *_views_line(tta)]
    about += [f"Calibrated figures are not in metrics.json: {uncalibrated}"] if uncalibrated else []
    logs.write_text(directory / "external.md", external_report.markdown(title, about, compared))
    return result


def _predict(model: TrainedModel, test: Selection, tta: str, batch_size: int) -> np.ndarray:
    """Probabilities (N, C) of what can be read, in order; the rest goes to the test's reasons."""
    if tta != "none":
        fields = {one.name: getattr(model, one.name) for one in dataclasses.fields(model)}
        model = _WithViews(**fields, tta=tta)
    runner = outputs.Runner(model, batch_size=batch_size)
    places = test.places
    said = itertools.chain.from_iterable(runner.batches(test.found.prepared(runner, places)))
    shown = tqdm(
        zip(places, said, strict=True), desc="predicting", unit="image", total=len(places),
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
    logits_N = []
    for place, output in shown:
        if output.error:
            test.reasons[place] = f"can't be read: {output.error}"
            logging.warning("left out: %s", output.error)
        else:
            logits_N.append(output.logits_C)
    if not logits_N:
        return np.empty((0, len(model.classes)))
    return np.asarray(softmax(np.array(logits_N, np.float64), axis=1))


def _compare(
    workdir: Path,
    model: TrainedModel,
    test: Selection,
    table: external_report.Table,
    own: Calibration | None,
    *,
    tta: str,
    num_resamples: int,
) -> dict[str, Any]:
    """The metrics of the external test and, if its predictions are there, of the internal one."""
    internal, missing = external_report.read_internal(
        workdir, "test" if tta == "none" else f"test_{tta}", model.step, test.mapping, own
    )
    classes = test.mapping.classes
    return {
        "external": external_report.assess(table, classes, num_resamples),
        "internal": internal and external_report.assess(internal, classes, num_resamples),
        "internal_missing": missing,
    }


def _why_uncalibrated(test: Selection, own: Calibration | None, tta: str) -> str:
    """Why metrics.json has nothing after calibration; '' where it has."""
    if tta != "none":
        return "the mean over views is not what the checkpoint's calibration was fitted to"
    if own is None:
        return "the checkpoint has no calibration, run `skinjax calibrate`"
    if test.mapping.merges_model:
        return (
            "classes of the model are added up, which its predictions table has done before any"
            " calibration; external.json has the figures of calibrating first"
        )
    return ""


def _views_line(tta: str) -> list[str]:
    if tta == "none":
        return []
    return [f"Mean over {test_time.num_views(tta)} views of each image ({tta}), not calibrated"]


def _checked_name(name: str) -> str:
    """A name for the folder: as given, if it can be one."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-")[:60]
    if not name:
        raise InputError("--name is empty: give the test a name of letters and digits")
    return name


@dataclass(frozen=True)
class _WithViews(TrainedModel):
    """A model whose logits are of the mean over an image's views."""

    tta: str = "none"

    def forward(self) -> Callable[..., dict[str, jax.Array]]:
        plain = super().forward()

        def averaged(
            variables: Any, image_BHWC: jax.Array, metadata_BM: jax.Array | None = None
        ) -> dict[str, jax.Array]:
            def logits(view_BHWC: jax.Array) -> jax.Array:
                return plain(variables, view_BHWC, metadata_BM)["logits_BC"]

            logits_BC = test_time.mean_logits(logits, image_BHWC.astype(jnp.float32), self.tta)
            return {"logits_BC": logits_BC, "features_BD": logits_BC[:, :1]}

        return averaged
