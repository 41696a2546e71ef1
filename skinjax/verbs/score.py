"""The verb `score`: check a submission to an ISIC challenge, and score it."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skinjax.verbs.arguments import refuse

SUMMARY = "check a submission to an ISIC challenge, and score it"
DESCRIPTION = (
    "Checks a submission to an ISIC challenge as its organisers do and, given the ground truth,"
    " scores it with the official metric, balanced accuracy, and the others that they show."
)
_SHOWN = {
    "num_images": "n",
    "recall": "recall",
    "sensitivity": "sens.",
    "specificity": "spec.",
    "roc_auc": "AUC",
    "roc_auc_above_80": "AUC>80",
    "average_precision": "AP",
}


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument("--submission", required=True, metavar="FILE.csv", help="to check")
    verb.add_argument(
        "--truth", metavar="FILE.csv", help="the published ground truth; without it, only checked"
    )
    verb.add_argument("--challenge", required=True, metavar="isic2018|isic2019", help="which")
    verb.add_argument("--output", metavar="FILE.json", help="all metrics go there, too")


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    refuse(overrides, "score", add_flags)
    from skinjax import challenge as challenge_lib
    from skinjax.errors import InputError

    challenge = challenge_lib.get(arguments.challenge)
    submission = Path(arguments.submission).expanduser()
    if not arguments.truth:
        if arguments.output:
            raise InputError("--output is for the scores, which need --truth=FILE.csv")
        sent = challenge_lib.read_submission(submission, challenge)
        print(f"{submission}: {len(sent.image_ids)} images, a right file for {challenge.title}")
        return
    from skinjax import logs
    from skinjax.challenge import scoring as challenge_score

    scored = challenge_score.score(submission, Path(arguments.truth).expanduser(), challenge)
    print("\n".join(_lines(challenge.title, scored)))
    if arguments.output:
        logs.write_json(Path(arguments.output).expanduser(), scored)


def _lines(title: str, scored: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{title}: balanced accuracy {_text(scored['balanced_accuracy'])}, macro AUC"
        f" {_text(scored['macro_roc_auc'])}, {scored['num_scored']} of {scored['num_images']}"
        " images scored"
    ]
    lines.append("".join(f"{name:>10}" for name in ("class", *_SHOWN.values())))
    for name, one in scored["per_class"].items():
        lines.append("".join(f"{text:>10}" for text in (name, *(_text(one[k]) for k in _SHOWN))))
    if scored["without_images"]:
        lines.append(
            f"without images, left out of the means: {', '.join(scored['without_images'])}"
        )
    if scored["num_undecided"]:
        lines.append(
            f"{scored['num_undecided']} images have two highest confidences, which is an error each"
        )
    return lines


def _text(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
