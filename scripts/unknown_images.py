"""How well images that a model does not know are told: drawn by code, and of a class left out.

    python scripts/unknown_images.py --workdir=runs/effnet
    python scripts/unknown_images.py --workdir=runs/effnet --leave_out=bcc --epochs=8 \
        --work=/tmp/unknown

The first takes a copy of the run's checkpoints, fits both scores of `skinjax.unknown` and compares
the run's own test images with images that show no skin. The second trains the run's config anew on
all classes but one, on data of `ham10000`, `isic2018` or `isic2019`, and compares the test images
of the classes left with all images of the one left out. AUROC says how well a score tells the two
apart; "abstained" is the share that is above the threshold, which is set so that it is 5 % of
validation.

Measured on HAM10000 (the 5,984 images of it at hand, JPEGs of 224 px), a ResNet-18 of width 16 at
64 px; the six kinds are 100 images each. The first is of 24 epochs, and the run's own 897 test
images are abstained on in 6, 6 and 5 %:

| images | either | mahalanobis | energy |
|---|---|---|---|
| noise | 0.997, 100 % | 0.997, 100 % | 0.525, 0 % |
| gradients | 0.998, 99 % | 0.998, 100 % | 0.632, 16 % |
| checkerboards | 1.000, 100 % | 1.000, 100 % | 0.349, 6 % |
| text | 0.999, 100 % | 0.999, 100 % | 0.149, 0 % |
| scenes of blobs and boxes | 1.000, 100 % | 1.000, 100 % | 0.660, 29 % |
| one colour | 1.000, 100 % | 1.000, 100 % | 0.498, 12 % |
| bcc, left out of 8 epochs of training (264) | 0.751, 12 % | 0.582, 5 % | 0.808, 21 % |

So images of no skin are found, and most images of an unknown kind of lesion are not: what looks
like skin with a lesion is given one of the known classes in 9 of 10 cases. Training without bcc
took 100 s of CPU time.
"""

import argparse
import csv
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from ml_collections import ConfigDict
from sklearn.metrics import roc_auc_score

from skinjax import config as config_lib
from skinjax import trained, unknown
from skinjax.data import sources
from skinjax.predict.outputs import Item, Runner
from skinjax.train import train
from skinjax.unknown import fitting as unknown_fit

SIZE = (450, 600)
COUNT = 100  # of each kind that is drawn


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--workdir", type=Path, required=True, help="a trained run; only read")
    parser.add_argument("--leave_out", default="", metavar="CLASS", help="train anew without it")
    parser.add_argument(
        "--epochs", type=int, default=0, help="of that training (default: the run's)"
    )
    parser.add_argument("--work", type=Path, help="folder for that training, kept")
    arguments = parser.parse_args()
    print(f"| images | number | method | AUROC | abstained |\n{'|---' * 5}|")
    if arguments.leave_out:
        folder = arguments.work or Path(tempfile.mkdtemp())
        config = trained.load(arguments.workdir).config
        config.epochs = arguments.epochs or config.epochs
        held_out = leave_out(config, arguments.leave_out, folder)
        measure(folder / "run", {f"class {arguments.leave_out}, not trained on": held_out})
        return
    with tempfile.TemporaryDirectory() as folder_name:
        copy = Path(folder_name) / "run"
        shutil.copytree(arguments.workdir / "checkpoints", copy / "checkpoints")
        generator = np.random.default_rng(0)
        drawn = {name: [draw(generator) for _ in range(COUNT)] for name, draw in KINDS.items()}
        measure(copy, drawn)


def measure(workdir: Path, others: Mapping[str, Iterable[Item]]) -> None:
    """Fits to a run, and prints how well its test images are told from others."""
    unknown.fit(workdir)
    model = trained.load(workdir)
    found = unknown.load(workdir, model.step, model.classes)
    assert found is not None
    runner = Runner(model)
    prepared = unknown_fit.open_data(model, {})
    own = found.every_score(*unknown_fit.split_outputs(runner, prepared, "test"))
    for method in unknown.METHODS:
        threshold = found.thresholds[method]
        _row("the run's own test", own[method], method, None, threshold)
        for name, items in others.items():
            outputs = [one for one in runner.stream(items, with_features=True) if not one.error]
            scores = found.every_score(
                np.array([one.logits_C for one in outputs]),
                np.array([one.features_D for one in outputs]),
            )[method]
            _row(name, scores, method, own[method], threshold)


def _row(
    name: str, score_N: np.ndarray, method: str, own_N: np.ndarray | None, threshold: float
) -> None:
    auroc = ""
    if own_N is not None:
        is_other = np.repeat([False, True], [len(own_N), len(score_N)])
        auroc = f"{roc_auc_score(is_other, np.concatenate([own_N, score_N])):.3f}"
    share = f"{100 * np.mean(score_N > threshold):.0f} %"
    print(f"| {name} | {len(score_N)} | {method} | {auroc} | {share} |", flush=True)


