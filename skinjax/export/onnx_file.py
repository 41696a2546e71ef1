"""ONNX: one file from uint8 RGB images of any size to probabilities.

The network is converted by jax2onnx, with the batch size left open; the resizing in front of it is
`onnx_resizing`. ONNX Runtime reads the result without JAX: see scripts/predict_onnx.py.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from skinjax.errors import InputError
from skinjax.export import description
from skinjax.export.description import Description
from skinjax.export.network import Network

METADATA_INPUT = "metadata"

_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"

_MISSING = (
    "ONNX export needs jax2onnx, onnx and onnxruntime ({}): install them with"
    " pip install 'skinjax[onnx]'"
)


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file, opened by ONNX Runtime on the CPU.

    Attributes:
      description: see `description.describe`.
      call: images uint8 (B, H, W, 3), and encoded metadata (B, M) where the model takes it, to
        `probabilities` and `logits`, (B, num_classes).
    """

    description: Description
    call: Callable[..., dict[str, np.ndarray]]


def write(path: Path, network: Network, described: Description) -> None:
    """Exports to `path`.

    Raises:
      InputError: the packages for it aren't installed.
    """
    try:
        import onnx
        from onnx import compose, helper

        from skinjax.export import onnx_pooling, onnx_resizing
    except ImportError as error:
        raise InputError(_MISSING.format(error)) from None
    model = _convert(network, onnx_resizing.OPSET)
    onnx_pooling.mend(model.graph)
    opsets = [helper.make_opsetid("", onnx_resizing.OPSET)]
    if described["outside"]:
        front, links = _from_resized(network), "image_of_floats"
    else:
        front, links = onnx_resizing.graph(network.model.preprocess), onnx_resizing.OUTPUT
    model = helper.make_model(
        compose.merge_graphs(
            compose.add_prefix_graph(front, "resizing/", rename_inputs=False),
            model.graph,
            io_map=[(f"resizing/{links}", "resized")],
        ),
        opset_imports=opsets,
        ir_version=onnx_resizing.IR_VERSION,
        producer_name="skinjax",
        doc_string=described["disclaimer"],
    )
    # Wrong or missing in what jax2onnx writes; ONNX Runtime infers them itself.
    del model.graph.value_info[:]
    helper.set_model_props(model, {description.KEY: description.to_text(described)})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def load(path: Path | str) -> OnnxModel:
    """Reads what `write` wrote.

    Raises:
      InputError: the file is missing, damaged or no such export, or ONNX Runtime isn't installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(_MISSING.format(error)) from None
    path = Path(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it says is in the exception
    # An export is one file. Others that a file names as holding its weights aren't looked for: in
    # the current folder ONNX Runtime would, and beside a file that it opens by name.
    options.add_session_config_entry(_EXTERNAL_FOLDER, os.devnull)
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime has a class for each fault, with no common one
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"{path} can't be read as ONNX ({reason}); export the model again"
        ) from None
    described = description.parse(
        session.get_modelmeta().custom_metadata_map.get(description.KEY), path
    )
    _check(session, described, path)
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    def call(*arrays: np.ndarray) -> dict[str, np.ndarray]:
        found = session.run(None, dict(zip(inputs, arrays, strict=True)))
        return dict(zip(outputs, found, strict=True))

    return OnnxModel(described, call)


def _check(session: Any, described: Description, path: Path) -> None:
    """Refuses a network whose inputs and outputs are others than its description says."""
    wanted = {"image": ("tensor(uint8)", 4, 3)}
    if patient_metadata := described["patient_metadata"]:
        wanted[METADATA_INPUT] = ("tensor(float)", 2, len(patient_metadata["columns"]))
    for name in described["outputs"]:
        wanted[name] = ("tensor(float)", 2, len(described["classes"]))
    found = {
        value.name: (value.type, len(value.shape), value.shape[-1] if value.shape else None)
        for value in (*session.get_inputs(), *session.get_outputs())
    }
    if list(found.items()) != list(wanted.items()):
        raise InputError(
            f"{path} takes and gives {found} (type, axes, size of the last), expected {wanted};"
            " export the model again"
        )


def _convert(network: Network, opset: int) -> Any:
    """The network alone, from resized images in [0, 255], float32."""
    size, width = network.model.image_size, network.model.num_metadata
    specs: list[Any] = [("batch", size, size, 3)]
    names = ["resized"]
    if width:
        specs.append(("batch", width))
        names.append(METADATA_INPUT)

    def outputs(image_BSSC: jax.Array, *metadata_BM: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = network.outputs(image_BSSC, *metadata_BM)
        return found["probabilities"], found["logits"]

    try:
        with _quiet(), _leaving_jnp_as_it_was():
            import jax2onnx

            return jax2onnx.to_onnx(
                outputs, specs, opset=opset, input_names=names,
                output_names=["probabilities", "logits"],
            )  # fmt: skip
    except ImportError as error:
        raise InputError(_MISSING.format(error)) from None


@contextlib.contextmanager
def _leaving_jnp_as_it_was() -> Iterator[None]:
    """Undoes what jax2onnx leaves behind: its own jnp.cumsum, which takes no positional axis."""
    before = dict(vars(jnp))
    try:
        yield
    finally:
        for name, value in before.items():
            if vars(jnp).get(name) is not value:
                setattr(jnp, name, value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """jax2onnx warns of plugins for packages that aren't installed, and of what JAX deprecates."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _from_resized(network: Network) -> Any:
    """The front of a model whose images come resized: uint8 to float32."""
    from onnx import TensorProto, helper

    size = network.model.image_size
    shape = ("batch", size, size, 3)
    return helper.make_graph(
        [helper.make_node("Cast", ["image"], ["image_of_floats"], to=TensorProto.FLOAT)],
        "cast",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("image_of_floats", TensorProto.FLOAT, shape)],
    )
