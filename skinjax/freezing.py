"""What a config file trains and freezes, counted in stages or as Keras counts layers.

The functions return what `config.trainable` and `config.phase(trainable=...)` take.
"""

from ml_collections import ConfigDict

from skinjax import models
from skinjax.errors import InputError
from skinjax.models import keras_layers


def last_stages(model: ConfigDict, count: int) -> tuple[str, ...]:
    """The head and the last `count` stages of the backbone of `config.model`.

    Raises:
      InputError: the backbone has fewer stages.
    """
    *backbone, head = models.stages(model)
    if not 0 <= count <= len(backbone):
        raise InputError(
            f"the last {count} stages of {model.name} are asked for; it has {len(backbone)}: "
            f"{', '.join(backbone)}"
        )
    return (*backbone[len(backbone) - count :], head)


def keras_last(name: str, count: int) -> tuple[str, ...]:
    """The head and the last `count` layers of a backbone, as Keras counts layers.

    `base.layers[-30:]` of Keras's ResNet50 is `keras_last("resnet50", 30)`. Keras counts
    activations, additions and the like too.
    """
    return ("head", *keras_layers.last(name, count))


def keras_after(name: str, count: int) -> tuple[str, ...]:
    """The head and all but the first `count` layers of a backbone, as Keras counts layers.

    What is trained when `base.layers[:150]` of Keras's EfficientNetB0 is frozen is
    `keras_after("efficientnet_b0", 150)`.
    """
    return keras_last(name, len(keras_layers.layer_order(name)) - count)
