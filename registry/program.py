"""A version opened for inference: its segments are merged into one session.

Serving, parity, evaluation and the offline commands all run versions with this module.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from registry.digests import Digest
from registry.errors import InvalidManifest
from registry.manifest import Manifest, Segment
from registry.runtime import Session
from registry.segments import Node, merge_detached


class Program:
    """A version opened for inference.

    Args:
        manifest: the version's manifest.
        read_blob: returns the bytes of a segment, checked against its digest.
        outputs: which of ``manifest.outputs`` to compute; None computes all of them. Unneeded segments are
            left out.
        providers: execution providers; None takes those of the machine.
        threads: cores that one run may use; None takes the CPU quota.

    Raises:
        InvalidManifest: the version has no such output.
        InvalidSegment: the segments do not fit together.
        RuntimeFailure: ONNX Runtime cannot load them.
    """

    def __init__(
        self,
        manifest: Manifest,
        read_blob: Callable[[Digest], bytes],
        *,
        outputs: Sequence[str] | None = None,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        wires = manifest.outputs
        names = tuple(wires) if outputs is None else tuple(outputs)
        if missing := [name for name in names if name not in wires]:
            raise InvalidManifest(f"this version gives {', '.join(wires)}; it has no {', '.join(missing)}")
        needed = _needed(manifest, names)
        self.key = tuple(segment.digest for segment in needed)
        self.outputs = names
        nodes = [
            Node(
                segment.name,
                read_blob(segment.digest),
                {port: str(wire) for port, wire in segment.inputs.items()},
            )
            for segment in needed
        ]
        merged = merge_detached(nodes, {name: str(wires[name]) for name in names})
        self._session = Session(merged, name=str(manifest.transfer), providers=providers, threads=threads)

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers in force, the preferred one first."""
        return self._session.providers

    def run(
        self, fields: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Compute outputs for a batch prepared by the recipe.

        Args:
            fields: the recipe's fields, first dimension the batch.
            outputs: some of ``self.outputs``; None computes all of them.

        Returns:
            For each output float32 [batch, ...].

        Raises:
            RuntimeFailure: the runtime cannot run these inputs.
        """
        return self._session.run(fields, outputs)


def _needed(manifest: Manifest, outputs: Sequence[str]) -> tuple[Segment, ...]:
    """Return the segments that some outputs depend on, in manifest order."""
    wanted = {manifest.outputs[name].segment for name in outputs}
    kept = []
    for segment in reversed(manifest.segments):
        if segment.name in wanted:
            kept.append(segment)
            wanted.update(wire.segment for wire in segment.inputs.values())
    return tuple(reversed(kept))
