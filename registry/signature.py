"""The input and output tensors of a version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from registry.errors import InvalidManifest
from registry.quoting import quoted

DTYPES = frozenset({"uint8", "int64", "float32", "float16", "bool"})


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor.

    Attributes:
        name: the port's name, such as ``pixels`` or ``logits``.
        dtype: a NumPy name, one of ``uint8 int64 float32 float16 bool``.
        shape: its dimensions; a string marks a variable dimension (``batch``, ``seq``).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    _type: np.dtype = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InvalidManifest(
                f"tensor {self.name!r}: expected a dtype out of {sorted(DTYPES)}, got {self.dtype!r}"
            )
        for size in self.shape:
            if isinstance(size, int) and size < 1:
                raise InvalidManifest(f"tensor {self.name!r}: a dimension is 1 or more, got {self.shape}")
        object.__setattr__(self, "_type", np.dtype(self.dtype))

    def accepts(self, array: np.ndarray) -> bool:
        """Tell whether an array has this dtype and this shape, ignoring variable dimensions."""
        if array.dtype != self._type or array.ndim != len(self.shape):
            return False
        # Called for every request; a plain loop takes a quarter of a generator's time.
        for want, got in zip(self.shape, array.shape, strict=True):
            if want != got and not isinstance(want, str):
                return False
        return True

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """Read the JSON form.

        Raises:
            InvalidManifest: a key is missing, unknown or of another type.
        """
        match value:
            case {"name": str(name), "dtype": str(dtype), "shape": list(shape), **rest} if not rest and all(
                isinstance(size, int | str) and not isinstance(size, bool) for size in shape
            ):
                return cls(name, dtype, tuple(shape))
        raise InvalidManifest(f"a tensor is {{name, dtype, shape}}, got {quoted(value, 200)}")


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything that goes into a version and all that comes out of it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """Read the JSON form.

        Raises:
            InvalidManifest: a key is missing, unknown or of another type.
        """
        match value:
            case {"inputs": list(inputs), "outputs": list(outputs), **rest} if not rest:
                return cls(
                    tuple(TensorSpec.from_json(spec) for spec in inputs),
                    tuple(TensorSpec.from_json(spec) for spec in outputs),
                )
        raise InvalidManifest(f"a signature is {{inputs, outputs}}, got {quoted(value, 200)}")
