"""The head that the config describes."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from skinjax.errors import InputError
from skinjax.models.heads import Head, check_layers

LAYERS = (("batch_norm",), ("dense", 6), ("relu",), ("dropout", 0.5))


def test_layers_are_in_the_order_of_the_config() -> None:
    x_BC = jnp.ones((2, 4))
    variables = Head(3, LAYERS).init(jax.random.key(0), x_BC, train=False, frozen=False)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {
        "batch_norm_0": {"bias": (4,), "scale": (4,)},
        "dense_1": {"bias": (6,), "kernel": (4, 6)},
        "logits": {"bias": (3,), "kernel": (6, 3)},
    }


def test_relu_and_final_layer_by_hand() -> None:
    head = Head(1, (("relu",),))
    params = {"logits": {"kernel": jnp.array([[1.0], [10.0]]), "bias": jnp.array([0.5])}}
    logits_BC = head.apply({"params": params}, jnp.array([[-3.0, 2.0]]), train=False, frozen=False)
    assert logits_BC.tolist() == [[20.5]]


def test_dropout_follows_train_and_batch_norm_follows_frozen() -> None:
    x_BC = jax.random.normal(jax.random.key(1), (8, 4))
    head = Head(3, LAYERS)
    variables = head.init(jax.random.key(0), x_BC, train=False, frozen=False)

    def apply(key: int, *, frozen: bool) -> tuple[jax.Array, Any]:
        return head.apply(
            variables,
            x_BC,
            train=True,
            frozen=frozen,
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
    head = Head(3, LAYERS, dtype=jnp.dtype(dtype))
    variables = head.init(jax.random.key(0), x_BC, train=False, frozen=False)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert head.apply(variables, x_BC, train=False, frozen=False).dtype == jnp.float32


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
