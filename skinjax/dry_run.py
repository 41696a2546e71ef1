"""What a run would do, without doing it: config, parameters, steps and memory."""

import numpy as np
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax import config_file, evaluate, parallel, phases, summary
from skinjax import experiment as experiment_lib
from skinjax.data import builder, metadata, pipeline
from skinjax.experiment import Experiment, memory_estimate
from skinjax.models import pretrained


def describe(config: ConfigDict) -> str:
    """Describes a run of this config as text; reads (or draws) the records and trains nothing.

    Raises:
      InputError: as `train.train` would.
    """
    config = builder.settled(config)
    config_lib.check(config)
    config = pretrained.resolve(config)
    parallel.initialize(config.parallel)
    experiment_lib.check(config)
    classes, counts = builder.planned_counts(config)
    trained_on = evaluate.SPLITS if config.data.train_on == "all" else ("train",)
    counts_C = np.sum([counts[split] for split in trained_on], axis=0)
    encoder = None
    if config.metadata.features:
        encoder = metadata.fit(config.metadata, builder.planned_metadata(config, trained_on))
    experiment = Experiment.create(config, classes, counts_C, encoder)
    steps_per_epoch = pipeline.steps_per_epoch(int(counts_C.sum()), config.batch_size)
    sections = [
        "config:\n" + config_file.describe(config),
        f"classes: {', '.join(classes)}\nrecords: "
        + ", ".join(f"{split} {n.sum()}" for split, n in counts.items()),
    ]
    for phase in phases.resolve(config, experiment.layers, steps_per_epoch):
        sections.append(_phase(experiment, phase, steps_per_epoch))
    return "\n\n".join(sections)


def _phase(experiment: Experiment, phase: phases.Phase, steps_per_epoch: int) -> str:
    memory = memory_estimate(experiment, phase)
    parts = ", ".join(f"{name} {size / 2**20:,.0f}" for name, size in memory.items())
    return (
        f"phase {phase.index + 1}: trains "
        f"{phases.describe_trainable(phase, experiment.layers)}\n"
        f"  {phase.num_steps} steps, {phase.num_steps / steps_per_epoch:g} epochs of "
        f"{steps_per_epoch}, peak learning rate {phase.learning_rate:g}\n"
        f"  memory on each of {experiment.mapper.num_devices} device(s), about "
        f"{sum(memory.values()) / 2**20:,.0f} MiB: {parts}\n"
        + summary.describe(experiment.variable_shapes(), phase, experiment.layers)
    )
