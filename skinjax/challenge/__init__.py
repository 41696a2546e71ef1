"""The ISIC challenges' submissions of 2018 (Task 3) and 2019: written, checked, scored.

The rules are those of the organisers' own scorer (github.com/ImageMarkup/isic-challenge-scoring,
read at cf264bc) and of challenge.isic-archive.com/landing/2018/47 and /2019: one row per image, a
confidence in [0, 1] for each class, where above 0.5 counts as yes and rows need not sum to 1. The
goal metric is the balanced accuracy: the mean over the classes of the share of a class's images
whose highest confidence is that class's.
"""

import collections
import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skinjax import class_mapping, logs
from skinjax.config import nearest
from skinjax.data import tables
from skinjax.data.sources import fields
from skinjax.errors import InputError

UNKNOWN = "UNK"
_MOST_BYTES = 64 << 20
EXAMPLES = 5  # ids that a message names


@dataclass(frozen=True)
class Challenge:
    """A challenge's classes: its columns, in the published order."""

    name: str
    title: str
    columns: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the columns but UNK, as the data set's reader calls them."""
        return tuple(name.lower() for name in self.columns if name != UNKNOWN)


_CHALLENGES = (
    Challenge(
        "isic2018",
        "ISIC 2018 Task 3",
        ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"),
    ),
    Challenge(
        "isic2019",
        "ISIC 2019",
        ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", UNKNOWN),
    ),
)
NAMES = tuple(one.name for one in _CHALLENGES)


@dataclass(frozen=True)
class Submission:
    """A checked submission: ids without file ending, and float64 confidences (N, K)."""

    image_ids: tuple[str, ...]
    confidence_NK: np.ndarray


def get(name: str) -> Challenge:
    """The challenge of that name; raises InputError if there is none."""
    for one in _CHALLENGES:
        if one.name == name:
            return one
    raise InputError(f"--challenge={name} is none of {', '.join(NAMES)}{nearest(name, NAMES)}")


def mapping_to(
    challenge: Challenge, classes: Sequence[str], mapping: Path | str = ""
) -> class_mapping.ClassMapping:
    """How a model's classes become the challenge's; several may be added up to one of its.

    Raises:
      InputError: a class of the model is several of the challenge's, which it can't tell apart.
    """
    found = class_mapping.create(classes, challenge.classes, mapping)
    for place, name in enumerate(found.classes):
        several = [
            one for one, own in zip(challenge.classes, found.of_data, strict=True) if own == place
        ]
        if len(several) > 1:
            raise InputError(
                f"the model's {name} is {' and '.join(several)} in {challenge.title}, which the"
                " model can't tell apart: use a model of the challenge's classes, or say with"
                " --mapping=FILE.csv (columns model_class,data_class) which of them it stands for"
            )
    return found


def lines(challenge: Challenge, mapping: class_mapping.ClassMapping) -> list[str]:
    """What of a mapping from `mapping_to` isn't one class of the model for one column, in lines."""
    text = []
    for column, place in zip(mapping.data_classes, mapping.of_data, strict=True):
        names = zip(mapping.model_classes, mapping.of_model, strict=True)
        own = [name for name, of_model in names if of_model == place]
        if not own:
            text.append(f"{column.upper()}: 0.0 for every image, since the model has no such class")
        elif len(own) > 1 or own != [column]:
            text.append(f"{column.upper()}: the model's {' + '.join(own)}")
    if mapping.absent_from_data:
        text.append(
            f"the model's {', '.join(mapping.absent_from_data)}: in no column of {challenge.title}"
        )
    return text


def confidences(
    challenge: Challenge,
    mapping: class_mapping.ClassMapping,
    probability_NC: np.ndarray,
    abstained_N: np.ndarray | None = None,
) -> np.ndarray:
    """A model's probabilities as the columns of a submission, float64 (N, K).

    A column without a class of the model is 0. Where the model abstains, UNK is 1 and the others
    are halved, so that UNK is the highest and no other is above the threshold; else UNK is 0.

    Args:
      challenge: whose columns.
      mapping: from `mapping_to`.
      probability_NC: calibrated, if the model is.
      abstained_N: bool, images too unlike the training data; None if that is not known.
    """
    merged_NK = mapping.merged(probability_NC)
    confidence_NK = np.zeros((len(merged_NK), len(challenge.columns)))
    for name, place in zip(mapping.data_classes, mapping.of_data, strict=True):
        if place >= 0:
            confidence_NK[:, challenge.columns.index(name.upper())] = merged_NK[:, place]
    if UNKNOWN in challenge.columns and abstained_N is not None:
        confidence_NK[abstained_N] /= 2
        confidence_NK[abstained_N, challenge.columns.index(UNKNOWN)] = 1
    # A sum of probabilities may be above 1 by rounding.
    return confidence_NK.clip(0, 1)


