"""The verb `submit`: write a submission to an ISIC challenge."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinjax.errors import InputError
from skinjax.verbs.arguments import DISCLAIMER, add_prediction, add_run, refuse, start_jax

if TYPE_CHECKING:  # it would import JAX
    from skinjax.predict import Prediction

SUMMARY = "write a submission to an ISIC challenge"
DESCRIPTION = (
    "Predicts the images of an ISIC challenge and writes the submission's CSV: the header and"
    " classes of the challenge, a row for each image, calibrated probabilities if the model is"
    " calibrated. UNK of ISIC 2019 is 1.0 where the model abstains, else 0.0."
)
_EXAMPLES = 5  # files that a message names


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_run(verb)
    verb.add_argument(
        "--images",
        required=True,
        nargs="+",
        metavar="FILE|FOLDER|PATTERN",
        help="the challenge's images; their names without ending are the ids",
    )
    verb.add_argument("--challenge", required=True, metavar="isic2018|isic2019", help="which")
    verb.add_argument(
        "--output", required=True, metavar="FILE.csv", help="the submission; one there is lost"
    )
    verb.add_argument(
        "--mapping",
        default="",
        metavar="FILE",
        help="CSV or JSON, model_class to data_class, for a model of other classes",
    )
    add_prediction(verb)


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "submit", add_flags)
    from skinjax import challenge as challenge_lib
    from skinjax.predict import image_files

    # What is wrong in the command shows before anything takes time.
    challenge = challenge_lib.get(arguments.challenge)
    paths = _sorted_images(image_files.find(arguments.images))
    output = Path(arguments.output).expanduser()
    if output.is_dir():
        raise InputError(f"--output={output} is a folder; give the file to write")
    start_jax()
    import numpy as np

    from skinjax.predict import Predictor

    predictor = Predictor(
        Path(arguments.workdir).expanduser(), arguments.checkpoint, batch_size=arguments.batch_size
    )
    classes = predictor.model.classes
    mapping = challenge_lib.mapping_to(challenge, classes, arguments.mapping)
    predicted = _predict(predictor, paths, arguments.metadata)
    probability_NC = np.array([list(one.probabilities.values()) for one in predicted])
    abstained_N = None
    if predictor.unknown is not None:
        abstained_N = np.array([bool(one.abstained) for one in predicted])
    confidence_NK = challenge_lib.confidences(challenge, mapping, probability_NC, abstained_N)
    output.parent.mkdir(parents=True, exist_ok=True)
    challenge_lib.write_submission(output, challenge, [one.stem for one in paths], confidence_NK)
    challenge_lib.read_submission(output, challenge)  # as the organisers will
    print(f"{challenge.title}: {len(paths)} images in {output}")
    for line in challenge_lib.lines(challenge, mapping):
        print(line)
    if predictor.calibration is None:
        print("confidences: not calibrated; the verb calibrate makes them so")
    if challenge_lib.UNKNOWN in challenge.columns:
        print(_about_unknown(abstained_N))
    print(DISCLAIMER)


def _sorted_images(found: Any) -> list[Path]:
    """The files by id; refuses two of one name."""
    paths = sorted(found, key=lambda path: (path.stem, str(path)))
    for one, other in itertools.pairwise(paths):
        if one.stem == other.stem:
            raise InputError(
                f"{one} and {other} have one id, {one.stem}: a submission has one row for each"
                " image, so give each once"
            )
    return paths


def _predict(predictor: Any, paths: Sequence[Path], table: str | None) -> "list[Prediction]":
    """Predicts every image; raises InputError if one can't be read."""
    from tqdm import tqdm

    rows = None
    if table:
        from skinjax.predict.patient_table import PatientTable

        if predictor.model.encoder is None:
            raise InputError(f"--metadata={table}: the model takes no patient metadata")
        patients = PatientTable(Path(table).expanduser())
        rows = (patients.find(path) for path in paths)
    stream = predictor.stream(paths, rows)
    shown = tqdm(stream, total=len(paths), unit="image", disable=not sys.stderr.isatty())
    predicted = list(shown)
    broken = [one for one in predicted if one.error]
    if broken:
        more = f"; and {len(broken) - _EXAMPLES} more" if len(broken) > _EXAMPLES else ""
        raise InputError(
            f"{len(broken)} of {len(paths)} images can't be predicted, and a submission needs each:"
            f" {'; '.join(one.error for one in broken[:_EXAMPLES])}{more}"
        )
    return predicted


def _about_unknown(abstained_N: Any) -> str:
    if abstained_N is None:
        return (
            "UNK: 0.0 for every image, since nothing was fitted that tells unknown images; the verb"
            " calibrate does"
        )
    return f"UNK: 1.0 for {abstained_N.sum()} images, which the model abstains on"
