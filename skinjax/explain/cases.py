"""Images of a table of predictions, and maps over them; or the reason why there are none."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import (
    run_data,
    trained,
)
from skinjax.data.prepared import PreparedDataset
from skinjax.errors import InputError, describe_system_error
from skinjax.explain import Explainer


@dataclass(frozen=True)
class Views:
    """What is known of K rows of a table of predictions.

    Attributes:
      image: for each row uint8 (S, S, 3) as the network takes it, or None.
      maps: for each row two Grad-CAM maps float32 (S, S) in [0, 1], or None.
      why: images or maps are not available; '' where all are.
      resolution: rows and columns that a map really has; None without maps.
      stage: whose feature map the maps are of; '' without maps.
      difference: the largest between a probability of the table and the network's own on these
        images; None without maps.
    """

    image: tuple[np.ndarray | None, ...]
    maps: tuple[tuple[np.ndarray, np.ndarray] | None, ...]
    why: str
    resolution: tuple[int, int] | None = None
    stage: str = ""
    difference: float | None = None


def look(
    workdir: Path,
    step: int | None,
    rows: Sequence[Mapping[str, Any]],
    probability_KC: np.ndarray,
    classes: Sequence[str],
    class_K2: np.ndarray,
    *,
    moved: Mapping[str, str | None],
) -> Views:
    """Opens the data and the checkpoint, and finds the images by their ids; never raises for that.

    Args:
      workdir: of the run; one without checkpoints or data has no images.
      step: of the checkpoint that predicted; None where that is not known.
      rows: of the table, with image_id, split, age, sex and site.
      probability_KC: of the table.
      classes: its columns.
      class_K2: the two classes per row whose maps are wanted, integers in [0, C).
      moved: of `config.data`, "raw_dir", "prepared_dir" and "directory", None where it hasn't.
    """
    nothing = (None,) * len(rows)
    if not rows:
        return Views((), (), "")
    try:
        if step is None:
            raise InputError("metrics.json does not say which checkpoint predicted")
        model = trained.load(workdir, str(step))
        if model.classes != tuple(classes):
            raise InputError("the checkpoint has other classes than the table")
        _, prepared = run_data.open_data(
            model.config, model.classes, model.fingerprint, model.workdir, moved
        )
        image = _images(prepared, rows)
    except (InputError, OSError) as error:
        why = describe_system_error(error) if isinstance(error, OSError) else str(error)
        return Views(nothing, nothing, why)
    found = [place for place, one in enumerate(image) if one is not None]
    if not found:
        return Views(nothing, nothing, "the prepared data set has no image of these ids")
    image_NHWC = np.stack([one for one in image if one is not None])
    metadata_NM = None
    if model.encoder is not None:
        metadata_NM = model.encoder.encode([rows[place] for place in found])
    explainer = Explainer(model, "grad_cam")
    own_NC = explainer.probabilities(image_NHWC, metadata_NM)
    first_NHW, second_NHW = (
        explainer.maps(image_NHWC, class_K2[found, side], metadata_NM) for side in (0, 1)
    )
    maps = dict(zip(found, zip(first_NHW, second_NHW, strict=True), strict=True))
    return Views(
        image=tuple(image),
        maps=tuple(maps.get(place) for place in range(len(rows))),
        why="" if len(found) == len(rows) else "the prepared data set has no image of this id",
        resolution=explainer.resolution(),
        stage=explainer.stage,
        difference=float(np.abs(own_NC - probability_KC[found]).max()),
    )


def step_of(metrics: Mapping[str, Any]) -> int | None:
    """The checkpoint's step that a `metrics.json` names; None if none.

    Versions before this one have it in words alone: "best: step 910, epoch 70".
    """
    step = metrics.get("step")
    if type(step) is int and step >= 0:
        return step
    words = metrics.get("checkpoint")
    named = re.search(r"\bstep (\d{1,12})\b", words) if isinstance(words, str) else None
    return int(named[1]) if named else None


def _images(
    prepared: PreparedDataset, rows: Sequence[Mapping[str, Any]]
) -> list[np.ndarray | None]:
    found: list[np.ndarray | None] = [None] * len(rows)
    for split in sorted({row["split"] for row in rows} & set(prepared.counts)):
        place = {row["image_id"]: index for index, row in enumerate(prepared.table(split))}
        wanted = [
            (number, place[row["image_id"]])
            for number, row in enumerate(rows)
            if row["split"] == split and row["image_id"] in place
        ]
        records = prepared.source((split,)).__getitems__([index for _, index in wanted])
        for (number, _), record in zip(wanted, records, strict=True):
            found[number] = record["image"]
    return found
