"""The format of a golden file: what a reference library computed with seeded weights.

An .npz without pickle. "about" is a JSON text as bytes: the library, the architecture, the seed,
the image's shape, the tensors of the weights file. Beside it are float32 arrays:

    eval/logits, train/logits        sampled values
    eval/<stage>                     sampled values of the stage's feature map
    train/statistics                 sampled running means and variances after one train step, a
                                     row for each of `statistics_names`

A sampled array holds the mean, the standard deviation and at most `SAMPLES` values, at the places
that the seed gives for this name and size.
"""

import json
import pathlib
from dataclasses import asdict, dataclass, field

import numpy as np
import seeded_weights

SAMPLES = 128
STATISTICS = 4


@dataclass
class Golden:
    """One golden file.

    Attributes:
      library: name and version.
      architecture: what the library calls the network.
      seed: of weights, image and places.
      image_shape: (B, H, W, 3).
      pixels: the network was given pixels from 0 to 255, not `seeded_weights.normalised` ones.
      share: of the running statistics that a train step keeps; 0 without batch norm.
      contrast: the logits' standard deviation of the two images' difference, over their own.
      float32_error: of the library itself, float32 against float64, relative to the maximum.
      map_shapes: of the full arrays, by the key of the sampled ones.
      tensors: the weights file's.
      constants: values of tensors that are not drawn, by name.
      layers: an HDF5 file's, with those that own no weights; empty for safetensors.
      arrays: by key.
    """

    library: str
    architecture: str
    seed: int
    image_shape: tuple[int, int, int, int]
    pixels: bool = False
    share: float = 0.0
    contrast: float = 0.0
    float32_error: dict[str, float] = field(default_factory=dict)
    map_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    tensors: list[seeded_weights.Tensor] = field(default_factory=list)
    constants: dict[str, list[float]] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, key: str, values: np.ndarray) -> None:
        """Samples a logits array or a feature map."""
        self.map_shapes[key] = values.shape
        self.arrays[key] = sample(values, key)

    @property
    def image(self) -> np.ndarray:
        """The network's input, float32 (B, H, W, 3)."""
        image = seeded_weights.images(self.image_shape, self.seed)
        return image.astype(np.float32) if self.pixels else seeded_weights.normalised(image)

    @property
    def stages(self) -> list[str]:
        """The names of the stages recorded, from stem to top."""
        keys = [key.removeprefix("eval/") for key in self.map_shapes if key.startswith("eval/")]
        return [key for key in keys if key != "logits"]

    @property
    def statistics_names(self) -> list[str]:
        """The names of the running means and variances, in the file's order."""
        endings = ("running_mean", "running_var", "/moving_mean:0", "/moving_variance:0")
        return [tensor.name for tensor in self.tensors if tensor.name.endswith(endings)]

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the tensors of the weights file by name, drawn again."""
        filled = seeded_weights.fill(self.tensors, self.seed)
        for name, constant in self.constants.items():
            filled[name] = np.asarray(constant, filled[name].dtype)
        return filled

    def write_weights(self, path: pathlib.Path) -> None:
        """Writes the weights file: safetensors, or HDF5 as Keras's published ones if `layers`."""
        if not self.layers:
            from safetensors.numpy import save_file

            save_file(self.weights(), path)
            return
        import h5py

        weights = self.weights()
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = np.array(self.layers, "S")
            for layer in self.layers:
                group = file.create_group(layer)
                owned = [name for name in weights if name.split(" ")[0] == layer]
                group.attrs["weight_names"] = np.array([name.split(" ")[1] for name in owned], "S")
                for name in owned:
                    group[name.split(" ")[1]] = weights[name]

    def write(self, path: pathlib.Path) -> None:
        """Writes the file."""
        about = asdict(self)
        arrays = about.pop("arrays")
        text = json.dumps(about, separators=(",", ":"))
        np.savez_compressed(path, about=np.frombuffer(text.encode(), np.uint8), **arrays)


def read(path: pathlib.Path) -> Golden:
    """Reads a golden file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    about = json.loads(arrays.pop("about").tobytes())
    tensors = [
        seeded_weights.Tensor(name, tuple(shape), dtype, scale)
        for name, shape, dtype, scale in about.pop("tensors")
    ]
    shapes = {key: tuple(shape) for key, shape in about.pop("map_shapes").items()}
    image_shape = tuple(about.pop("image_shape"))
    return Golden(
        tensors=tensors, map_shapes=shapes, image_shape=image_shape, arrays=arrays, **about
    )


def sample(values: np.ndarray, key: str, count: int = SAMPLES) -> np.ndarray:
    """Returns the mean, the standard deviation and up to `count` values of an array, as float32."""
    flat = np.asarray(values, np.float64).ravel()
    taken = flat[seeded_weights.places(key, flat.size, count)]
    return np.concatenate([[flat.mean(), flat.std()], taken]).astype(np.float32)


def sample_statistics(statistics: dict[str, np.ndarray]) -> np.ndarray:
    """Returns (tensors, STATISTICS) float32: values of each running mean or variance."""
    rows = [
        np.asarray(values).ravel()[seeded_weights.places(name, values.size, STATISTICS)]
        for name, values in statistics.items()
    ]
    return np.asarray(rows, np.float32).reshape(-1, STATISTICS)


def contrast(logits_BC: np.ndarray) -> float:
    """Returns how far the logits depend on the image: their difference's spread over their own."""
    return round(float((logits_BC[0] - logits_BC[1]).std() / logits_BC.std()), 3)


def check_spread(name: str, values: np.ndarray) -> None:
    """Raises ValueError unless a map has values of sane size that differ from image to image."""
    spread, between = values.std(), (values[0] - values[1]).std()
    if not (1e-2 < spread < 1e2 and np.abs(values).max() < 1e3 and between > 0.1 * spread):
        raise ValueError(
            f"{name} has a standard deviation of {spread:.3g}, a maximum of "
            f"{np.abs(values).max():.3g} and {between:.3g} between the images"
        )
