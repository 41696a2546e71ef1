"""Which images of another data set a trained model is tested on, and why the rest is left out."""

import collections
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import logging

from skinjax import class_mapping
from skinjax.class_mapping import ClassMapping
from skinjax.errors import InputError
from skinjax.external import data as external_data
from skinjax.external import known_lesions, seen_images
from skinjax.external.data import ExternalData
from skinjax.trained import TrainedModel


@dataclass
class Selection:
    """A data set, and which of its images are predicted.

    Attributes:
      data: where it lies, as given.
      found: what is known of it.
      mapping: of the classes.
      unchecked: why it is not known what the model has seen; '' if it is.
      lesions_unchecked: which images could not be compared by lesion; '' if all were.
      reasons: by the place of a row, why it is left out.
    """

    data: str
    found: ExternalData
    mapping: ClassMapping
    unchecked: str
    lesions_unchecked: str
    reasons: dict[int, str]

    @property
    def places(self) -> list[int]:
        """The rows that are not left out."""
        return [place for place in range(len(self.found.rows)) if place not in self.reasons]

    def counts(self) -> dict[str, int]:
        """How many are left out for each reason, files that can't be read as one."""
        return dict(collections.Counter(reason.split(": ")[0] for reason in self.reasons.values()))

    def check_any_left(self) -> None:
        if len(self.reasons) == len(self.found.rows):
            said = ", ".join(f"{count} {reason}" for reason, count in self.counts().items())
            raise InputError(
                f"no image of {self.data} is left to test on ({said or 'it has none'}): give"
                " images that the model was not trained on, of classes that it has"
            )

    def named(self, place: int, split: str) -> dict[str, Any]:
        """A row for the table of predictions, with an evaluated class as its label."""
        row = self.found.rows[place]
        own = self.mapping.of_data[self.mapping.data_classes.index(row["label"])]
        return {**row, "split": split, "label": self.mapping.classes[own]}

    def summary(self) -> dict[str, Any]:
        """What was tested on, as JSON types."""
        return {
            "data": self.data,
            "dataset": self.found.dataset,
            "num_found": len(self.found.rows),
            "num_predicted": len(self.places),
            "left_out": self.counts(),
            "seen_images_unchecked": self.unchecked,
            "lesions_unchecked": self.lesions_unchecked,
            "num_without_lesion": sum(map(known_lesions.is_unknown, self.found.rows)),
            "classes": list(self.mapping.classes),
            "mapping": self.mapping.lines(),
            "notes": list(self.found.notes),
        }

    def lines(self) -> list[str]:
        """The same for a reader."""
        lines = [f"Data: {self.data} ({self.found.dataset}), {len(self.found.rows)} images"]
        lines += [f"Passed over: {note}" for note in self.found.notes]
        lines += [f"Left out: {n} {why}" for why, n in self.counts().items()]
        if self.reasons:
            lines.append("Each image left out is in [left_out.csv](left_out.csv)")
        if self.unchecked:
            lines.append(
                f"NOT CHECKED is whether the model has seen these images: {self.unchecked}"
            )
        elif self.lesions_unchecked:
            lines.append(
                f"Checked by id and picture. NOT CHECKED by lesion: {self.lesions_unchecked}"
            )
        else:
            lines.append(
                "Checked by id, lesion and picture: no image here was in training or validation"
            )
        return lines + [f"Classes: {line}" for line in self.mapping.lines()]

    def note(self) -> str:
        """One line over the plots."""
        note = f"external test: {len(self.places)} of {len(self.found.rows)} images"
        if self.unchecked:
            return f"{note}; not checked whether seen in training"
        return f"{note}; not all checked by lesion" if self.lesions_unchecked else note

    def left_out_csv(self) -> str:
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["image_id", "label", "reason"])
        for place, reason in sorted(self.reasons.items()):
            row = self.found.rows[place]
            writer.writerow([row["image_id"], row["label"], reason.replace("\r", " ")])
        return buffer.getvalue()


def choose(
    workdir: Path, model: TrainedModel, data: str, dataset: str, mapping: Path | str
) -> Selection:
    """Reads the data set, maps its classes and finds what the model has seen of it."""
    found = external_data.read(data, dataset, model.config.data, model.preprocess)
    own_names_any = not all(map(known_lesions.is_unknown, found.rows))
    found = known_lesions.named(found, model.config.data)
    classes = class_mapping.create(model.classes, found.classes, mapping)
    seen = seen_images.find(workdir, str(model.step), found)
    unknown = set(classes.unknown_to_model)
    reasons = {
        place: f"of a class that the model does not have: {row['label']}"
        for place, row in enumerate(found.rows)
        if row["label"] in unknown
    }
    label_of = dict(zip(found.classes, classes.of_data, strict=True))
    twice = known_lesions.doubles(found.rows, [label_of[row["label"]] for row in found.rows])
    by_lesion = known_lesions.unchecked(found, own_names_any)
    test = Selection(
        data, found, classes, seen.unchecked, by_lesion, reasons | twice | seen.reasons
    )
    for line in classes.lines():
        logging.info("%s", line)
    for reason, count in test.counts().items():
        logging.warning("%d of %d images left out: %s", count, len(found.rows), reason)
    if seen.unchecked:
        logging.warning("not checked what the model has seen of %s: %s", data, seen.unchecked)
    elif by_lesion:
        logging.warning("not checked by lesion what the model has seen of %s: %s", data, by_lesion)
    return test