def leave_out(config: ConfigDict, name: str, folder: Path) -> list[Path]:
    """Trains in `folder`/run on all classes but one; returns the files of that one.

    Images, lesions, patient data and splits are those of the config's data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reading = sources.read(config)
    label = reading.classes.index(name)
    columns = ("image", "label", "lesion", "patient", "age", "sex", "site")
    with (folder / "known.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for one in reading.records:
            if one.label != label:
                age = "" if one.age is None else one.age
                words = (one.lesion_id, one.patient_id, age, one.sex, one.site)
                writer.writerow([one.path.name, reading.classes[one.label], *words])
    config.data.update(dataset="csv", table=str((folder / "known.csv").resolve()), split_file="")
    config.data.columns.update({column: column for column in columns})
    config.data.prepared_dir = str(folder / "prepared")
    config.parallel.num_devices = 0
    config_lib.check(config)
    if not (folder / "run" / "checkpoints").is_dir():
        train(config, folder / "run")
    return [one.path for one in reading.records if one.label == label]


def _noise(generator: np.random.Generator) -> np.ndarray:
    """Each pixel for itself, or, as often, blurred to grains of some pixels."""
    image_HWC = generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    if generator.random() < 0.5:
        return image_HWC
    blurred_HWC = cv2.GaussianBlur(image_HWC, (0, 0), generator.uniform(1, 8))
    low, high = int(blurred_HWC.min()), int(blurred_HWC.max())
    return (255.0 * (blurred_HWC - low) / max(1, high - low)).astype(np.uint8)


def _gradient(generator: np.random.Generator) -> np.ndarray:
    """From one colour to another, in any direction."""
    start_C, end_C = generator.uniform(0, 255, (2, 3))
    angle = generator.uniform(0, 2 * np.pi)
    row_H, column_W = (np.linspace(-1, 1, side) for side in SIZE)
    place_HW = np.sin(angle) * row_H[:, None] + np.cos(angle) * column_W
    place_HW = (place_HW - place_HW.min()) / np.ptp(place_HW)
    return (start_C + place_HW[..., None] * (end_C - start_C)).astype(np.uint8)


def _checkerboard(generator: np.random.Generator) -> np.ndarray:
    """Fields of two colours."""
    colours_KC = generator.integers(0, 256, (2, 3), dtype=np.uint8)
    field = generator.integers(8, 100)
    row_H, column_W = (np.arange(side) // field for side in SIZE)
    return np.asarray(colours_KC[(row_H[:, None] + column_W) % 2])


def _text(generator: np.random.Generator) -> np.ndarray:
    """A page of letters, dark on white."""
    image_HWC = np.full((*SIZE, 3), 255, np.uint8)
    scale = generator.uniform(0.5, 1.5)
    for bottom in np.arange(30 * scale, SIZE[0], 32 * scale):
        letters = "".join(chr(code) for code in generator.integers(65, 123, 60))
        place = (10, int(bottom))
        cv2.putText(image_HWC, letters, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), 2)
    return image_HWC


def _scene(generator: np.random.Generator) -> np.ndarray:
    """Coloured blobs and boxes under one light, with a camera's blur and grain."""
    image_HWC = _gradient(generator)
    for _ in range(generator.integers(5, 25)):
        colour = tuple(int(value) for value in generator.integers(0, 256, 3))
        row, column = (int(generator.integers(0, side)) for side in SIZE)
        height, width = (int(value) for value in generator.integers(10, 160, 2))
        if generator.random() < 0.5:
            angle = generator.uniform(0, 360)
            cv2.ellipse(image_HWC, (column, row), (width, height), angle, 0, 360, colour, -1)
        else:
            cv2.rectangle(image_HWC, (column, row), (column + width, row + height), colour, -1)
    image_HWC = cv2.GaussianBlur(image_HWC, (0, 0), generator.uniform(0.5, 3))
    grain_HWC = generator.normal(0, 6, image_HWC.shape)
    return np.clip(image_HWC + grain_HWC, 0, 255).astype(np.uint8)


def _one_colour(generator: np.random.Generator) -> np.ndarray:
    """As a covered lens or a wall gives."""
    return np.broadcast_to(generator.integers(0, 256, 3, dtype=np.uint8), (*SIZE, 3)).copy()


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "gradients": _gradient,
    "checkerboards": _checkerboard,
    "text": _text,
    "scenes of blobs and boxes": _scene,
    "one colour": _one_colour,
}


if __name__ == "__main__":
    main()
