"""Config files: reading one, what the command line changes in it, and writing one."""

import importlib.util
import inspect
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from skinjax import config as config_lib
from skinjax.errors import InputError

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]*)(?:=(.*))?", re.DOTALL)


def load(path: str | None, overrides: Sequence[str]) -> ConfigDict:
    """Reads a config file and sets fields of it.

    Args:
      path: a Python file with `get_config()`, or `FILE.py:VARIANT` for `get_config(VARIANT)`;
        None takes the defaults.
      overrides: arguments such as `--config.optimizer.learning_rate=1e-4`.

    Raises:
      InputError: the file is missing or fails; a field is unknown (with the nearest that there
        is) or its value of a wrong type.
    """
    for argument in overrides:
        _check_override(argument)
    config = config_lib.default_config() if path is None else _run(path)
    # DEFINE_config_file would load the file by a function that Python is about to remove.
    values = flags.FlagValues()
    arguments = ["skinjax", *overrides]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
        values(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(" ".join(str(error).split())[:400]) from error
    changed: ConfigDict = values["config"].value
    return changed.lock()


def load_search_space(path: str, overrides: Sequence[str]) -> Any:
    """Calls a config file's `get_search_space`, with the variant if it takes an argument.

    Args:
      path: as in `load`.
      overrides: the arguments of `load`, which may not set what is searched.

    Raises:
      InputError: the file is missing, has no search space or fails; a searched field is set.
    """
    space = _call(path, "get_search_space", "tune searches what it gives; see skinjax.tune")
    for argument in overrides:
        matched = _OVERRIDE.fullmatch(argument)
        if matched is not None and isinstance(space, dict) and matched[1] in space:
            raise InputError(f"--config.{matched[1]} is searched: leave out one of the two")
    return space


def _run(path: str) -> ConfigDict:
    """Calls the file's `get_config`, with what stands behind the colon if there is one."""
    config = _call(path, "get_config", "a config file has one; see configs/")
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"--config={path}: get_config() gave {type(config).__name__}, no ConfigDict"
        )
    return config


def _call(path: str, name: str, hint: str) -> Any:
    """Runs a config file and calls a function of it."""
    filename, colon, variant = path.partition(":")
    if not os.path.isfile(filename):
        raise InputError(f"--config={path}: there is no file {filename}; see configs/")
    spec = importlib.util.spec_from_file_location("skinjax_config", filename)
    if spec is None or spec.loader is None:
        raise InputError(f"--config={path}: {filename} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function: Callable[..., Any] | None = getattr(module, name, None)
        if function is None:
            raise InputError(f"--config={path}: {filename} has no {name}(); {hint}")
        takes_variant = bool(inspect.signature(function).parameters)
        if colon and name == "get_config" and not takes_variant:
            raise InputError(f"--config={path}: {filename} has no variants; leave out :{variant}")
        return function(variant) if colon and takes_variant else function()
    except InputError:
        raise
    except Exception as error:  # a config file is a program: it may raise anything
        line = " ".join(str(error).split())[:400]
        raise InputError(f"--config={path}: {type(error).__name__}: {line}") from error


def _check_override(argument: str) -> None:
    matched = _OVERRIDE.fullmatch(argument)
    if matched is None:
        raise InputError(f"unknown argument {argument}; see --help")
    name, value = matched.groups()
    default = config_lib.default_config()
    known = config_lib.field_names(default)
    field = name.split("[")[0]  # phases[0].epochs: what is inside a phase is checked with it
    if field not in known:
        inside = [k for k in known if k.startswith(f"{field}.")]
        hint = f"; it has {', '.join(inside)}" if inside else config_lib.nearest(field, known)
        what = "a section, not a field" if inside else "no field of the config"
        raise InputError(f"--config.{name} is {what}{hint}")
    if value is None and not isinstance(config_lib.read_field(default, field), bool):
        raise InputError(f"--config.{name} lacks a value; write --config.{name}=VALUE")


def describe(config: ConfigDict) -> str:
    """Returns the fields of a config, a line each, as the command line would set them."""
    lines = []
    for name in config_lib.field_names(config):
        value = config_lib.read_field(config, name)
        if name == "phases":
            value = tuple(dict(one) for one in value)
        lines.append(f"  --config.{name}={value!r}")
    return "\n".join(lines)


def source(config: ConfigDict, heading: str, *, always: Sequence[str] = ()) -> str:
    """Returns a config file that `load` makes this very config of.

    Args:
      config: all of whose fields have a plain repr.
      heading: the docstring of the file.
      always: fields that are written even where they are at their default.
    """
    default = config_lib.default_config()
    written = {name.split("[")[0] for name in always}
    lines = []
    for name in config_lib.field_names(config):
        value = config_lib.read_field(config, name)
        if name in written or value != config_lib.read_field(default, name):
            shown = _phases(value) if name == "phases" else repr(value)
            lines.append(f"    config.{name} = {shown}")
    phase = (
        ", phase" if any(line.startswith("    config.phases = (phase") for line in lines) else ""
    )
    heading = heading.replace("\\", "\\\\").replace('"', "'")
    return "\n".join(
        [
            f'"""{heading}\n"""' if "\n" in heading else f'"""{heading}"""',
            "",
            "from ml_collections import ConfigDict",
            "",
            f"from skinjax.config import default_config{phase}",
            "",
            "",
            "def get_config() -> ConfigDict:",
            '    """Returns the default with these changes."""',
            "    config = default_config()",
            *lines,
            "    return config",
            "",
        ]
    )


def _phases(value: Sequence[ConfigDict]) -> str:
    phases = [f"phase({', '.join(f'{key}={one[key]!r}' for key in one)})" for one in value]
    return f"({', '.join(phases)}{',' if len(phases) == 1 else ''})"
