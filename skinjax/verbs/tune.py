"""The verb `tune`: search for hyper-parameters."""

import argparse
import os
from collections.abc import Sequence

from skinjax.errors import InputError
from skinjax.verbs.arguments import is_override, refuse

SUMMARY = "search for hyper-parameters"
DESCRIPTION = (
    "Trains the config with values drawn from its search space, and writes the best config. The"
    " same command goes on where the search stopped; started several times, its workers share"
    " the trials."
)
_EPILOG = (
    "get_search_space() in FILE.py returns a dict from field to values, as"
    ' {"optimizer.learning_rate": log_uniform(1e-4, 1e-2)}, made by uniform, log_uniform, integer'
    " and choice of skinjax.tune. Any field that is not searched can be set, as --config.epochs=10."
)


def add_flags(verb: argparse.ArgumentParser) -> None:
    """Adds the flags of the verb."""
    verb.add_argument(
        "--config", required=True, metavar="FILE.py", help="a file with get_search_space()"
    )
    verb.add_argument(
        "--workdir", required=True, metavar="DIR", help="of the search; all workers see it"
    )
    verb.add_argument(
        "--sampler", default="tpe", metavar="grid|random|tpe", help="(default: %(default)s)"
    )
    verb.add_argument(
        "--trials", type=int, metavar="N",
        help="over all workers and restarts (default: 20; of a grid all)",
    )  # fmt: skip
    verb.add_argument(
        "--pruner", default="median", metavar="none|median|hyperband",
        help="which trials end early (default: %(default)s)",
    )  # fmt: skip
    verb.add_argument(
        "--storage", default="", metavar="ADDRESS",
        help="an SQLAlchemy address (default: the environment variable SKINJAX_STORAGE, which"
        " keeps a password off the command line, or else WORKDIR/study.db)",
    )  # fmt: skip
    verb.add_argument(
        "--study", default="", metavar="NAME", help="in --storage (default: WORKDIR's name)"
    )
    verb.add_argument("--seed", default=0, type=int, metavar="N", help="(default: %(default)s)")
    verb.add_argument(
        "--keep", default=1, type=int, metavar="N",
        help="so many of the best trials keep their checkpoints (default: %(default)s)",
    )  # fmt: skip
    verb.epilog = _EPILOG


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Runs the verb; raises as what it calls does."""
    from skinjax import config_file

    refuse([o for o in overrides if not is_override(o)], "tune", add_flags)
    config = config_file.load(arguments.config, overrides)
    space = config_file.load_search_space(arguments.config, overrides)
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise InputError("Optuna is not installed: pip install 'skinjax[tune]'") from None
    from skinjax.tune import search

    lines = search.tune(
        config,
        space,
        arguments.workdir,
        sampler=arguments.sampler,
        pruner=arguments.pruner,
        trials=arguments.trials,
        seed=arguments.seed,
        keep=arguments.keep,
        storage=arguments.storage or os.environ.get("SKINJAX_STORAGE", ""),
        name=arguments.study,
    )
    print("\n".join(lines))
