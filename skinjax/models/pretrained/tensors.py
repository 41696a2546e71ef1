"""The tensors of one file of weights, whatever its format."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skinjax.errors import InputError


@dataclass(frozen=True)
class Tensors:
    """An open file: what is in it, and how to read one tensor at a time.

    Attributes:
      path: of the file.
      shapes: by the tensors' names, in the file's order; Keras's are "layer/kernel".
      read: the tensor of a name, as it is stored.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]

    def float32(self, name: str) -> np.ndarray:
        """A tensor as float32.

        Raises:
          InputError: it isn't of a floating type, or holds a value that isn't finite.
        """
        array = self.read(name)
        # ml_dtypes' bfloat16 is no np.floating; its kind is "V".
        if not (np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"):
            raise InputError(
                f"{self.path}: tensor {name!r} is {array.dtype.name}; weights are float32, float16 "
                "or bfloat16, so pass a checkpoint that isn't quantised"
            )
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise InputError(
                f"{self.path}: tensor {name!r} has values that aren't finite; download it again, "
                "or pass another checkpoint"
            )
        return array
