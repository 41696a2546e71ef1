"""The config of a run for the benchmarks that train: which network, on which prepared data."""

import argparse
from pathlib import Path

from ml_collections import ConfigDict

from skinjax.config import default_config
from skinjax.data import builder, synthetic
from skinjax.data.prepared import open_prepared


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the data and of the run."""
    add = parser.add_argument
    add("--work", required=True, help="folder for what is prepared and trained")
    add("--data", default="", help="a prepared data set; its image size counts, not --size")
    add("--images", default="", help="HAM10000 as published, to be prepared; else synthetic images")
    add("--lesions", type=int, default=400, help="synthetic ones, of 1 to 4 images (default: 400)")
    add("--size", type=int, default=224, help="side of the images (default: 224)")
    add("--encoding", default="jpeg", help="of the shards: jpeg, png or raw (default: jpeg)")
    add("--batch", type=int, default=0, help="images; 0 is 16 on a CPU, 256 else (default: 0)")
    add("--dtype", default="", help="empty is float32 on a CPU, bfloat16 else")
    add("--threads", type=int, default=4, help="that read batches (default: 4)")
    add("--json", default="", help="file to write")


def make(arguments: argparse.Namespace, model: str, *, on_cpu: bool) -> ConfigDict:
    """The default config (AdamW, mild augmentation) on the data of the flags, prepared if need be.

    Args:
      arguments: with the flags of `add_flags`.
      model: its name.
      on_cpu: chooses batch and type where the flags leave them open.
    """
    config = default_config()
    data = config.data
    data.update(image_size=arguments.size, encoding=arguments.encoding)
    data.update(num_threads=arguments.threads, prepared_dir=str(Path(arguments.work) / "prepared"))
    config.model.update(name=model, dtype=arguments.dtype or ("float32" if on_cpu else "bfloat16"))
    config.normalize.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.batch_size = arguments.batch or (16 if on_cpu else 256)
    config.log.update(tensorboard=False, progress=False)
    if arguments.data:
        data.directory = arguments.data
        data.image_size = open_prepared(Path(arguments.data)).image_size
        return builder.settled(config)
    data.raw_dir = arguments.images
    if not arguments.images:
        raw = Path(arguments.work) / f"lesions-{arguments.lesions}-{arguments.size}"
        synthetic.write(raw, num_lesions=arguments.lesions, image_size=arguments.size, seed=0)
        data.raw_dir = str(raw)
    data.directory = str(builder.prepare(config).directory.resolve())
    return config
