"""One ONNX file of a version."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from registry.digests import Digest
from registry.errors import InvalidManifest
from registry.manifest.entry import Entry, of_type
from registry.manifest.wire import RECIPE, Wire

ROLES = ("trunk", "tail", "head")


@dataclass(frozen=True, slots=True)
class Segment:
    """One ONNX file in a version's segment graph.

    Attributes:
        name: unique in the version; for a trunk or tail the path of the segment's last module.
        role: ``trunk`` (frozen), ``tail`` (retrained) or ``head``.
        digest: of the ONNX file's bytes.
        bytes: the file's size.
        weights: digest of architecture, input size, parameters and buffers: the segment's identity,
            independent of the exporter.
        inputs: the file's input ports and the wires that feed them.
        outputs: the file's output ports.
        state: digest of a safetensors file with the parameters and buffers by name, from which a transfer
            from this version starts; None if a source outside the registry has them.
    """

    name: str
    role: str
    digest: Digest
    bytes: int
    weights: Digest
    inputs: Mapping[str, Wire]
    outputs: tuple[str, ...]
    state: Digest | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name == RECIPE:
            raise InvalidManifest(f"a segment's name is a text other than {RECIPE!r}, got {self.name!r}")
        if self.role not in ROLES:
            raise InvalidManifest(
                f"segment {self.name!r}: a role is one of {', '.join(ROLES)}, got {self.role!r}"
            )
        if self.bytes < 1 or not self.inputs or not self.outputs:
            raise InvalidManifest(f"segment {self.name!r} has bytes, inputs and outputs")

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "role": self.role,
            "digest": self.digest,
            "bytes": self.bytes,
            "weights": self.weights,
            "inputs": {port: str(wire) for port, wire in self.inputs.items()},
            "outputs": list(self.outputs),
            "state": self.state,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = Entry("segment", value)
        state = entry.optional("state", str)
        segment = cls(
            entry.take("name", str),
            entry.take("role", str),
            Digest(entry.take("digest", str)),
            entry.take("bytes", int),
            Digest(entry.take("weights", str)),
            {
                port: Wire.parse(of_type(wire, str, "a wire"))
                for port, wire in entry.take("inputs", dict).items()
            },
            tuple(of_type(port, str, "an output") for port in entry.take("outputs", list)),
            None if state is None else Digest(state),
        )
        entry.close()
        return segment
