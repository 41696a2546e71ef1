"""Every field of the configuration with its default."""

from ml_collections import ConfigDict

from skinjax.errors import InputError


def default_config() -> ConfigDict:
    """Returns every field with its default; locked, so that an unknown field is an error."""
    config = ConfigDict()
    config.seed = 0  # initial parameters, dropout, augmentation, order of the examples
    config.epochs = 30  # length of the only phase, where `phases` is empty
    config.steps = 0  # its length in optimizer steps, in place of epochs
    config.batch_size = 64  # global: over all devices and processes
    config.data = _data()
    config.synthetic = ConfigDict({"num_lesions": 400, "image_size": 128, "seed": 0})
    config.augment = _augment()
    # Per channel, red first, on images in [0, 1]; empty is the pretrained weights' own, and
    # ImageNet's without any.
    config.normalize = ConfigDict({"mean": (), "std": ()})
    config.model = _model()
    config.loss = _loss()
    config.optimizer = _optimizer()
    # What is trained where `phases` is empty: "*" for everything, stages, or paths of layers
    # ("backbone/block7/*/bn_*"); `train --dry_run` lists the stages.
    config.trainable = ("*",)
    # Gradual unfreezing: a tuple of `phase(...)`; empty is one phase of `epochs`.
    config.phases = ()
    # Without pretrained weights phases that freeze give way to one that trains everything for
    # `epochs`, since a frozen random backbone learns nothing; True keeps them all the same.
    config.phases_from_scratch = False
    config.parallel = _parallel()
    config.checkpoint = _checkpoint()
    config.metadata = _metadata()
    config.ema = ConfigDict(
        {
            # Of the moving average of parameters and batch statistics, which is what is evaluated
            # and kept for use; 0 is none.
            "decay": 0.0,
            "warmup": True,  # decay is at most (1 + step) / (10 + step)
        }
    )
    # Counted in evaluations: once each.
    config.plateau = _plateau()
    config.early_stopping = _early_stopping()
    config.evaluate = ConfigDict(
        {
            "batch_size": 0,  # of validation and test; 0 is the training batch size
            "every_epochs": 1,
            "every_steps": 0,  # in place of every_epochs, counted in each phase
        }
    )
    config.profile = False  # a trace of a few steps, in the work directory's folder `profile`
    config.log = ConfigDict({"every_steps": 10, "tensorboard": True, "progress": True})
    return config.lock()


def phase(
    trainable: tuple[str, ...],
    epochs: int = 0,
    learning_rate_factor: float = 1.0,
    steps: int = 0,
) -> ConfigDict:
    """Describes one phase of gradual unfreezing.

    Args:
      trainable: what is trained, as in `config.trainable`; all else is frozen. See
        `skinjax.freezing` for "the last n stages" and for Keras's counts of layers.
      epochs: length; warm-up and schedule run within it.
      learning_rate_factor: multiplies `optimizer.learning_rate`.
      steps: the length in optimizer steps, in place of epochs.
    """
    if isinstance(trainable, str) or not all(isinstance(entry, str) for entry in trainable):
        raise InputError(f"phase({trainable!r}, ...): expected a tuple of names, as ('head',)")
    return ConfigDict(
        {
            "trainable": tuple(trainable),
            "epochs": epochs,
            "steps": steps,
            "learning_rate_factor": learning_rate_factor,
        }
    )


def _data() -> ConfigDict:
    return ConfigDict(
        {
            "dataset": "ham10000",
            # The published files, searched with all folders inside; several folders are joined with
            # os.pathsep, as in PATH. Empty is right for `synthetic` only.
            "raw_dir": "",
            "prepared_dir": "data/prepared",  # prepared sets land here, one folder a fingerprint
            "directory": "",  # a folder that `prepare` printed: opened as it is, with its settings
            "isic2019_scc": "keep",  # "drop" SCC, or "merge" it with AK: seven classes
            # Of `csv`: the table, its columns ("" is: there is none), and the order of the classes.
            "table": "",
            "columns": {
                "image": "image",  # file name or path, with or without its ending
                "label": "label",
                "lesion": "",
                "patient": "",
                "age": "",
                "sex": "",
                "site": "",
                "split": "",
            },
            "classes": (),  # of `csv` and `folder`; empty is all that there are, alphabetically
            "min_side": 32,  # smaller images are left out
            # Exact copies under one label, or several: "keep" them all, in one split, or "drop" all
            # but one, or all.
            "duplicates": "keep",
            "near_duplicates": True,  # images that look alike stay in one split
            "preprocess": {  # on the image as published, in this order
                "crop_border": False,  # of black
                "remove_hair": False,
                "color_constancy": False,  # Shades of Gray
                "clahe": False,
            },
            # To a square: "squash" it, "crop" the centre, or "pad" with black.
            "resize": "squash",
            "short_side": 0,  # of "crop", before the crop; 0 is image_size
            "image_size": 0,  # side of the square images, in pixels; 0 is the model's own
            "encoding": "raw",  # of the images in the shards
            "strict": False,  # a row without a readable image is an error, not a report line
            "published_split": True,  # keep the split of a data set that was published with one
            "split": (0.70, 0.15, 0.15),  # train, validation, test
            "split_seed": 0,
            "split_file": "",  # CSV with image_id and split, in place of all other splits
            # k > 1: all but the test split is cut into k folds, of which `fold` is for validation;
            # -1 is every fold in turn (cross-validation).
            "folds": 0,
            "fold": -1,
            "train_on": "train",  # "all" refits on every split, without internal evaluation
            # 0 draws every image once an epoch, 1 every class equally often; in between, class c
            # is drawn in proportion to n_c ** (1 - balance).
            "balance": 0.0,
            "cache": False,  # decode once, into a memory-mapped file beside the shards
            # Decoded images in the memory of every device, where the steps take their batches from:
            # "on", "off", or "auto", which is on where an accelerator has room and num_workers is
            # 0. The same batches, bit for bit.
            "on_device": "auto",
            "num_threads": 4,  # that read and stack batches
            "num_workers": 0,  # processes that do; 0 is this one
        }
    )


