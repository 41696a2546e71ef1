"""StableHLO: one file with the serialised function of `jax.export`, and its description.

The file is a zip without compression, with a checksum, of two entries: `function.jax_export`, which
`jax.export.deserialize` reads, and `description.json`.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo as dialect

from skinjax.errors import InputError
from skinjax.export import description, resizing
from skinjax.export.description import Description
from skinjax.export.network import Network

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

_FUNCTION, _DESCRIPTION = "function.jax_export", "description.json"
_MAX_BYTES = 4 << 30

# What an export consists of. A custom call runs code of the process by its name: one into Python
# takes an address in memory from the file, and jumps there.
_DIALECTS = {"builtin", "func", "stablehlo"}
_TARGETS = {"shape_assertion"}  # of the symbolic sizes; JAX takes it out again


@dataclass(frozen=True)
class StableHLO:
    """An exported function, read.

    Attributes:
      description: see `description.describe`.
      call: images uint8 (B, H, W, 3), and encoded metadata (B, M) where the model takes it, to
        `probabilities` and `logits`, (B, num_classes).
    """

    description: Description
    call: Callable[..., dict[str, jax.Array]]


def write(path: Path, network: Network, described: Description) -> None:
    """Exports to `path`, for every platform of `PLATFORMS`; batch, height and width stay open."""
    model, size = network.model, network.model.image_size
    shape = f"batch, {size}, {size}, 3" if described["outside"] else "batch, height, width, 3"
    batch, *rest = jax_export.symbolic_shape(shape)
    specs = [jax.ShapeDtypeStruct((batch, *rest), jnp.uint8)]
    if model.num_metadata:
        specs.append(jax.ShapeDtypeStruct((batch, model.num_metadata), jnp.float32))

    def predict(image_BHWC: jax.Array, *metadata_BM: jax.Array) -> dict[str, jax.Array]:
        image_BSSC = image_BHWC if described["outside"] else resized(image_BHWC)
        return network.outputs(image_BSSC.astype(jnp.float32), *metadata_BM)

    def resized(image_BHWC: jax.Array) -> jax.Array:
        return resizing.resize(image_BHWC, model.preprocess)

    data = jax_export.export(jax.jit(predict), platforms=PLATFORMS)(*specs).serialize()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_DESCRIPTION, description.to_text(described))
        archive.writestr(_FUNCTION, bytes(data))


def load(path: Path | str) -> StableHLO:
    """Reads what `write` wrote.

    Raises:
      InputError: the file is missing, damaged, no such export, or calls what no export does.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            text = _read(archive, _DESCRIPTION, description.MAX_BYTES)
            data = _read(archive, _FUNCTION, _MAX_BYTES)
    except (OSError, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise InputError(
            f"{path} can't be read as a StableHLO export ({error}); export the model again"
        ) from None
    described = description.parse(text, path)
    try:
        exported = jax_export.deserialize(bytearray(data))
        _check(exported, described)
        foreign = _foreign(exported)
    except Exception as error:  # whatever a damaged one leads to
        reason = str(error).partition("\n")[0][:200]
        raise InputError(
            f"{path}: its function can't be read ({reason}); export the model again, or use the"
            " version of JAX that it was exported with, or a later one"
        ) from None
    if foreign:
        raise InputError(
            f"{path} calls {', '.join(foreign)}, as no export does; it isn't opened: take the file"
            " from who exported it"
        )
    return StableHLO(described, jax.jit(exported.call))


def _read(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most:
        raise ValueError(f"its {name} is compressed, or of {entry.file_size} bytes")
    return archive.read(entry)


def _check(exported: jax_export.Exported, described: Description) -> None:
    shapes = [aval.shape for aval in exported.out_avals]
    if exported.in_avals[0].dtype != np.uint8 or len(shapes) != 2:
        raise ValueError("it takes other inputs or gives other outputs than an export")
    if any(len(shape) != 2 or shape[1] != len(described["classes"]) for shape in shapes):
        raise ValueError(f"it gives {shapes} for {len(described['classes'])} classes")


def _foreign(exported: jax_export.Exported) -> list[str]:
    """What the function has that exports don't: custom calls, and operations of other dialects.

    It is parsed for that as JAX parses it, since text of MLIR can spell a name in many ways.
    """
    found = set()

    def visit(operation: ir.Operation) -> ir.WalkResult:
        name = str(operation.name)
        if name.partition(".")[0] not in _DIALECTS:
            found.add(name)
        elif name.endswith("custom_call"):
            target = ir.StringAttr(operation.attributes["call_target_name"]).value
            if target not in _TARGETS:
                found.add(target)
        return ir.WalkResult.ADVANCE

    with mlir.make_ir_context() as context:
        module = dialect.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        module.operation.walk(visit)
    return [ascii(name)[:80] for name in sorted(found)]
