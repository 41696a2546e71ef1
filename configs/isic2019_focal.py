"""The last 30 layers of an EfficientNet-B0 or ResNet-50 on ISIC 2019, with focal loss.

    python -m skinjax.main train --config=configs/isic2019_focal.py:resnet50 \
        --config.data.raw_dir=PATH/TO/isic2019 --workdir=runs/isic2019_focal

The image part of one of the reference projects; `:efficientnet_b0` is the other network. Layers are
counted as Keras counts them. Batch norm of the backbone keeps to its running statistics, and its
scales and biases are not trained either. `--config.loss.name=cross_entropy` is the other loss.

It starts from timm/tf_efficientnet_b0.aa_in1k or timm/resnet50.a1_in1k, downloaded from the Hugging
Face hub once. Keras's own files go as well (`--config.model.pretrained=efficientnetb0_notop.h5` or
`=resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5`), as does any other repository, file or
folder; the normalisation is that of the weights. With `--config.model.pretrained=` everything is
trained from scratch.

What the project published leaves open, and what stands here: 224 pixels, a split of 70/15/15, the
amounts of the augmentations, focal gamma 2, and patience of 3 evaluations for the plateau, with
factor 0.5, and 7 for early stopping. What is evaluated and used is the best checkpoint, as always.
Images of one lesion stay in one split.

Not measured: the published weights can't be had where this was made.
"""

from ml_collections import ConfigDict

from skinjax import freezing
from skinjax.config import default_config
from skinjax.errors import InputError

# The published weights of each network.
VARIANTS = {
    "efficientnet_b0": "timm/tf_efficientnet_b0.aa_in1k",
    "resnet50": "timm/resnet50.a1_in1k",
}


def get_config(variant: str = "efficientnet_b0") -> ConfigDict:
    """AdamW at 1e-4, balanced class weights; everything is judged by validation loss."""
    if variant not in VARIANTS:
        raise InputError(
            f"isic2019_focal.py has no variant {variant!r}; it has {', '.join(VARIANTS)}"
        )
    config = default_config()
    config.epochs = 50
    config.batch_size = 32
    config.data.update(dataset="isic2019", split=(0.70, 0.15, 0.15), image_size=224)
    config.model.name = variant
    config.model.pretrained = VARIANTS[variant]
    config.model.head = ("bn_128_bn",)
    config.model.dtype = "bfloat16"
    config.model.frozen_batch_norm = "all"
    config.trainable = freezing.keras_last(variant, 30)
    config.augment.update(
        flip_horizontal=0.5,
        flip_vertical=0.5,
        rotation_degrees=20.0,
        crop_scale=(1.0, 1.0),
        shear_degrees=10.0,
        shift=0.1,
        zoom=0.1,
        brightness=0.1,
        contrast=0.0,
        saturation=0.0,
        hue=0.0,
        channel_shift=0.05,
        noise_std=0.0,
    )
    config.loss.update(name="focal", focal_gamma=2.0, class_weight_exponent=1.0)
    config.optimizer.update(
        name="adamw",
        learning_rate=1e-4,
        schedule="constant",
        warmup_fraction=0.0,
        eps=1e-7,
        weight_decay=1e-5,
        clip_norm=0.0,
    )
    config.checkpoint.metric = "loss"
    config.plateau.update(patience=3, metric="loss", factor=0.5)
    config.early_stopping.update(patience=7, metric="loss")
    return config
