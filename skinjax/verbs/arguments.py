"""What the verbs of the command line share: overrides of the config, and unknown arguments."""

import argparse
import re
from collections.abc import Callable, Sequence

from skinjax.errors import InputError

DISCLAIMER = "For research and education, not for diagnosis."


def is_override(argument: str) -> bool:
    """Says whether an argument sets a field of the config."""
    return argument.lstrip("-").removeprefix("no").startswith("config.")


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
