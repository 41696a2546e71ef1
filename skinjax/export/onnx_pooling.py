"""Pooling over rows and columns as ONNX Runtime has it.

jax2onnx turns `lax.reduce_window` over (B, H, W, C) into a pooling over four axes, of which ONNX
Runtime has no kernel (its sum is of absolute values, too). Here it becomes the pooling over two.
"""

from typing import Any

from onnx import helper, numpy_helper

from skinjax.errors import InputError

_POOLS = ("MaxPool", "LpPool", "Conv")


def mend(graph: Any) -> None:
    """Rewrites every pooling over four axes; `graph` is an onnx.GraphProto.

    Raises:
      InputError: one is of another form than jax2onnx is known to write.
    """
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    mended = {}
    dropped = set()
    for node in graph.node:
        window = _attribute(node, "kernel_shape")
        if node.op_type == "Conv" and window is None:
            window = _window_of_ones(graph, node)
        if node.op_type not in _POOLS or window is None or len(window) != 4:
            continue
        inner = makers.get(node.input[0])
        outer = makers.get(inner.input[0]) if inner else None
        after = users.get(node.output[0], [])
        types = [one.op_type if one else "" for one in (outer, inner, *after)]
        if types != ["Unsqueeze", "Unsqueeze", "Squeeze"] or not (outer and inner):
            raise _unknown(node)
        mended[node.output[0]] = _pool(node, window, outer.input[0], after[0].output[0])
        dropped |= {inner.output[0], outer.output[0], after[0].output[0]}
    nodes = []
    for node in graph.node:
        if node.output[0] in mended:
            nodes += mended[node.output[0]]
        elif node.output[0] not in dropped:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    constants = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _pool(node: Any, window: list[int], source: str, target: str) -> list[Any]:
    """Nodes that do what `node` does to (B, H, W, C)."""
    strides = _attribute(node, "strides") or [1] * 4
    pads = _attribute(node, "pads") or [0] * 8
    if (window[0], window[3], strides[0], strides[3]) != (1, 1, 1, 1):
        raise _unknown(node)
    name = node.output[0]
    arguments: dict[str, Any] = {
        "kernel_shape": window[1:3],
        "strides": strides[1:3],
        "pads": [pads[1], pads[2], pads[5], pads[6]],
    }
    to = helper.make_node("Transpose", [source], [f"{name}/in"], perm=[0, 3, 1, 2])
    back = helper.make_node("Transpose", [f"{name}/out"], [target], perm=[0, 2, 3, 1])
    if node.op_type == "MaxPool":
        pool = helper.make_node("MaxPool", [f"{name}/in"], [f"{name}/out"], **arguments)
        return [to, pool, back]
    mean = helper.make_node(
        "AveragePool", [f"{name}/in"], [f"{name}/mean"], count_include_pad=1, **arguments
    )
    count = helper.make_node(
        "Constant", [], [f"{name}/count"], value_float=float(window[1] * window[2])
    )
    total = helper.make_node("Mul", [f"{name}/mean", f"{name}/count"], [f"{name}/out"])
    return [to, mean, count, total, back]


def _unknown(node: Any) -> InputError:
    return InputError(
        f"ONNX Runtime can't compute this network's pooling: operator {node.op_type}, {node.name}"
        f" with the window {_attribute(node, 'kernel_shape')}; export with --format=stablehlo"
    )


def _window_of_ones(graph: Any, node: Any) -> list[int] | None:
    """The window of a convolution of one channel with ones alone, which is a sum."""
    kernel = next((one for one in graph.initializer if one.name == node.input[1]), None)
    if kernel is None or list(kernel.dims[:2]) != [1, 1]:
        return None
    return list(kernel.dims[2:]) if (numpy_helper.to_array(kernel) == 1).all() else None


def _attribute(node: Any, name: str) -> list[int] | None:
    return next((list(one.ints) for one in node.attribute if one.name == name), None)
