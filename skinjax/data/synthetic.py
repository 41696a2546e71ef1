"""The embedded data set: drawn lesions, written to disk in HAM10000's published layout.

The drawings stand in for dermoscopy, to try the software on; they say nothing about skin.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from skinjax.data.lesion_appearance import APPEARANCES
from skinjax.data.lesion_drawing import paint
from skinjax.data.lesion_photograph import photograph
from skinjax.errors import InputError

# Part of a written data set's settings: raise it when the same seed no longer gives the same files.
VERSION = 1
_SETTINGS_FILE = "synthetic.json"
_COLUMNS = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
_FOLDERS = ("HAM10000_images_part_1", "HAM10000_images_part_2")


@dataclass(frozen=True)
class _Patients:
    """Who has a class of lesion: its share of the data set, ages (mean, sd), dx_type and site."""

    share: float
    age: tuple[float, float]
    dx_type: dict[str, float]
    face: float  # how many are on the face, neck, scalp or ear


# Ages, dx_type and the share on the face are HAM10000's own. There, nevi are 72 % of the lesions
# and df 1 %; of a few hundred that would leave too few of the rare classes to learn or to split.
_PATIENTS = {
    "akiec": _Patients(0.06, (67, 11), {"histo": 1.0}, 0.45),
    "bcc": _Patients(0.09, (67, 14), {"histo": 1.0}, 0.25),
    "bkl": _Patients(0.13, (64, 14), {"histo": 0.70, "consensus": 0.24, "confocal": 0.06}, 0.33),
    "df": _Patients(0.04, (53, 13), {"histo": 0.48, "consensus": 0.52}, 0.01),
    "mel": _Patients(0.13, (61, 15), {"histo": 1.0}, 0.17),
    "nv": _Patients(0.51, (46, 15), {"histo": 0.37, "follow_up": 0.55, "consensus": 0.08}, 0.03),
    "vasc": _Patients(0.04, (51, 22), {"histo": 0.47, "consensus": 0.53}, 0.09),
}
_FACE = {"face": 0.67, "neck": 0.17, "scalp": 0.11, "ear": 0.05}
_BODY = {
    'lower extremity': 0.24, 'back': 0.23, 'trunk': 0.19, 'abdomen': 0.12, 'upper extremity': 0.12,
    'foot': 0.04, 'chest': 0.04, 'hand': 0.01, 'genital': 0.01,
}  # fmt: skip


def write(raw_dir: Path, *, num_lesions: int, image_size: int, seed: int) -> None:
    """Writes the data set: two folders of JPEGs (RGB, `image_size` square), HAM10000_metadata.csv.

    The same arguments give the same files, and leave a data set of theirs that is there already
    alone. A lesion has 1 to 4 images; its pictures and its patient come from its own random stream.

    Raises:
      InputError: fewer than 7 lesions (one for each class), images smaller than 16 pixels, a
        negative seed, or a folder that holds anything but this very data set.
    """
    _check_settings(num_lesions, image_size, seed)
    settings = {
        "num_lesions": num_lesions, "image_size": image_size, "seed": seed, "version": VERSION
    }  # fmt: skip
    if not _is_written(raw_dir, settings):
        _write_files(raw_dir, num_lesions=num_lesions, image_size=image_size, seed=seed)
        # Last, as the sign that all of it is there.
        (raw_dir / _SETTINGS_FILE).write_text(json.dumps(settings) + "\n")


def class_sizes(num_lesions: int) -> dict[str, int]:
    """Returns the number of lesions of each class: half nevi, and of the others 8 or more if 100.

    Below 100 lesions the least number shrinks with them, to one.
    """
    least = max(1, min(8, 8 * num_lesions // 100))
    sizes = {name: max(least, round(row.share * num_lesions)) for name, row in _PATIENTS.items()}
    sizes["nv"] = num_lesions - sum(size for name, size in sizes.items() if name != "nv")
    return sizes


def _check_settings(num_lesions: int, image_size: int, seed: int) -> None:
    if num_lesions < len(_PATIENTS):
        raise InputError(
            f"synthetic.num_lesions is {num_lesions}; it must be {len(_PATIENTS)} or more, "
            "one lesion for each class"
        )
    if image_size < 16:
        raise InputError(f"synthetic.image_size is {image_size}; it must be 16 pixels or more")
    if seed < 0:
        raise InputError(f"synthetic.seed is {seed}; it must be 0 or more")


def _is_written(raw_dir: Path, settings: dict[str, int]) -> bool:
    """Whether `raw_dir` holds this data set; False if it holds nothing; else refuses it."""
    if not raw_dir.exists() or (raw_dir.is_dir() and not any(raw_dir.iterdir())):
        return False
    path = raw_dir / _SETTINGS_FILE
    if not path.is_file():
        raise InputError(
            f"{raw_dir} is in use and holds no complete synthetic data set: name another folder"
        )
    written = path.read_text().strip()
    if written != json.dumps(settings):
        raise InputError(
            f"{raw_dir} holds a synthetic data set of other settings, {written}; expected "
            f"{json.dumps(settings)}: remove it or name another folder"
        )
    return True


def _write_files(directory: Path, *, num_lesions: int, image_size: int, seed: int) -> None:
    for folder in _FOLDERS:
        (directory / folder).mkdir(parents=True, exist_ok=True)
    names = [name for name, size in class_sizes(num_lesions).items() for _ in range(size)]
    # Shuffled, so that neither an id nor a folder tells the class.
    order = np.random.default_rng([seed]).permutation(num_lesions)
    rows: list[dict[str, str]] = []
    for number, name in enumerate(names[place] for place in order):
        rng = np.random.default_rng([seed, number])
        painting_HWC = paint(rng, APPEARANCES[name], image_size)
        patient = _patient(rng, name)
        for _ in range(rng.choice(4, p=(0.62, 0.22, 0.11, 0.05)) + 1):
            row = {"lesion_id": f"SYNL_{number + 1:07d}", "image_id": f"SYN_{len(rows) + 1:07d}"}
            folder = _FOLDERS[0] if number < num_lesions // 2 else _FOLDERS[1]
            path = directory / folder / f"{row['image_id']}.jpg"
            _write_jpeg(path, photograph(rng, painting_HWC, image_size))
            rows.append(row | patient)
    with (directory / "HAM10000_metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _patient(rng: np.random.Generator, name: str) -> dict[str, str]:
    """Draws the columns that go with a lesion of class `name`; a few are missing."""
    patients = _PATIENTS[name]
    age = 5 * round(np.clip(rng.normal(*patients.age), 0, 85) / 5)
    sites = _FACE if rng.random() < patients.face else _BODY
    return {
        "dx": name,
        "dx_type": _draw(rng, patients.dx_type),
        "age": _draw(rng, {f"{age}": 0.98, "": 0.02}),
        "sex": _draw(rng, {"male": 0.54, "female": 0.44, "unknown": 0.02}),
        "localization": _draw(rng, {_draw(rng, sites): 0.96, "unknown": 0.04}),
    }


def _draw(rng: np.random.Generator, odds: dict[str, float]) -> str:
    return str(rng.choice(list(odds), p=list(odds.values())))


def _write_jpeg(path: Path, image_HWC: np.ndarray) -> None:
    # High quality and no chroma subsampling: at this size JPEG's blocks would hide the texture.
    # Not cv2.imwrite, which hides a full disk.
    flags = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
             cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR), flags)
    path.write_bytes(encoded.tobytes())
