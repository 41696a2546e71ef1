"""EfficientNet-B0 on HAM10000 at 224 px, by gradual unfreezing: head first, then top to bottom.

    python -m skinjax.main --config=configs/effnet.py \
        --config.data.raw_dir=PATH/TO/ham10000 --workdir=runs/effnet

It starts from timm/efficientnet_b0.ra_in1k, which is downloaded from the Hugging Face hub once.
Where the hub can't be reached, put that repository's model.safetensors and config.json into a
folder and give it as `--config.model.pretrained=FOLDER`. With `--config.model.pretrained=` it
trains from scratch: a frozen random backbone learns nothing, so then there is one phase of
`epochs`, which trains everything.

Not measured with the published weights, nor on a GPU, nor to the end on a CPU: two cores train
11 images/s (three hours) and peak memory is 5.5 GiB (9.2 GiB with a batch of 64).
"""

from ml_collections import ConfigDict

from skinjax.config import default_config, phase


def get_config() -> ConfigDict:
    """Five phases over 30 epochs; each has its own warm-up and cosine."""
    config = default_config()
    config.model.name = "efficientnet_b0"
    config.model.pretrained = "timm/efficientnet_b0.ra_in1k"
    config.epochs = 30
    config.batch_size = 32
    config.optimizer.learning_rate = 5e-4
    config.loss.class_weight_exponent = 0.5
    top = ("head", "top")
    config.phases = (
        phase(("head",), epochs=4),
        phase((*top, "block7"), epochs=6, learning_rate_factor=0.5),
        phase((*top, "block7", "block6"), epochs=6, learning_rate_factor=0.3),
        phase((*top, "block7", "block6", "block5", "block4"), epochs=6, learning_rate_factor=0.2),
        phase(("*",), epochs=8, learning_rate_factor=0.1),
    )
    return config
