"""What the verbs of the command line share: flags, overrides of the config, unknown arguments."""

import argparse
import re
from collections.abc import Callable, Sequence

from skinjax.errors import InputError

DISCLAIMER = "For research and education, not for diagnosis."


def is_override(argument: str) -> bool:
    """Says whether an argument sets a field of the config."""
    return argument.lstrip("-").removeprefix("no").startswith("config.")


def add_run(verb: argparse.ArgumentParser) -> None:
    """Adds the flags that say which trained model is meant."""
    verb.add_argument("--workdir", required=True, metavar="DIR", help="that was trained in")
    add_checkpoint(verb, "which")


def add_checkpoint(verb: argparse.ArgumentParser, which: str) -> None:
    """Adds the flag for a checkpoint; `which` is what the help calls it."""
    verb.add_argument(
        "--checkpoint", default="best", metavar="best|latest|STEP", help=f"{which} (default: best)"
    )


def add_moved_data(
    verb: argparse.ArgumentParser,
    whose: str = "the run's",
    data: str = "the prepared data set, if it has moved",
) -> None:
    """Adds the flags for where a run's data is now; `data` is the help of --data."""
    for name in ("raw_dir", "prepared_dir"):
        verb.add_argument(
            f"--{name}", metavar="DIR", help=f"in place of {whose} data.{name}, if it has moved"
        )
    verb.add_argument("--data", metavar="DIR", help=data)


def add_num_resamples(verb: argparse.ArgumentParser) -> None:
    """Adds the flag for the bootstrap."""
    verb.add_argument(
        "--num_resamples",
        type=int,
        default=2000,
        metavar="N",
        help="of the bootstrap behind the intervals; 0 is none (default: 2000)",
    )


def add_prediction(verb: argparse.ArgumentParser) -> None:
    """Adds the flags for what images alone don't say, and for how many are predicted at once."""
    verb.add_argument(
        "--metadata",
        metavar="FILE.csv",
        help="image, age, sex and site, for a model with patient metadata; what is missing may be",
    )
    verb.add_argument(
        "--batch_size", type=int, default=32, metavar="N", help="images at once (default: 32)"
    )


def start_jax() -> None:
    """Sets XLA's flags and the compile cache, which come before anything touches a device.

    Reading a checkpoint does. For the verbs that use a trained model; `train` has its config's.
    """
    from skinjax import compile_cache, parallel
    from skinjax.default_config import default_config

    parallel.initialize(default_config().parallel)
    compile_cache.enable()


def refuse(
    arguments: Sequence[str], verb: str, add_flags: Callable[[argparse.ArgumentParser], None]
) -> None:
    """Stops at an argument that a verb doesn't know.

    Raises:
      InputError: with the nearest that it does know.
    """
    from skinjax.config import default_config, field_names, nearest

    if not arguments:
        return
    parser = argparse.ArgumentParser()
    add_flags(parser)
    known = re.findall(r"--\w+", parser.format_usage())
    name = arguments[0].split("=")[0]
    hint = nearest(name, known)
    fields = [f"--config.{one}" for one in field_names(default_config())]
    meant = [one for one in fields if one.endswith(f".{name.lstrip('-')}")]
    if meant and "--config" in known:
        hint = f"; did you mean {meant[0]}?"
    if not name.startswith("-"):
        hint = "; several folders are given as --raw_dir A B" if "--raw_dir" in known else ""
    raise InputError(
        f"{verb} does not know {arguments[0]}{hint}; see python -m skinjax.main {verb} --help"
    )
