"""What readers hand on: one record per image, and what was left out."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Record:
    """One image and what is known of it.

    `image_id` is unique in a reading. `label` is its class's place in `Reading.classes`.
    `lesion_id` is never empty: an image whose lesion is not known is a lesion of its own, under its
    image id, so that nothing downstream can take "unknown" for one big lesion. `patient_id`, `sex`
    and `site` are '' and `age` (years) is None where not known. `split` is the published split
    ('train', 'val' or 'test') of data sets that have one, else ''.
    """

    image_id: str
    path: Path
    label: int
    lesion_id: str
    age: float | None
    sex: str
    site: str
    source: str
    patient_id: str = ""
    split: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row or file that gave no record, and why."""

    image_id: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """What a reader found. `tables` are the files, besides images, that it was read from."""

    records: tuple[Record, ...]
    left_out: tuple[LeftOut, ...]
    classes: tuple[str, ...]
    tables: tuple[Path, ...]
