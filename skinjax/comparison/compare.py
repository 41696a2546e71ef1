"""The figures of a comparison: each run's metrics, and its differences to the first."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from skinjax import metrics
from skinjax.comparison.runs import Run, differences, seed_groups
from skinjax.metrics import bootstrap, engine, paired
from skinjax.metrics.strata import group_indices

_CONFIDENCE = 0.95


def compare(runs: Sequence[Run], *, num_resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Compares runs of the same images, as `runs.read` gives them; what is returned is plain JSON.

    All runs meet the same resamples of lesions, so that differences are of the same cases. Each
    run but the first is tested against the first: every metric, and the recall of each class, by
    the bootstrap, whose p for accuracies and recalls is no less than that of swapping the models
    lesion by lesion (`paired.exchange`); accuracy by McNemar's test; each class's ROC-AUC by
    DeLong's with lesions as clusters. Differences are the run less the first. p-values are not
    adjusted for their number.

    Returns:
      `num_examples`, `num_lesions`, `classes`, `num_resamples`, `seed`; `settings`, those in which
      the runs differ; `runs`, `tests` and `seed_groups` as lists of objects.
    """
    first = runs[0]
    lesion_N = [row["lesion_id"] for row in first.rows]
    resampled = [
        bootstrap.resample(
            run.probability_NC,
            run.label_N,
            run.classes,
            lesion_N,
            num_resamples=num_resamples,
            seed=seed,
        )
        for run in runs
    ]
    described = [
        {
            "name": run.name,
            "directory": str(run.directory),
            "checkpoint": run.checkpoint,
            "seed": run.seed,
            "metrics": metrics.compute(run.probability_NC, run.label_N, run.classes),
            "intervals": found.intervals(run.classes, confidence=_CONFIDENCE),
        }
        for run, found in zip(runs, resampled, strict=True)
    ]
    tests = [
        {"run": run.name, "against": first.name, **_tests(run, first, found.less(resampled[0]))}
        for run, found in zip(runs[1:], resampled[1:], strict=True)
    ]
    return {
        "num_examples": len(first.rows),
        "num_lesions": int(group_indices(lesion_N).max()) + 1,
        "classes": list(first.classes),
        "num_resamples": num_resamples,
        "seed": seed,
        "settings": differences(runs),
        "runs": described,
        "tests": tests,
        "seed_groups": [_spread([described[place] for place in g]) for g in seed_groups(runs)],
    }


def _tests(run: Run, first: Run, difference: bootstrap.Resampled) -> dict[str, Any]:
    """A run against the first."""
    lesion_N = [row["lesion_id"] for row in first.rows]
    right = [one.probability_NC.argmax(axis=1) == one.label_N for one in (run, first)]
    mcnemar = paired.mcnemar(*right)
    two = len(run.classes) == 2
    least = paired.exchange(run.probability_NC, first.probability_NC, run.label_N, lesion_N)
    options: dict[str, Any] = {"confidence": _CONFIDENCE, "least": least}
    delong = {
        name: paired.delong(
            run.probability_NC[:, index],
            first.probability_NC[:, index],
            run.label_N == index,
            lesion_N,
        )
        for index, name in enumerate(run.classes)
        if not (two and index == 0)  # the mirror image of the second class's
    }
    return {
        "differences": {
            name: paired.tested(difference, name, **options) for name in engine.SCALARS
        },
        "recall": {
            name: paired.tested(difference, "per_class.recall", index, **options)
            for index, name in enumerate(run.classes)
        },
        "mcnemar": {"only_run": mcnemar.only_a, "only_first": mcnemar.only_b, "p": mcnemar.p},
        "delong": {
            name: None
            if found is None
            else {
                "roc_auc": found.auc_a,
                "roc_auc_of_first": found.auc_b,
                "difference": found.difference,
                "standard_error": found.standard_error,
                "p": found.p,
            }
            for name, found in delong.items()
        },
    }


def _spread(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation over runs that differ only in the seed."""
    over: dict[str, Any] = {}
    for name in engine.SCALARS:
        values = [run["metrics"][name] for run in runs]
        over[name] = None
        if all(value is not None for value in values):
            over[name] = {
                "mean": statistics.fmean(values),
                "standard_deviation": statistics.stdev(values),
                "lowest": float(np.min(values)),
                "highest": float(np.max(values)),
            }
    return {
        "runs": [run["name"] for run in runs],
        "seeds": [run["seed"] for run in runs],
        "metrics": over,
    }
