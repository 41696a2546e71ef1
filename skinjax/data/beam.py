"""Writing shards with Apache Beam, for data that outgrows one machine."""

import functools
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
    name = PipelineOptions(list(options)).view_as(StandardOptions).runner
    try:
        create_runner(name or "DirectRunner")
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
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
        _ = pipeline | beam.Create(missing, reshuffle=True) | beam.Map(write)


def _write(shard: shards.Shard, directory: str, spec: shards.Spec) -> None:
    shards.write(shard, Path(directory), spec)
