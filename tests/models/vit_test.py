"""Vision Transformer. Parity with timm is in the golden tests of all families."""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import vit
from skinjax.models.backbone import Backbone
from skinjax.models.layers import Mode, Settings

TIMM = ConfigDict({"variant": "timm", "drop_path": 0.0})
EVALUATION, TRAINING = Mode(train=False), Mode(train=True)


def tiny(drop_path: float = 0.0, **settings: Any) -> Backbone:
    return vit.vit(8, 2, 2, drop_path, Settings(**settings))


def shapes(module: nn.Module, *inputs: Any) -> Any:
    """Shapes of the module's variables."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))


def drawn(module: nn.Module, *inputs: Any) -> Any:
    """Parameters drawn from a seed, none of them zero or one."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: random.normal(scale=0.5, size=leaf.shape).astype(np.float32),
        shapes(module, *inputs),
    )


def images(size: int = 32, number: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(number, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize(("name", "width"), [("vit_small_patch16", 384), ("vit_base_patch16", 768)])
def test_stages(name: str, width: int) -> None:
    backbone = vit.build(name, TIMM, Settings())
    assert backbone.stages == ("stem", *(f"block{n}" for n in range(1, 13)), "norm")

    def initialise(image_BHWC: jax.Array) -> Any:
        return backbone.init_with_output(
            jax.random.key(0),
            image_BHWC,
            EVALUATION,
            capture_intermediates=lambda module, _: module.name in backbone.stages,
        )

    features_BC, variables = jax.eval_shape(initialise, images(80))
    assert set(variables) == {"params", "intermediates"}  # no batch norm to freeze
    for stage in backbone.stages:
        assert variables["intermediates"][stage]["__call__"][0].shape == (2, 26, width)
    assert features_BC.shape == (2, width)
    assert vit.image_size(name) == 224


def test_names_are_timms() -> None:
    params = traverse_util.flatten_dict(shapes(tiny(), images(), EVALUATION)["params"])
    names = {f"{vit.timm_name('/'.join(layer))} {leaf}".strip() for *layer, leaf in params}
    layers = {
        *("norm1 scale", "norm1 bias", "attn.qkv kernel", "attn.qkv bias"),
        *("attn.proj kernel", "attn.proj bias", "norm2 scale", "norm2 bias"),
        *("mlp.fc1 kernel", "mlp.fc1 bias", "mlp.fc2 kernel", "mlp.fc2 bias"),
    }
    assert len(names) == len(params)
    assert names == {
        *("cls_token", "pos_embed", "patch_embed.proj kernel", "patch_embed.proj bias"),
        *(f"blocks.{number}.{layer}" for number in (0, 1) for layer in layers),
        *("norm scale", "norm bias"),
    }
    assert [vit.timm_name(stage) for stage in ("block12", "norm")] == ["blocks.11", "norm"]


def test_timm_architecture() -> None:
    small, base = ("vit_small_patch16", "timm"), ("vit_base_patch16", "timm")
    assert vit.timm_architecture("vit_small_patch16_224") == small
    assert vit.timm_architecture("vit_small_patch16_384") == small
    assert vit.timm_architecture("vit_base_patch16_224") == base
    assert vit.timm_architecture("vit_base_patch16_384") == base
    assert vit.timm_architecture("deit_base_patch16_224") == base
    for other in (
        "vit_base_patch16_clip_224",  # a norm before the blocks
        "vit_base_patch16_224_miil",  # no bias for queries, keys and values
        "vit_base_patch16_siglip_224",
        "vit_small_patch16_dinov3",
        "deit3_base_patch16_224",  # layer scale
        "flexivit_base",  # the same shapes, but no position for the class token
        "vit_base_patch32_224",
        "vit_tiny_patch16_224",
    ):
        assert vit.timm_architecture(other) is None


def test_tokens_of_the_stem() -> None:
    stem, image_BHWC = vit.Stem(4), images()
    variables = drawn(stem, image_BHWC, EVALUATION)
    params = variables["params"]
    kernel, bias = params["conv"]["kernel"], params["conv"]["bias"]
    got_BTC = jax.jit(lambda: stem.apply(variables, image_BHWC, EVALUATION))()
    want_BC = np.tile(params["cls_token"][0, 0] + params["pos_embed"][0, 0], (2, 1))
    np.testing.assert_allclose(got_BTC[:, 0], want_BC, rtol=1e-5)
    # Patches go row by row: the second is on the right of the first.
    patch_BHWC = image_BHWC[:, :16, 16:]
    want_BC = np.einsum("bhwi,hwio->bo", patch_BHWC, kernel) + bias + params["pos_embed"][0, 2]
    np.testing.assert_allclose(got_BTC[:, 2], want_BC, rtol=1e-4, atol=1e-4)


def test_attention_computed_by_hand() -> None:
    attention = vit.Attention(2)
    x_BTC = np.random.default_rng(1).normal(size=(1, 3, 4)).astype(np.float32)
    variables = drawn(attention, x_BTC)
    params = variables["params"]
    qkv_TE = x_BTC[0] @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    q_TC, k_TC, v_TC = np.split(qkv_TE, 3, axis=1)
    heads = []
    for head in (slice(0, 2), slice(2, 4)):
        weights_TT = np.exp(q_TC[:, head] @ k_TC[:, head].T / np.sqrt(2))
        heads.append(weights_TT / weights_TT.sum(1, keepdims=True) @ v_TC[:, head])
    want_TC = np.hstack(heads) @ params["project"]["kernel"] + params["project"]["bias"]
    got_BTC = jax.jit(lambda: attention.apply(variables, x_BTC))()
    np.testing.assert_allclose(got_BTC[0], want_TC, rtol=1e-5, atol=1e-5)


def test_drop_path_grows_linearly_to_the_last_block() -> None:
    model = ConfigDict({"variant": "", "drop_path": 0.11})
    blocks = vit.build("vit_small_patch16", model, Settings()).modules[1:-1]
    rates = [block.drop_path for block in blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.11, 12))


def test_drop_path_drops_either_branch() -> None:
    block = vit.Block(2, 0.5)
    x_BTC = np.tile(np.random.default_rng(1).normal(size=(1, 3, 4)), (64, 1, 1))
    variables = drawn(block, x_BTC, EVALUATION)
    rngs = {"dropout": jax.random.key(0)}
    y_BTC = jax.jit(lambda: block.apply(variables, x_BTC, TRAINING, rngs=rngs))()
    kinds = np.unique(np.round(y_BTC, 3), axis=0)
    assert len(kinds) == 4  # neither branch, one, the other, both
    assert any(np.allclose(kind, x_BTC[0], atol=1e-3) for kind in kinds)


@pytest.fixture(scope="module")
def gradients() -> dict[bool, Any]:
    """Gradients without and with remat, in training with stochastic depth."""

    def of(remat: bool) -> Any:
        backbone = tiny(0.3, remat=remat)
        variables, image_BHWC = drawn(backbone, images(), EVALUATION), images(number=8)
        rngs = {"dropout": jax.random.key(2)}

        def loss(variables: Any) -> jax.Array:
            features_BC: Any = backbone.apply(variables, image_BHWC, TRAINING, rngs=rngs)
            return jnp.cos(features_BC).sum()

        return jax.jit(jax.value_and_grad(loss))(variables)

    return {remat: of(remat) for remat in (False, True)}


def test_gradients_reach_every_parameter(gradients: dict[bool, Any]) -> None:
    _, gradient = gradients[False]
    for path, leaf in traverse_util.flatten_dict(gradient, sep="/").items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-6, path


def test_remat_keeps_gradients(gradients: dict[bool, Any]) -> None:
    (value, plain), (remat_value, remat) = gradients[False], gradients[True]
    np.testing.assert_allclose(remat_value, value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, remat)


def test_remat_of_every_block() -> None:
    variables = shapes(tiny(), images(), EVALUATION)
    jaxpr = jax.make_jaxpr(tiny(remat=True).apply, static_argnums=2)(
        variables, images(), EVALUATION
    )
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert len([name for name in names if name.startswith(("remat", "checkpoint"))]) == 4


def test_products_are_of_bfloat16() -> None:
    variables = shapes(tiny(), images(), EVALUATION)
    backbone = tiny(dtype=jnp.bfloat16, lowering="xla")
    lowered = jax.jit(backbone.apply, static_argnums=2).lower(variables, images(), EVALUATION)
    kinds = ("stablehlo.convolution", "stablehlo.dot_general")
    products = [line for line in lowered.as_text().splitlines() if any(k in line for k in kinds)]
    for line in products:
        assert re.search(r": \(tensor<[^>]*xbf16>, tensor<[^>]*xbf16>\) ->", line), line
    assert len([line for line in products if "convolution" in line]) == 1
    assert len(products) == 1 + 2 * 6


def test_bfloat16_is_close() -> None:
    variables, image_BHWC = drawn(tiny(), images(), EVALUATION), images()

    def features(dtype: Any) -> jax.Array:
        return jax.jit(lambda: tiny(dtype=dtype).apply(variables, image_BHWC, EVALUATION))()

    float32_BC, bfloat16_BC = features(jnp.float32), features(jnp.bfloat16)
    assert bfloat16_BC.dtype == jnp.bfloat16
    np.testing.assert_allclose(bfloat16_BC.astype(jnp.float32), float32_BC, atol=0.05)


def test_initial_parameters() -> None:
    backbone = vit.vit(8, 2, 1, 0.0, Settings())
    params = jax.jit(lambda: backbone.init(jax.random.key(0), images(64), EVALUATION))()["params"]
    flat = traverse_util.flatten_dict(params, sep="/")
    kernels = [np.ravel(leaf) for path, leaf in flat.items() if path.endswith("kernel")]
    np.testing.assert_allclose(np.std(np.concatenate(kernels)), 0.02, rtol=0.1)
    np.testing.assert_allclose(np.std(params["stem"]["pos_embed"]), 0.02, rtol=0.2)
    assert 0 < np.abs(params["stem"]["cls_token"]).max() < 1e-5
    for path, leaf in flat.items():
        value = {"bias": 0.0, "scale": 1.0}.get(path.split("/")[-1])
        if value is not None:
            np.testing.assert_allclose(leaf, value)


def test_what_it_refuses() -> None:
    for shape in ((40, 40), (32, 48), (0, 0)):
        with pytest.raises(InputError, match=f"images of {shape[0]} x {shape[1]} pixels don't"):
            shapes(tiny(), np.zeros((1, *shape, 3)), EVALUATION)
    variables = drawn(tiny(), images(), EVALUATION)
    with pytest.raises(InputError, match=r"images of 48 x 48 .* for 32 x 32; .*image_size=32"):
        jax.eval_shape(lambda: tiny().apply(variables, images(48), EVALUATION))
    with pytest.raises(InputError, match=r"model\.variant is 'keras', but vit_base_patch16"):
        vit.build(
            "vit_base_patch16", ConfigDict({"variant": "keras", "drop_path": 0.0}), Settings()
        )


def test_positions_are_resized_as_timm_does() -> None:
    # What timm 1.0.31's resample_abs_pos_embed makes of these 14 x 14 positions of two channels.
    array = np.square(np.arange(2 * 197)).astype(np.float32).reshape(1, 197, 2) % 17
    larger = vit.adapt("stem/pos_embed", array, (1, 401, 2))
    want = [
        *([0.0, 1.0], [2.4582663, 9.0348892], [0.9336229, 7.9651132], [3.1336946, 16.1230984]),
        *([11.8342552, 13.2155046], [14.2370825, 16.2976532], [0.1263406, 3.6714694]),
    ]
    assert larger.shape == (1, 401, 2)
    assert larger.dtype == np.float32
    np.testing.assert_allclose(larger[0, [0, 1, 20, 210, 211, 381, 400]], want, atol=1e-5)
    smaller = vit.adapt("stem/pos_embed", array, (1, 26, 2))
    want = [
        *([0.0, 1.0], [8.3644590, 8.3268213], [7.8176799, 8.3622847]),
        *([7.9509411, 8.0250397], [7.2859483, 7.6460171], [7.3682051, 7.2586485]),
    ]
    np.testing.assert_allclose(smaller[0, [0, 1, 5, 13, 21, 25]], want, atol=1e-5)


def test_what_adapt_leaves_alone() -> None:
    def same(leaf_path: str, held: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
        array = np.ones(held, np.float32)
        return vit.adapt(leaf_path, array, wanted) is array

    assert same("stem/pos_embed", (1, 10, 4), (1, 10, 4))
    assert same("stem/cls_token", (1, 1, 4), (1, 5, 4))
    # Wrong shapes, which the loader refuses: other channels, no square of patches, other axes.
    assert same("stem/pos_embed", (1, 10, 4), (1, 5, 8))
    assert same("stem/pos_embed", (1, 11, 4), (1, 5, 4))
    assert same("stem/pos_embed", (10, 4), (1, 5, 4))
    assert same("stem/pos_embed", (2, 10, 4), (1, 5, 4))
    assert not same("stem/pos_embed", (1, 10, 4), (1, 5, 4))
