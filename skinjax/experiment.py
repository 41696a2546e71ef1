"""What a run is made of: the model, its phases, and the steps mapped over the devices."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.dynamic_scale import DynamicScale
from ml_collections import ConfigDict

from skinjax import augment, losses, metrics, mixing, models, monitor, optimizer, parallel, phases
from skinjax import config as config_lib
from skinjax.data import class_weights, metadata
from skinjax.data.metadata import Encoder
from skinjax.errors import InputError
from skinjax.layer_paths import Layers, Params
from skinjax.phases import Phase, frozen_batch_norm, merge_params, split_params
from skinjax.train_step import TrainState, eval_step, train_step


def check(config: ConfigDict) -> None:
    """Checks all of a config that needs no data, before any data is prepared.

    Raises:
      InputError: naming the field, its value and what is allowed.
    """
    config_lib.check(config)
    metrics.direction(config.checkpoint.metric)
    monitor.check(config)
    augment.check(config.augment)
    losses.from_config(config.loss)
    metadata.check(config.metadata)
    # The names of the layers, which phases are checked against, don't depend on the columns.
    model = _model(config, num_classes=2, num_columns=len(config.metadata.features))
    phases.select_all(
        config,
        Layers.of(_shapes(config, model, len(config.metadata.features)), model.stages),
    )
    devices = parallel.select_devices(config.parallel.num_devices)
    parallel.check_batch_size(
        config.batch_size,
        len(devices),
        parts=config.optimizer.accumulate,
        in_pairs=mixing.is_on(config.augment),
    )


@dataclass(frozen=True)
class Experiment:
    """The functions of one config on one class list; `check` comes first."""

    config: ConfigDict
    classes: tuple[str, ...]
    class_weights_C: np.ndarray
    model: nn.Module
    mapper: parallel.Mapper
    encoder: Encoder | None = None

    @classmethod
    def create(
        cls,
        config: ConfigDict,
        classes: tuple[str, ...],
        class_counts_C: np.ndarray,
        encoder: Encoder | None = None,
    ) -> "Experiment":
        """Builds the model and the weights of the loss.

        Args:
          config: the resolved config.
          classes: in the order of the outputs.
          class_counts_C: records of each class that are trained on.
          encoder: of patient metadata, fitted on these records; None is images alone.

        Raises:
          InputError: the config does not fit the classes.
        """
        if config.loss.focal_alpha and len(config.loss.focal_alpha) != len(classes):
            raise InputError(
                f"config.loss.focal_alpha has {len(config.loss.focal_alpha)} values; give one for "
                f"each of the {len(classes)} classes {', '.join(classes)}, or none"
            )
        judged_by = [config.checkpoint.metric]
        judged_by += [one.metric for one in (config.plateau, config.early_stopping) if one.metric]
        for name in judged_by:
            metrics.check(name, len(classes))
        devices = parallel.select_devices(config.parallel.num_devices)
        return cls(
            config=config,
            classes=classes,
            class_weights_C=class_weights.from_config(class_counts_C, config.loss, classes),
            model=_model(config, len(classes), _num_columns(encoder)),
            mapper=parallel.Mapper(config.parallel.mode, devices),
            encoder=encoder,
        )

    @property
    def eval_batch_size(self) -> int:
        """The global batch size of evaluation, rounded up to what the devices divide."""
        wanted = self.config.evaluate.batch_size or self.config.batch_size
        return -(-wanted // self.mapper.num_devices) * self.mapper.num_devices

    def init_variables(self) -> dict[str, Params]:
        """Draws the initial `params` and `batch_stats` from the config's seed."""
        init = functools.partial(_init, self.config, self.model, _num_columns(self.encoder))
        # Two thirds of the compiling would be spent on code that runs once.
        on_cpu = jax.default_backend() == "cpu"
        options = {"xla_backend_optimization_level": "1"} if on_cpu else {}
        compiled = jax.jit(init, compiler_options=options)
        variables = compiled(jax.random.key(self.config.seed))
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    def variable_shapes(self) -> dict[str, Params]:
        """The shapes and dtypes of `init_variables`, without computing anything."""
        return self._variable_shapes

    @functools.cached_property
    def _variable_shapes(self) -> dict[str, Params]:
        return _shapes(self.config, self.model, _num_columns(self.encoder))

    @functools.cached_property
    def layers(self) -> Layers:
        """The model's layers."""
        return Layers.of(self.variable_shapes(), self.model.stages)

    def trained_bytes(self, phase: Phase) -> int:
        """Bytes of the parameters that a phase trains."""
        return _bytes(split_params(self.variable_shapes()["params"], phase)[0])

    def optimizer(self, phase: Phase) -> optax.GradientTransformation:
        """The optax transformation of a phase."""
        return optimizer.create(self.config.optimizer, phase, self.layers.stages)

    def init_state(self, phase: Phase, variables: dict[str, Params]) -> TrainState:
        """The state before a phase's first step, with these parameters."""
        trainable, _ = split_params(variables["params"], phase)
        half = self.config.model.dtype == "float16"
        return TrainState(
            step=jnp.int32(0),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            # Compiled at once, since one by one each shape would be compiled by itself.
            opt_state=jax.jit(self.optimizer(phase).init)(trainable),
            loss_scale=DynamicScale(fin_steps=jnp.int32(0), scale=jnp.float32(2**16))
            if half
            else None,
            skipped=jnp.int32(0),
            learning_rate_scale=jnp.float32(1),
            ema=dict(variables) if self.config.ema.decay else None,
        )

    def next_phase(self, state: TrainState, phase: Phase) -> TrainState:
        """Gives a state the optimizer of the next phase; parameters and counts go on."""
        fresh = self.init_state(phase, {"params": state.params, "batch_stats": state.batch_stats})
        opt_state = fresh.opt_state
        if self.config.optimizer.carry_moments:
            opt_state = optimizer.carry_moments(state.opt_state, opt_state)
        return state.replace(opt_state=opt_state, learning_rate_scale=fresh.learning_rate_scale)

    def train_step(self, phase: Phase) -> Callable[..., Any]:
        """The phase's `(state, batch, key) -> (state, outputs)` over all devices."""
        step = functools.partial(
            train_step,
            model=self.model,
            tx=self.optimizer(phase),
            phase=phase,
            config=self.config,
            class_weights_C=self.class_weights_C,
            axis_name=parallel.AXIS,
            metadata_sizes=() if self.encoder is None else self.encoder.sizes,
        )
        return self.mapper.map(step, num_args=3, donate_state=True)

    def eval_step(self, tta: str = "none") -> Callable[..., Any]:
        """The `(variables, batch) -> outputs` over all devices, over these views of an image."""
        step = functools.partial(
            eval_step,
            model=self.model,
            config=self.config,
            class_weights_C=self.class_weights_C,
            axis_name=parallel.AXIS,
            tta=tta,
        )
        return self.mapper.map(step)


