"""Vision Transformer (Dosovitskiy et al. 2021), with the layers of timm's vision_transformer.py."""

import math
from dataclasses import field

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models.backbone import Backbone, first_token
from skinjax.models.layers import (
    Conv,
    Dense,
    DropPath,
    LayerNorm,
    Mode,
    Settings,
    drop_path_rates,
)

# Per model: width of a token, and heads of attention.
VITS = {"vit_small_patch16": (384, 6), "vit_base_patch16": (768, 12)}
NAMES = tuple(VITS)

DEPTH = 12
PATCH = 16

# timm truncates at an absolute 2, which is 100 standard deviations.
INIT = nn.initializers.normal(0.02)


class Stem(nn.Module):
    """Images (B, H, W, 3) to tokens (B, 1 + N, C): the class token and N patches, with positions.

    Positions are learnt for one size of image; those of a file fit another one after `adapt`.
    """

    features: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, image_BHWC: jax.Array, mode: Mode) -> jax.Array:
        batch, height, width = image_BHWC.shape[:3]
        if height != width or height % PATCH or not height:
            raise InputError(
                f"images of {height} x {width} pixels don't divide into a square of patches of "
                f"{PATCH} x {PATCH}; set data.image_size to a multiple of {PATCH}"
            )
        shape = (1, 1 + (height // PATCH) ** 2, self.features)
        if (held := self._positions()) is not None and held.shape != shape:
            side = math.isqrt(held.shape[1] - 1) * PATCH
            raise InputError(
                f"images of {height} x {width} pixels, but the weights have positions for "
                f"{side} x {side}; set data.image_size={side}"
            )
        conv = Conv(
            self.features,
            PATCH,
            PATCH,
            padding="valid",
            use_bias=True,
            kernel_init=INIT,
            settings=self.settings,
            name="conv",
        )
        patches_BNC = conv(image_BHWC).reshape(batch, -1, self.features)
        token = self.param(
            "cls_token", nn.initializers.normal(1e-6), (1, 1, self.features), jnp.float32
        )
        positions = self.param("pos_embed", INIT, shape, jnp.float32)
        token_B1C = jnp.broadcast_to(token, (batch, 1, self.features)).astype(patches_BNC.dtype)
        tokens_BTC = jnp.concatenate([token_B1C, patches_BNC], axis=1)
        return tokens_BTC + positions.astype(tokens_BTC.dtype)

    def _positions(self) -> jax.Array | None:
        held: jax.Array | None = self.get_variable("params", "pos_embed")
        return held


class Attention(nn.Module):
    """Self-attention of all tokens with several heads; the softmax is in float32."""

    heads: int
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BTC: jax.Array) -> jax.Array:
        batch, tokens, features = x_BTC.shape
        qkv_BTE = Dense(3 * features, kernel_init=INIT, settings=self.settings, name="qkv")(x_BTC)
        qkv = qkv_BTE.reshape(batch, tokens, 3, self.heads, features // self.heads)
        y_BTND = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        y_BTC = y_BTND.reshape(batch, tokens, features)
        return Dense(features, kernel_init=INIT, settings=self.settings, name="project")(y_BTC)


class Block(nn.Module):
    """Attention, then two dense layers per token; each a residual branch behind a layer norm."""

    heads: int
    drop_path: float
    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BTC: jax.Array, mode: Mode) -> jax.Array:
        features, settings = x_BTC.shape[-1], self.settings
        y_BTC = LayerNorm(settings=settings, name="norm_attention")(x_BTC)
        y_BTC = Attention(self.heads, settings, name="attention")(y_BTC)
        x_BTC = x_BTC + DropPath(self.drop_path)(y_BTC, mode)
        y_BTC = LayerNorm(settings=settings, name="norm_dense")(x_BTC)
        y_BTC = Dense(4 * features, kernel_init=INIT, settings=settings, name="dense_expand")(y_BTC)
        y_BTC = nn.gelu(y_BTC, approximate=False)
        y_BTC = Dense(features, kernel_init=INIT, settings=settings, name="dense_project")(y_BTC)
        return x_BTC + DropPath(self.drop_path)(y_BTC, mode)


class FinalNorm(nn.Module):
    """Layer norm of every token, (B, T, C)."""

    settings: Settings = field(default_factory=Settings)

    @nn.compact
    def __call__(self, x_BTC: jax.Array, mode: Mode) -> jax.Array:
        return LayerNorm(settings=self.settings, name="norm")(x_BTC)


def build(name: str, model: ConfigDict, settings: Settings) -> Backbone:
    """The backbone called `name`, for square images whose side 16 divides.

    Args:
      name: one of `NAMES`.
      model: the config's `model`; `variant` and `drop_path` are read.
      settings: of the layers.

    Raises:
      InputError: `model.variant` is neither "timm" nor empty.
    """
    if model.variant not in ("", "timm"):
        raise InputError(
            f"model.variant is {model.variant!r}, but {name} comes only as 'timm': set that, or "
            "leave it empty"
        )
    features, heads = VITS[name]
    return vit(features, heads, DEPTH, model.drop_path, settings)


def vit(features: int, heads: int, depth: int, drop_path: float, settings: Settings) -> Backbone:
    """A Vision Transformer of `depth` blocks on patches of 16 x 16 pixels."""
    blocks = [
        Block(heads, rate, settings, name=f"block{number + 1}")
        for number, rate in enumerate(drop_path_rates(drop_path, (depth,))[0])
    ]
    stem, norm = Stem(features, settings, name="stem"), FinalNorm(settings, name="norm")
    # Behind the last block only the class token is read, so before it all tokens still count.
    return Backbone((stem, *blocks, norm), first_token, settings, last_map=f"block{depth - 1}")


def image_size(name: str) -> int:
    """Side of the images that `name` was trained on, in pixels."""
    return 224


def timm_architecture(architecture: str) -> tuple[str, str] | None:
    """Our name and variant for timm's name of an architecture; None for one not built here."""
    # Those of the same layers, whatever their images' size; timm's many other ViTs differ.
    names = {
        "vit_small_patch16_224": "vit_small_patch16",
        "vit_small_patch16_384": "vit_small_patch16",
        "vit_base_patch16_224": "vit_base_patch16",
        "vit_base_patch16_384": "vit_base_patch16",
        "deit_small_patch16_224": "vit_small_patch16",
        "deit_base_patch16_224": "vit_base_patch16",
        "deit_base_patch16_384": "vit_base_patch16",
    }
    return (names[architecture], "timm") if architecture in names else None


def timm_name(layer: str) -> str:
    """timm's name of a layer; "" is the root, which holds the class token and the positions.

    Args:
      layer: path inside the backbone, as "block3/attention/qkv".
    """
    match layer.split("/"):
        case ["stem"]:
            return ""
        case ["stem", "conv"]:
            return "patch_embed.proj"
        case ["norm", *_]:
            return "norm"
    inner = {
        "norm_attention": "norm1",
        "attention": "attn",
        "qkv": "qkv",
        "project": "proj",
        "norm_dense": "norm2",
        "dense_expand": "mlp.fc1",
        "dense_project": "mlp.fc2",
    }
    block, *rest = layer.split("/")
    number = int(block.removeprefix("block")) - 1
    return ".".join(["blocks", str(number), *(inner[part] for part in rest)])


def adapt(leaf_path: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A file's array for the parameter at `leaf_path`: positions resized to `shape`.

    The grid of positions is resized by cubic convolution, antialiased (timm's
    `resample_abs_pos_embed`); the class token's stays. Anything else comes back as it is.

    Args:
      leaf_path: as "stem/pos_embed".
      array: float32; positions are (1, 1 + N, C).
      shape: the parameter's, (1, 1 + N', C).
    """
    if leaf_path.split("/")[-1] != "pos_embed" or array.shape == shape:
        return array
    old, new = math.isqrt(array[0, 1:].shape[0]), math.isqrt(shape[1] - 1)
    if array.shape != (1, 1 + old**2, shape[2]):
        return array  # not a square of patches with a class token; the caller reports the shape
    grid_HWC = array[0, 1:].reshape(old, old, -1)
    resized = jax.image.resize(grid_HWC, (new, new, shape[2]), "cubic", antialias=True)
    patches_1NC = np.asarray(resized).reshape(1, new**2, -1)
    return np.concatenate([array[:, :1], patches_1NC], axis=1)
