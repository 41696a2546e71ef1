"""The head that the config describes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from skinjax.errors import InputError
from skinjax.models.heads import PRESETS, Head, check_layers
from skinjax.models.layers import EVALUATION, Mode, Settings

LAYERS = (("batch_norm",), ("dense", 6), ("relu",), ("dropout", 0.5))


def test_layers_are_in_the_order_of_the_config() -> None:
    x_BC = jnp.ones((2, 4))
    variables = Head(3, LAYERS).init(jax.random.key(0), x_BC, EVALUATION)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {
        "batch_norm_0": {"bias": (4,), "scale": (4,)},
        "dense_1": {"bias": (6,), "kernel": (4, 6)},
        "logits": {"bias": (3,), "kernel": (6, 3)},
    }


def test_relu_and_final_layer_by_hand() -> None:
    head = Head(1, (("relu",),))
    params = {"logits": {"kernel": jnp.array([[1.0], [10.0]]), "bias": jnp.array([0.5])}}
    logits_BC = head.apply({"params": params}, jnp.array([[-3.0, 2.0]]), EVALUATION)
    assert logits_BC.tolist() == [[20.5]]


def test_dropout_follows_train_and_batch_norm_follows_frozen() -> None:
    x_BC = jax.random.normal(jax.random.key(1), (8, 4))
    head = Head(3, LAYERS)
    variables = head.init(jax.random.key(0), x_BC, EVALUATION)

    def apply(key: int, *, frozen: bool) -> tuple[jax.Array, Any]:
        return head.apply(
            variables,
            x_BC,
            Mode(True, frozenset({"batch_norm_0"} if frozen else ())),
            rngs={"dropout": jax.random.key(key)},
            mutable=["batch_stats"],
        )

    logits_BC, updates = apply(0, frozen=False)
    assert not jnp.allclose(logits_BC, apply(1, frozen=False)[0])
    before, after = variables["batch_stats"], updates["batch_stats"]
    assert not jnp.allclose(before["batch_norm_0"]["mean"], after["batch_norm_0"]["mean"])
    frozen_stats = apply(0, frozen=True)[1].get("batch_stats", before)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, frozen_stats))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_logits_and_parameters_are_float32(dtype: str) -> None:
    x_BC = jnp.ones((2, 4), jnp.float32)
    head = Head(3, LAYERS, Settings(jnp.dtype(dtype)))
    variables = head.init(jax.random.key(0), x_BC, EVALUATION)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert head.apply(variables, x_BC, EVALUATION).dtype == jnp.float32


@pytest.mark.parametrize(
    "layer",
    [
        ("dnse", 5),
        ("dense",),
        ("dense", 0),
        ("dense", 2.5),
        ("dense", True),
        ("relu", 1),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", "0.5"),
        (["relu"],),
        "relu",
        5,
        (),
    ],
)
def test_bad_layers_are_named_with_the_known_ones(layer: Any) -> None:
    with pytest.raises(InputError) as caught:
        check_layers((("relu",), layer))
    message = str(caught.value)
    assert repr(layer) in message
    assert "('dropout', rate)" in message
    assert "\n" not in message


def test_lists_from_a_file_become_tuples() -> None:
    assert check_layers([["dense", 8], ["dropout", 0]]) == (("dense", 8), ("dropout", 0))


@pytest.mark.parametrize(
    ("preset", "features", "parameters"),
    [  # by hand, on 2,048 features with batch statistics and a last layer of 7, or 1
        ("bn_256", 2048, 4 * 2048 + 2049 * 256 + 257 * 7),
        ("dropout_256_bn", 2048, 2049 * 256 + 4 * 256 + 257 * 7),
        (
            "bn_512_256_sigmoid",
            2048,
            4 * 2048 + 2049 * 512 + 4 * 512 + 513 * 256 + 257,
        ),
        ("dropout_512_256", 1280, 1281 * 512 + 4 * 512 + 513 * 256 + 4 * 256 + 257 * 7),
        ("bn_128_bn", 1280, 4 * 1280 + 1281 * 128 + 4 * 128 + 129 * 7),
        ("dense_256_128", 256, 257 * 256 + 257 * 128 + 129 * 7),
    ],
)
def test_published_heads_have_their_sizes(preset: str, features: int, parameters: int) -> None:
    layers = check_layers((preset,))
    head = Head(2 if "sigmoid" in preset else 7, layers)
    variables = jax.eval_shape(
        lambda: head.init(jax.random.key(0), jnp.zeros((1, features)), EVALUATION)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == parameters
    dropouts = [rate for kind, *rest in layers for rate in rest if kind == "dropout"]
    assert (
        dropouts
        == {
            "bn_256": [0.5],
            "dropout_256_bn": [0.5, 0.5],
            "bn_512_256_sigmoid": [0.5, 0.5, 0.3],
            "dropout_512_256": [0.5, 0.5, 0.5],
            "bn_128_bn": [0.5, 0.25],
            "dense_256_128": [0.7, 0.7],
        }[preset]
    )


def test_a_preset_of_another_name_is_an_error() -> None:
    with pytest.raises(InputError, match=r"'bn_265'; .* did you mean bn_256\?$"):
        check_layers(("bn_265",))
    assert set(PRESETS) == {
        "bn_256", "dropout_256_bn", "bn_512_256_sigmoid", "dropout_512_256", "bn_128_bn",
        "dense_256_128",
    }  # fmt: skip


def test_a_sigmoid_is_the_softmax_of_two_logits() -> None:
    head = Head(2, (("sigmoid",),))
    params = {"logits": {"kernel": jnp.array([[1.0], [2.0]]), "bias": jnp.array([0.5])}}
    logits_BC = head.apply({"params": params}, jnp.array([[1.0, 2.0], [-3.0, 0.0]]), EVALUATION)
    assert logits_BC.tolist() == [[0.0, 5.5], [0.0, -2.5]]
    np.testing.assert_allclose(
        jax.nn.softmax(logits_BC)[:, 1], jax.nn.sigmoid(jnp.array([5.5, -2.5])), rtol=1e-6
    )


def test_a_sigmoid_is_last_and_for_two_classes() -> None:
    with pytest.raises(InputError, match="before its end"):
        check_layers((("sigmoid",), ("relu",)))
    with pytest.raises(InputError, match="two classes apart, not 7"):
        Head(7, (("sigmoid",),)).init(jax.random.key(0), jnp.zeros((1, 4)), EVALUATION)


def test_metadata_joins_the_features_by_hand() -> None:
    head = Head(1, metadata_width=2)
    params = {
        "metadata": {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.array([0.5, 0.5])},
        "logits": {"kernel": jnp.array([[1.0], [10.0], [100.0]]), "bias": jnp.array([0.0])},
    }
    x_BC, metadata_BM = jnp.array([[7.0]]), jnp.array([[2.0]])
    logits_BC = head.apply({"params": params}, x_BC, EVALUATION, metadata_BM)
    assert logits_BC.tolist() == [[7.0 + 10 * 2.5]]


def test_metadata_comes_before_the_head_s_own_layers() -> None:
    head = Head(3, check_layers(("bn_128_bn",)), metadata_width=8)
    variables = jax.eval_shape(
        lambda: head.init(jax.random.key(0), jnp.zeros((1, 20)), EVALUATION, jnp.zeros((1, 5)))
    )
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes["metadata"] == {"bias": (8,), "kernel": (5, 8)}
    assert shapes["batch_norm_0"]["scale"] == (28,)
    assert shapes["dense_2"]["kernel"] == (28, 128)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_with_metadata_are_float32(dtype: str) -> None:
    head = Head(3, LAYERS, Settings(jnp.dtype(dtype)), metadata_width=4)
    args = (jnp.ones((2, 4)), EVALUATION, jnp.ones((2, 3)))
    variables = head.init(jax.random.key(0), *args)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert head.apply(variables, *args).dtype == jnp.float32


def test_metadata_and_the_model_must_fit() -> None:
    x_BC, metadata_BM = jnp.ones((2, 4)), jnp.ones((2, 3))
    with pytest.raises(InputError, match="takes patient metadata beside the image and got none"):
        Head(3, metadata_width=4).init(jax.random.key(0), x_BC, EVALUATION)
    with pytest.raises(InputError, match="takes images alone and got patient metadata"):
        Head(3).init(jax.random.key(0), x_BC, EVALUATION, metadata_BM)