def _augment() -> ConfigDict:
    """The mild set for dermoscopy."""
    return ConfigDict(
        {
            "flip_horizontal": 0.3,  # probability
            "flip_vertical": 0.0,  # probability
            "rotation_degrees": 3.0,  # uniform in plus or minus
            "crop_scale": (0.92, 1.0),  # share of the area that is kept
            "shear_degrees": 0.0,  # uniform in plus or minus, along x
            "shift": 0.0,  # along each axis, uniform in plus or minus, times the side
            "zoom": 0.0,  # of each axis by itself, factor uniform in 1 plus or minus
            "brightness": 0.05,  # factor uniform in 1 plus or minus
            "contrast": 0.05,
            "saturation": 0.05,
            "hue": 0.05,  # shift uniform in plus or minus, in turns
            "channel_shift": 0.0,  # the same for all channels, uniform in plus or minus, on [0, 1]
            "noise_std": 0.02,  # Gaussian, on [0, 1]
            # RandAugment: so many of its operations on each image, 0 is none; their strength, of
            # 10, and its standard deviation.
            "randaugment_operations": 0,
            "randaugment_magnitude": 9.0,
            "randaugment_magnitude_std": 0.5,
            # Random erasing: probability; the rectangle's share of the area, and its aspect.
            "erasing": 0.0,
            "erasing_area": (0.02, 0.33),
            "erasing_aspect": (0.3, 3.3),
            # Beta(alpha, alpha) of mixing pairs of images and their labels; 0 is none. With both, a
            # pair is cut with probability cutmix_share.
            "mixup_alpha": 0.0,
            "cutmix_alpha": 0.0,
            "mix_probability": 1.0,  # of a pair to be mixed at all
            "cutmix_share": 0.5,
        }
    )


def _model() -> ConfigDict:
    return ConfigDict(
        {
            "name": "efficientnet_b0",
            # Published weights: a repository of the Hugging Face hub ("timm/resnet50.a1_in1k"),
            # a .safetensors or a Keras .h5 file, or a folder with model.safetensors and
            # config.json. Empty is to train from scratch.
            "pretrained": "",
            # Whose padding and batch norm: "timm" is PyTorch's, "tf" those of timm's tf_* ports,
            # "keras" Keras Applications'. Empty is that of the weights, and "timm" without any.
            "variant": "",
            "width": 64,  # channels of a ResNet's first stage; 64 is the published network
            "fully_connected": True,  # VGG's two dense layers of 4,096 (Keras's include_top)
            "drop_path": 0.0,  # stochastic depth at the last block, linear from 0
            # Layers between pooling and the last dense one: ("dense", width), ("relu",), ("silu",),
            # ("gelu",), ("tanh",), ("batch_norm",), ("dropout", rate), in any order; at the end,
            # ("sigmoid",) for one output that tells two classes apart. Or one published head:
            # ("bn_256",), ("dropout_256_bn",), ("bn_512_256_sigmoid",), ("dropout_512_256",),
            # ("bn_128_bn",), ("dense_256_128",); see skinjax/models/heads.py.
            "head": (("dropout", 0.2),),
            "dtype": "float32",  # of the computation; parameters and logits are float32
            # Batch norm of a frozen layer: "running" uses its running statistics and leaves
            # them alone (Keras's trainable=False); "batch" is PyTorch's requires_grad=False.
            # "all" freezes every batch norm of the backbone, trainable stages included.
            "frozen_batch_norm": "running",
            "remat": False,  # activations are computed again going backward: less memory, slower
            # Of convolutions: "auto" by platform, "xla" XLA's own, "cpu" the one for the CPU.
            "lowering": "auto",
        }
    )


