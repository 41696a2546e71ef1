"""Writing shards with Apache Beam, for data that outgrows one machine."""

import contextlib
import errno
import functools
import io
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from skinjax.data import image_store, shards
from skinjax.errors import InputError


def runner(options: Sequence[str]) -> image_store.Runner:
    """A runner for `image_store.build`.

    Each worker writes whole shards with the very function that this machine would use, so the
    result is the same to the byte. Raw files and target folder must lie where all workers see them.

    Args:
      options: flags of Beam's pipeline, such as `--runner=DirectRunner`; Beam passes over those
        that it doesn't know, with a warning.

    Raises:
      InputError: Apache Beam is not installed, or does not know the runner.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
        from apache_beam.runners.runner import create_runner
    except ImportError:
        raise InputError(
            "Apache Beam is not installed: pip install 'skinjax[beam]', or prepare without it"
        ) from None
    name = ""
    try:
        parsed = PipelineOptions(list(options))
        with contextlib.redirect_stderr(io.StringIO()):  # where argparse says how it is used
            parsed.get_all_options()
        name = parsed.view_as(StandardOptions).runner or "DirectRunner"
        create_runner(name)
    except SystemExit:
        raise InputError(f"Apache Beam cannot read its options {' '.join(options)}") from None
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"Apache Beam has no runner {name}: {error}") from None
    return functools.partial(_run, options=tuple(options))


def _run(
    planned: Sequence[shards.Shard], directory: Path, spec: shards.Spec, options: Sequence[str]
) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    missing = [shard for shard in planned if not shards.is_written(shard, directory)]
    logging.info("%d of %d shards to write with Apache Beam", len(missing), len(planned))
    write = functools.partial(_write, directory=str(directory.resolve()), spec=spec)
    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            _ = pipeline | beam.Create(missing, reshuffle=True) | beam.Map(write)
    except (RuntimeError, ValueError) as error:
        # Beam wraps what a worker raised, with its traceback; the cause is in the last line.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["unknown"]
        full = "No space left" in str(error)
        raise OSError(
            errno.ENOSPC if full else errno.EIO, f"Apache Beam failed: {lines[-1][:400]}"
        ) from error


def _write(shard: shards.Shard, directory: str, spec: shards.Spec) -> None:
    shards.write(shard, Path(directory), spec)