def write_submission(
    path: Path, challenge: Challenge, image_ids: Sequence[str], confidence_NK: np.ndarray
) -> None:
    """Writes a submission as published: its header, ids without ending, sorted; atomically.

    Raises:
      InputError: an image id stands twice, or could be no image's name.
      ValueError: the confidences have another shape or are outside [0, 1].
      OSError: the file can't be written; what was there before stays.
    """
    confidence_NK = np.asarray(confidence_NK, np.float64)
    if confidence_NK.shape != (len(image_ids), len(challenge.columns)):
        raise ValueError(f"{len(image_ids)} images, confidences {confidence_NK.shape}")
    if not np.all((confidence_NK >= 0) & (confidence_NK <= 1)):  # NaN is refused, too
        raise ValueError("a confidence is outside [0, 1]")
    for image_id in image_ids:
        fields.check_image_id(image_id, str(path))
    (most_common, count), *_ = collections.Counter(image_ids).most_common(1) or [("", 0)]
    if count > 1:
        raise InputError(
            f"image {most_common} is given {count} times: a submission has one row for each image"
        )
    rows = sorted(zip(image_ids, confidence_NK.tolist(), strict=True))
    lines = [",".join(("image", *challenge.columns))]
    # Always with a point: the organisers' scorer refuses a column of whole numbers.
    lines += [",".join((image_id, *map(repr, values))) for image_id, values in rows]
    logs.write_text(path, "\n".join(lines) + "\n")


def read_submission(path: Path, challenge: Challenge) -> Submission:
    """Reads a submission and checks what the organisers' scorer checks, and that it is a table.

    Columns may come in any order and ids end in `.jpg`, as there.

    Raises:
      InputError: no such file, columns missing or too many, an image twice, or a value that is no
        number in [0, 1], with the first of their lines and how many they are.
    """
    check_size(path)
    _check_header(path, challenge)
    ids: list[str] = []
    values_N: list[list[float]] = []
    first_line: dict[str, int] = {}
    bad: list[str] = []
    whole_K = np.ones(len(challenge.columns), bool)
    for line, (name, *texts) in tables.read(path, ("image", *challenge.columns)):
        image_id = re.sub(r"\.jpg$", "", name, flags=re.IGNORECASE)
        fields.check_image_id(image_id, f"{path}, line {line}")
        fields.note_line(first_line, image_id, path, line)
        values = [number(text) for text in texts]
        wrong = [k for k, value in enumerate(values) if not 0 <= value <= 1]
        bad += [f"line {line}: {challenge.columns[k]} is {fields.short(texts[k])}" for k in wrong]
        whole_K &= [re.fullmatch(r"[+-]?\d+", text) is not None for text in texts]
        ids.append(image_id)
        values_N.append(values)
    if bad:
        more = f" and {len(bad) - EXAMPLES} more" if len(bad) > EXAMPLES else ""
        raise InputError(
            f"{path}: {len(bad)} values are no confidences: {'; '.join(bad[:EXAMPLES])}{more};"
            " expected numbers from 0.0 to 1.0"
        )
    if whole_K.any():
        named = ", ".join(np.array(challenge.columns)[whole_K])
        raise InputError(
            f"{path}: {named} holds whole numbers only, which the challenge's scorer refuses:"
            " write them with a point, 0.0 for 0"
        )
    return Submission(tuple(ids), np.array(values_N))


def check_size(path: Path) -> None:
    """Refuses, before it is read, a file that is missing or too large to be a challenge's table."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    if not path.is_file():
        raise InputError(f"{path} can't be read: it is no file")
    if size > _MOST_BYTES:
        raise InputError(f"{path} has {size} bytes, expected a table of at most {_MOST_BYTES}")


def number(text: str) -> float:
    """The number; NaN where it is none, so that no bound holds for it."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _check_header(path: Path, challenge: Challenge) -> None:
    """The first line must be split by commas, and its names be the very ones."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        header = next(csv.reader([first.rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise InputError(f"{path}, line 1: {error}; expected names of columns") from None
    wanted = ("image", *challenge.columns)
    missing = [name for name in wanted if name not in header]
    extra = [name for name in header if name not in wanted]
    if missing or extra:
        raise InputError(
            f"{path} has the columns {tables.shown(header)}; expected for {challenge.title}, split"
            f" by commas: {','.join(wanted)}"
        )