def _loss() -> ConfigDict:
    return ConfigDict(
        {
            "name": "cross_entropy",
            "label_smoothing": 0.0,
            "focal_gamma": 2.0,
            "focal_alpha": (),  # one per class; empty is 1 for all
            "class_weights": (),  # one per class, in place of those made from the counts
            # Weight of class c: (N / (C n_c)) ** exponent. 1 balanced, 0.5 square root, 0 none.
            "class_weight_exponent": 0.0,
            # Effective numbers: (1 - beta**n_c) / (1 - beta) takes the place of n_c; 0 is off.
            "class_weight_beta": 0.0,
            # What the weights are relative to: "mean" as above, "majority" so that the largest
            # class has weight 1, "sum" so that they sum to C.
            "class_weight_scale": "mean",
            "reduction": "batch",  # the weighted sum is divided by: "batch" size or "weights"
        }
    )


def _optimizer() -> ConfigDict:
    """AdamW; the learning rate warms up linearly, then follows the schedule, in each phase."""
    return ConfigDict(
        {
            "name": "adamw",  # or "adam", "sgd", "lamb", "lion"
            "learning_rate": 1e-3,  # the peak
            # After the warm-up: "cosine", "warm_restarts" (cosine cycles) or "constant".
            "schedule": "cosine",
            "start_factor": 0.1,  # learning rate at step 0, times the peak
            "end_factor": 0.01,  # learning rate at the end of a cosine, times the peak
            "warmup_fraction": 0.1,  # of the steps of the phase
            # Of "warm_restarts": length of the first cycle after the warm-up, in epochs or parts of
            # one, and of each further one times the one before.
            "restart_epochs": 10.0,
            "restart_factor": 2.0,
            "b1": 0.9,  # of Adam, LAMB and Lion
            "b2": 0.999,  # published for Lion: 0.99
            "eps": 1e-8,  # published for LAMB: 1e-6
            "momentum": 0.9,  # of SGD
            "nesterov": True,
            # Not on biases and norm parameters; in "adam" and "sgd" a part of the gradient (L2).
            "weight_decay": 1e-4,
            # Learning rate of a stage times this to the power of its distance from the head.
            "layer_decay": 1.0,
            # Clipping, one after the other where several are on: of each element of the gradients;
            # of their global norm over what is trained; 0 is off.
            "clip_value": 0.0,
            "clip_norm": 1.0,
            "clip_adaptive": 0.0,  # of each unit's gradient, times the norm of its parameters
            # A batch goes through the network in so many parts, whose gradients are added up.
            "accumulate": 1,
            # At a phase boundary, keep the moments of what was already trained.
            "carry_moments": True,
        }
    )


def _metadata() -> ConfigDict:
    """Patient metadata as a second input."""
    return ConfigDict(
        {
            "features": (),  # of "age", "sex" and "site"; empty is images alone
            "width": 64,  # of the dense layer whose output joins the image's features
            "dropout": 0.1,  # probability in training that a feature of an example is missing
        }
    )


def _plateau() -> ConfigDict:
    """The learning rate falls where validation gets no better; begins anew in each phase."""
    return ConfigDict(
        {
            "patience": 0,  # evaluations without an improvement; 0 never lowers it
            "metric": "",  # of validation; empty is checkpoint.metric
            "factor": 0.5,
            "min_delta": 0.0,  # a smaller gain is no improvement
            "min_factor": 0.0,  # the learning rate falls no further than this times its schedule
        }
    )


def _early_stopping() -> ConfigDict:
    """A phase ends where validation gets no better; begins anew in each phase."""
    return ConfigDict(
        {
            "patience": 0,  # evaluations without an improvement; 0 never stops
            "metric": "",  # of validation; empty is checkpoint.metric
            "min_delta": 0.0,  # a smaller gain is no improvement
            # The next phase begins with the best checkpoint so far, by checkpoint.metric, and not
            # with the latest; then with new moments, whatever optimizer.carry_moments says.
            "restore_best": False,
        }
    )


def _parallel() -> ConfigDict:
    return ConfigDict(
        {
            "mode": "pmap",
            "num_devices": 0,  # the first so many of this machine's; 0 is all
            # Without a GPU: how many devices the CPU is made into, 0 for one. XLA leaves cores idle
            # on small networks, and a device for each core does not.
            "cpu_devices": 0,
            # Without a GPU: reuse what a step has freed for the next one. Faster, more memory.
            "keep_freed_memory": True,
            # Cross-validation trains one fold on each device at the same time.
            "fold_per_device": False,
            "deterministic": False,  # XLA's deterministic operations on a GPU
            "distributed": False,  # several processes: jax.distributed.initialize
            "coordinator_address": "",  # host:port; empty asks Slurm or Kubernetes
            "num_processes": 0,  # 0 asks Slurm or Kubernetes
            "process_id": -1,  # -1 asks Slurm or Kubernetes
        }
    )


def _checkpoint() -> ConfigDict:
    return ConfigDict(
        {
            "metric": "balanced_accuracy",  # on validation, chooses the best
            "keep_best": 1,
            "every_steps": 0,  # besides at the end of each row of history.csv; 0 is only there
        }
    )
