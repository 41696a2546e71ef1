"""Benign or malignant on HAM10000: the head first, then the last 30 layers of a ResNet-50.

    python -m skinjax.main train --config=configs/ham10000_binary.py \
        --config.data.raw_dir=PATH/TO/ham10000 --workdir=runs/ham10000_binary

The recipe of one of the reference projects, with its networks as variants: `:resnet50`, `:vgg16`,
`:inception_v3`, `:efficientnet_b0`, and `:simple_cnn`, which has four convolutions and is trained
from scratch. Layers are counted as Keras counts them; VGG16 has 19 without its dense ones, so its
phase 2 trains them all. Malignant are akiec, bcc and mel.

Preprocessing is that of the weights. The project started from Keras's, and took Caffe's, which goes
with Keras's ResNet50 and VGG16: mean (123.68, 116.779, 103.939) of red, green and blue, std 1, on
0 to 255. That is what a Keras file brings along
(`--config.model.pretrained=resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5`). The default
weights are timm's, downloaded from the Hugging Face hub once, and were trained on ImageNet's mean
and std, so that Caffe's would be wrong for their frozen layers. With `--config.model.pretrained=`
everything is trained from scratch in one phase of 50 epochs, on ImageNet's mean and std.

The weight of the malignant class is n_benign / n_malignant of the training split, which is 4.125 on
all of HAM10000. PR-AUC is average precision of the malignant class.

What the project published leaves open, and what stands here: the amounts of the augmentations, 25
epochs at most of phase 2, which begins with the best of phase 1, patience of 3 evaluations for the
plateau, weight decay 1e-4, the images' size (the network's own), and all of `:simple_cnn` but the
network: images in [0, 1], one phase of 50 epochs at 1e-4. Images of one lesion stay in one split.

Not measured: the published weights can't be had where this was made.
"""

from ml_collections import ConfigDict

from skinjax import freezing
from skinjax.config import default_config, phase
from skinjax.errors import InputError

# The published weights of each network.
VARIANTS = {
    "resnet50": "timm/resnet50.a1_in1k",
    "vgg16": "timm/vgg16.tv_in1k",
    "inception_v3": "timm/inception_v3.tf_in1k",
    "efficientnet_b0": "timm/tf_efficientnet_b0.aa_in1k",
    "simple_cnn": "",
}


def get_config(variant: str = "resnet50") -> ConfigDict:
    """AdamW at 1e-4, then 1e-5; weighted binary cross-entropy; best by validation PR-AUC."""
    if variant not in VARIANTS:
        raise InputError(
            f"ham10000_binary.py has no variant {variant!r}; it has {', '.join(VARIANTS)}"
        )
    config = default_config()
    config.epochs = 50
    config.batch_size = 16
    config.data.update(dataset="ham10000_binary", split=(0.70, 0.15, 0.15))
    config.augment.update(
        flip_horizontal=0.5,
        flip_vertical=0.5,
        rotation_degrees=20.0,
        crop_scale=(1.0, 1.0),
        brightness=0.2,
        contrast=0.2,
        saturation=0.0,
        hue=0.0,
        noise_std=0.0,
    )
    _set_network(config, variant)
    # With one output the logits are (0, z), so this is weighted binary cross-entropy.
    config.loss.update(
        name="cross_entropy", class_weight_exponent=1.0, class_weight_scale="majority"
    )
    config.optimizer.update(
        name="adamw",
        learning_rate=1e-4,
        schedule="constant",
        warmup_fraction=0.0,
        eps=1e-7,
        weight_decay=1e-4,
        clip_norm=0.0,
    )
    config.checkpoint.metric = "pr_auc"
    config.plateau.update(patience=3, metric="pr_auc", factor=0.5)
    config.early_stopping.update(patience=7, metric="pr_auc", restore_best=True)
    return config


def _set_network(config: ConfigDict, variant: str) -> None:
    config.model.name = "simple_cnn4" if variant == "simple_cnn" else variant
    config.model.pretrained = VARIANTS[variant]
    config.model.head = ("bn_512_256_sigmoid",)
    config.model.fully_connected = variant != "vgg16"
    if variant == "simple_cnn":
        config.data.image_size = 224
        config.normalize.update(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        return
    config.phases = (
        phase(("head",), epochs=25),
        phase(_last_30(variant), epochs=25, learning_rate_factor=0.1),
    )


def _last_30(variant: str) -> tuple[str, ...]:
    """The head and the last 30 layers of the backbone as Keras counts them."""
    if variant == "vgg16":
        return ("*",)
    if variant == "inception_v3":
        # Its last block has 31 layers, the first of which is this convolution.
        block = "backbone/mixed_7c"
        branches = ("branch1x1", "branch3x3_*", "branch3x3dbl_1/bn", "branch3x3dbl_[23]*")
        return ("head", *(f"{block}/{branch}" for branch in (*branches, "branch_pool")))
    return freezing.keras_last(variant, 30)
