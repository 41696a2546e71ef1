"""The verb `evaluate`: evaluate a checkpoint on a split, or on another data set."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from skinjax.errors import InputError
from skinjax.verbs.arguments import (
    DISCLAIMER,
    add_moved_data,
    add_num_resamples,
    add_run,
    refuse,
    start_jax,
)

SUMMARY = "evaluate a checkpoint on a split, or on another data set"
DESCRIPTION = (
    "Evaluates a checkpoint of a work directory on one of its splits: predictions, metrics with"
    " intervals and plots go to WORKDIR/evaluation/SPLIT. With --data=DIR on another data set:"
    " published files as downloaded, or what prepare made; see --dataset, --mapping and --name."
)
_SHOWN = ("accuracy", "balanced_accuracy", "macro_roc_auc", "roc_auc", "log_loss")
_EXTERNAL = ("dataset", "mapping", "name")


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    add_run(verb)
    verb.add_argument("--split", metavar="train|val|test", help="which (default: test)")
    add_moved_data(
        verb,
        data="the run's own prepared data set, if it has moved; any other is an external test",
    )
    verb.add_argument(
        "--dataset", metavar="NAME", help="external test: which published layout --data has"
    )
    verb.add_argument(
        "--mapping", metavar="FILE", help="external test: CSV or JSON, model_class to data_class"
    )
    verb.add_argument(
        "--name", metavar="NAME", help="external test: of its folder (default: that of --data)"
    )
    verb.add_argument(
        "--tta",
        default="none",
        metavar="none|flips|crops",
        help="test-time augmentation: the mean over 8 flips and rotations, or 3 x 3 crops",
    )
    add_num_resamples(verb)
    verb.add_argument(
        "--batch_size",
        type=int,
        default=0,
        metavar="N",
        help="in place of the run's; changes memory and speed alone",
    )
    verb.add_argument(
        "--list", action="store_true", help="list the checkpoints: step, epoch and metric"
    )


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    from skinjax import checkpoint

    refuse(overrides, "evaluate", add_flags)
    start_jax()
    if arguments.list:
        print("\n".join(checkpoint.open_run(arguments.workdir)[0].listing()))
        return
    if _is_external(arguments):
        _run_external(arguments)
        return
    from skinjax.evaluate import evaluate

    computed = evaluate(
        arguments.workdir,
        which=arguments.checkpoint,
        split=arguments.split or "test",
        raw_dir=arguments.raw_dir,
        prepared_dir=arguments.prepared_dir,
        data=arguments.data,
        tta=arguments.tta,
        num_resamples=arguments.num_resamples,
        batch_size=arguments.batch_size,
    )
    _print(arguments.workdir, computed)


def _is_external(arguments: argparse.Namespace) -> bool:
    """Whether `--data` is another data set than the run's own."""
    given = [f"--{name}" for name in _EXTERNAL if getattr(arguments, name)]
    if not arguments.data:
        if given:
            raise InputError(f"{given[0]} is of an external test: give --data=DIR with it")
        return False
    if given:
        return True
    from skinjax.evaluate import is_own_data

    return not is_own_data(arguments.workdir, arguments.checkpoint, arguments.data)


def _run_external(arguments: argparse.Namespace) -> None:
    for name in ("split", "raw_dir", "prepared_dir"):
        if getattr(arguments, name):
            raise InputError(
                f"--{name} is of the run's own data, and --data={arguments.data} is another data "
                f"set, of which all is predicted: leave --{name} out"
            )
    from skinjax import external

    computed = external.evaluate(
        arguments.workdir,
        arguments.data,
        which=arguments.checkpoint,
        dataset=arguments.dataset or "",
        mapping=arguments.mapping or "",
        name=arguments.name or "",
        tta=arguments.tta,
        num_resamples=arguments.num_resamples,
        **({"batch_size": arguments.batch_size} if arguments.batch_size else {}),
    )
    _print(arguments.workdir, computed, "external.md")


def _print(workdir: str, computed: Mapping[str, Any], page: str = "report.md") -> None:
    from skinjax import metrics

    split = computed["split"]
    print(f"{split}: {metrics.summary_line(computed)}")
    intervals = computed.get("intervals") or {}
    shown = [(name, intervals[name]) for name in _SHOWN if intervals.get(name)]
    if shown:
        texts = [f"{name.replace('_', ' ')} {low:.4f}-{high:.4f}" for name, (low, high) in shown]
        print(f"95 % intervals, lesions resampled: {', '.join(texts)}")
    after = computed.get("calibrated")
    if after:
        names = ("expected_calibration_error", "log_loss")
        texts = [f"{name.replace('_', ' ')} {computed[name]:.4f} -> {after[name]:.4f}"
                 for name in names]  # fmt: skip
        how = f"{after['method']} scaling"
        how += f" by {after['temperature']:.4g}" if after["temperature"] else ""
        print(f"calibrated on validation ({how}): {', '.join(texts)}")
    print(f"report: {workdir}/evaluation/{split}/{page}. {DISCLAIMER}")