def _num_columns(encoder: Encoder | None) -> int:
    return 0 if encoder is None else sum(encoder.sizes)


def _model(config: ConfigDict, num_classes: int, num_columns: int) -> models.Classifier:
    return models.create(
        config.model,
        num_classes=num_classes,
        axis_name=parallel.AXIS,
        metadata_width=config.metadata.width if num_columns else 0,
    )


def _no_metadata(batch_size: int, num_columns: int) -> jax.Array | None:
    return jnp.zeros((batch_size, num_columns)) if num_columns else None


def _init(config: ConfigDict, model: nn.Module, num_columns: int, key: jax.Array) -> Any:
    size = config.data.image_size
    image_BHWC = jnp.zeros((1, size, size, 3))
    # Without training, so that batch norm does not ask for the mapped axis.
    return model.init(key, image_BHWC, _no_metadata(1, num_columns), train=False)


def _shapes(config: ConfigDict, model: nn.Module, num_columns: int) -> dict[str, Params]:
    init = functools.partial(_init, config, model, num_columns)
    variables = jax.eval_shape(init, jax.random.key(0))
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def memory_estimate(experiment: Experiment, phase: Phase) -> dict[str, int]:
    """Estimates bytes on one device in a phase's training step, from shapes alone.

    The activations are what reverse-mode differentiation keeps of the forward pass of one part
    (`optimizer.accumulate`) before XLA fuses or drops any, and the whole batch's images before and
    behind augmentation. XLA's own scratch isn't in it.
    """
    shapes = experiment.variable_shapes()
    trainable, _ = split_params(shapes["params"], phase)
    whole_size = experiment.config.batch_size // experiment.mapper.num_devices
    batch_size = whole_size // experiment.config.optimizer.accumulate
    size = experiment.config.data.image_size
    whole = jax.ShapeDtypeStruct((whole_size, size, size, 3), jnp.float32)
    image = jax.ShapeDtypeStruct((batch_size, size, size, 3), jnp.float32)

    def residuals(variables: Any, image_BHWC: jax.Array, key: jax.Array) -> Any:
        trainable, frozen = split_params(variables["params"], phase)

        def forward(trainable: Params, image_BHWC: jax.Array) -> jax.Array:
            params = merge_params(trainable, frozen)
            return experiment.model.apply(
                {"params": params, "batch_stats": variables["batch_stats"]},
                image_BHWC,
                _no_metadata(batch_size, _num_columns(experiment.encoder)),
                train=True,
                frozen=frozen_batch_norm(experiment.config, phase),
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )[0]

        # One replica, so that batch norm finds its axis.
        replica = jax.vmap(forward, in_axes=(None, 0), axis_name=parallel.AXIS)
        return jax.vjp(lambda trainable: replica(trainable, image_BHWC[None]), trainable)[1]

    kept = jax.eval_shape(residuals, shapes, image, jax.random.key(0))
    parameters, trained = _bytes(shapes), _bytes(trainable)
    accumulated = experiment.config.optimizer.accumulate > 1
    return {
        "parameters": parameters * (2 if experiment.config.ema.decay else 1),
        "gradients": trained * (2 if accumulated else 1),
        "optimizer": _bytes(jax.eval_shape(experiment.optimizer(phase).init, trainable)),
        "activations": max(0, _bytes(kept) - parameters) + 2 * _bytes(whole),
    }


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
