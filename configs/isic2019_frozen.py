"""EfficientNet-B0 on ISIC 2019 at 224 px, its first 150 layers frozen.

    python -m skinjax.main train --config=configs/isic2019_frozen.py \
        --config.data.raw_dir=PATH/TO/isic2019 --workdir=runs/isic2019_frozen

The recipe of one of the reference projects, which prepared the images from files of 512 pixels.
`:first150` is the default, and freezes as many; `:last50` trains the last 50 layers of the
backbone instead. Layers are counted as Keras counts them, activations and additions too.

It starts from timm/tf_efficientnet_b0.aa_in1k, TensorFlow's weights, downloaded from the Hugging
Face hub once. Keras's own file goes as well
(`--config.model.pretrained=efficientnetb0_notop.h5`), as does any other repository, file or folder;
with `--config.model.pretrained=` everything is trained from scratch.

What the project published leaves open, and what stands here: at most 50 epochs, patience of 3
evaluations for the plateau and 7 for early stopping, both and the best checkpoint by validation
loss. `metrics.json` has accuracy and top-2 accuracy. Images of one lesion stay in one split.

Not measured: the published weights can't be had where this was made.
"""

from ml_collections import ConfigDict

from skinjax import freezing
from skinjax.config import default_config
from skinjax.errors import InputError

VARIANTS = ("first150", "last50")


def get_config(variant: str = "first150") -> ConfigDict:
    """Adam at 5e-5, square-root class weights, the mild augmentations of the defaults."""
    if variant not in VARIANTS:
        raise InputError(
            f"isic2019_frozen.py has no variant {variant!r}; it has {', '.join(VARIANTS)}"
        )
    config = default_config()
    config.epochs = 50
    config.batch_size = 64
    config.data.update(dataset="isic2019", split=(0.70, 0.15, 0.15), image_size=224)
    config.data.preprocess.update(clahe=True, remove_hair=True)
    config.model.name = "efficientnet_b0"
    config.model.pretrained = "timm/tf_efficientnet_b0.aa_in1k"
    config.model.head = ("bn_256",)
    config.trainable = {
        "first150": freezing.keras_after("efficientnet_b0", 150),
        "last50": freezing.keras_last("efficientnet_b0", 50),
    }[variant]
    config.loss.update(name="cross_entropy", class_weight_exponent=0.5)
    config.optimizer.update(
        name="adam",
        learning_rate=5e-5,
        schedule="constant",
        warmup_fraction=0.0,
        eps=1e-7,
        weight_decay=0.0,
        clip_norm=0.0,
    )
    config.checkpoint.metric = "loss"
    config.plateau.patience = 3
    config.early_stopping.patience = 7
    return config
