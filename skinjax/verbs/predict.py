"""The verb `predict`: predict images with a trained model."""

import argparse
import collections
import contextlib
import itertools
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinjax.errors import InputError, StoppedError
from skinjax.verbs.arguments import DISCLAIMER, add_prediction, add_run, refuse, start_jax

if TYPE_CHECKING:  # they would import JAX
    from skinjax.predict import Prediction, Predictor
    from skinjax.predict.table import PredictionTable

SUMMARY = "predict images with a trained model"
DESCRIPTION = (
    "Predicts images with a checkpoint of a work directory: class, probabilities, decision at the"
    " threshold and whether the model abstains go to a CSV, a row for each image. What can't be"
    " read gets a row that says why."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_run(verb)
    verb.add_argument(
        "--images",
        required=True,
        nargs="+",
        metavar="FILE|FOLDER|PATTERN",
        help="JPEG and PNG files; folders with all inside; patterns, as 'scans/**/*.jpg'",
    )
    verb.add_argument(
        "--output", required=True, metavar="FILE.csv", help="the table; one that is there is lost"
    )
    add_prediction(verb)
    verb.add_argument(
        "--no_calibration",
        action="store_true",
        help="write probabilities as the network gives them; decisions stay calibrated",
    )


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    _refuse(overrides)
    from skinjax.predict import image_files
    from skinjax.predict import table as prediction_table

    # What is wrong in the command shows before anything takes time.
    if arguments.batch_size < 1:
        raise InputError(f"--batch_size={arguments.batch_size}; expected at least 1")
    paths = image_files.find(arguments.images)
    output = Path(arguments.output).expanduser()
    prediction_table.check_path(output)
    predictor = _predictor(arguments)
    rows = None
    if arguments.metadata:
        paths, rows = _with_rows(arguments.metadata, predictor, paths)
    table = prediction_table.PredictionTable(output, predictor.model.classes)
    start = time.monotonic()
    try:
        with table, contextlib.closing(predictor.stream(paths, rows)) as stream:
            counts = _write(table, stream)
    except KeyboardInterrupt as interrupt:
        raise _stopped(interrupt, table) from None
    except BaseException:
        if table.num_rows:
            print(f"{table.num_rows} predictions are kept in {table.partial}", file=sys.stderr)
        raise
    _report(table, counts, time.monotonic() - start, predictor)


def _refuse(overrides: Sequence[str]) -> None:
    if overrides and not overrides[0].startswith("-"):
        raise InputError(
            f"predict does not know {overrides[0]}; several images are given with a space in place"
            " of the equals sign: --images A B"
        )
    refuse(overrides, "predict", add_flags)


def _predictor(arguments: argparse.Namespace) -> "Predictor":
    start_jax()
    from skinjax.predict import Predictor

    return Predictor(
        Path(arguments.workdir).expanduser(),
        arguments.checkpoint,
        batch_size=arguments.batch_size,
        calibrated=not arguments.no_calibration,
    )


def _with_rows(
    table: str, predictor: "Predictor", paths: Iterator[Path]
) -> tuple[Iterator[Path], Iterator[Any]]:
    """The images, and what the table says of each."""
    from skinjax.predict.patient_table import PatientTable

    if predictor.model.encoder is None:
        raise InputError(f"--metadata={table}: the model takes no patient metadata; leave it away")
    patients = PatientTable(Path(table).expanduser())
    paths, others = itertools.tee(paths)  # read in turns, so neither runs far ahead
    return paths, (patients.find(path) for path in others)


def _write(table: "PredictionTable", stream: Iterator["Prediction"]) -> "collections.Counter[str]":
    """Writes every prediction; returns how many there are of each kind."""
    from tqdm import tqdm

    counts: collections.Counter[str] = collections.Counter()
    for prediction in tqdm(stream, unit="image", disable=not sys.stderr.isatty()):
        table.write(prediction)
        counts["errors"] += bool(prediction.error)
        counts["abstained"] += bool(prediction.abstained)
        counts["positive"] += bool(prediction.decision)
    return counts


def _stopped(interrupt: KeyboardInterrupt, table: "PredictionTable") -> StoppedError:
    from skinjax.console import Terminated

    signum = signal.SIGTERM if isinstance(interrupt, Terminated) else signal.SIGINT
    kept = f"{table.num_rows} predictions are kept in {table.partial}" if table.num_rows else ""
    return StoppedError(
        f"stopped by {signal.Signals(signum).name}; {kept or 'nothing was written'}; the same"
        " command starts anew",
        signum,
    )


def _report(
    table: "PredictionTable", counts: Mapping[str, int], seconds: float, predictor: "Predictor"
) -> None:
    num_good = table.num_rows - counts["errors"]
    print(f"predicted {num_good} of {table.num_rows} images in {seconds:.1f} s: {table.path}")
    if counts["errors"]:
        print(f"errors: {counts['errors']} images; the column error says why")
    if predictor.calibration is None:
        print("probabilities: not calibrated; the verb calibrate makes them so")
    threshold = predictor.threshold
    if threshold is not None:
        what = " + ".join(threshold.positive)
        print(
            f"decision: {counts['positive']} images positive, with a probability of {what} of at"
            f" least {threshold.threshold:.4g}"
        )
    if predictor.unknown is None:
        print("abstained: not told; the verb calibrate measures what images the model knows")
    else:
        print(f"abstained: {counts['abstained']} images, unlike those that the model knows")
    print(DISCLAIMER)
    if not num_good:
        raise InputError(f"none of {table.num_rows} images could be predicted; see {table.path}")
