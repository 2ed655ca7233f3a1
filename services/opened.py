"""A version that can answer: its manifest, its recipe, and its program ready to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from registry.digests import Digest
from registry.errors import InvalidManifest, RuntimeFailure
from registry.manifest import FEATURES, LOGITS, Head, Manifest
from registry.program import Program
from registry.recipe import Recipe
from registry.registry import Registry
from registry.signature import TensorSpec
from registry.versions import Version
from services.answers import Identity, head_of

_WARM_ROWS = (1, 2)
"""Batches that are run before a version answers: the second finds graphs that took one row as a constant."""


class RootedProgram:
    """A program, and what the engine needs to know about it.

    Attributes:
        root: the first segment's digest, shortened: the queue that its rows wait in.
        inputs: the tensors of a batch.
        providers: where it runs, the preferred one first.
    """

    __slots__ = ("__weakref__", "_program", "inputs", "providers", "root")

    def __init__(self, program: Program, inputs: tuple[TensorSpec, ...]) -> None:
        self._program = program
        self.root = program.key[0].short
        self.inputs = inputs
        self.providers = program.providers

    def run(self, fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute every output for a batch."""
        return self._program.run(fields)


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A version that can answer.

    Attributes:
        version: as the catalog knows it.
        manifest: what it is.
        identity: what its answers begin with.
        recipe: prepares its inputs.
        program: computes its outputs; shared with other versions that run the same segments.
        head: what classify uses, or None.
    """

    version: Version
    manifest: Manifest
    identity: Identity
    recipe: Recipe
    program: RootedProgram
    head: Head | None


def program_key(manifest: Manifest) -> Digest:
    """Return what two versions share when one program serves both: segments, wiring, outputs, inputs."""
    return Digest.of_json(
        {
            "segments": [
                [s.digest, {port: str(w) for port, w in s.inputs.items()}, s.name] for s in manifest.segments
            ],
            "outputs": {name: str(wire) for name, wire in manifest.outputs.items()},
            "inputs": [spec.to_json() for spec in manifest.signature.inputs],
        }
    )


def open_version(
    registry: Registry,
    version: Version,
    *,
    threads: int | None = None,
    share: Callable[[Digest], RootedProgram | None] = lambda key: None,
) -> Opened:
    """Load a version, run it on blank inputs and check what comes out.

    Args:
        registry: where it is.
        version: which one.
        threads: cores that one run may use; None takes the machine's quota.
        share: finds a program by its ``program_key`` that is open already.

    Raises:
        IntegrityError: stored bytes are missing or damaged.
        InvalidValue: they are not a version that this program understands.
        RuntimeFailure: ONNX Runtime refuses it, or its outputs are not what the manifest says.
    """
    manifest = registry.manifest(version)
    recipe = registry.recipe(manifest)
    program = share(program_key(manifest))
    if program is None:
        if manifest.signature.inputs != recipe.fields:
            raise InvalidManifest("a version's inputs are the fields of its recipe; these differ")
        program = RootedProgram(Program(manifest, registry.blob, threads=threads), manifest.signature.inputs)
        _warm(manifest, recipe, program)
    return Opened(
        version,
        manifest,
        Identity.of(version.ref, version.number, manifest),
        recipe,
        program,
        head_of(manifest) if manifest.heads else None,
    )


def _warm(manifest: Manifest, recipe: Recipe, program: RootedProgram) -> None:
    for blank in recipe.blanks():
        for rows in _WARM_ROWS:
            outputs = program.run(recipe.collate([blank] * rows))
            for name, width in _widths(manifest).items():
                if outputs[name].shape != (rows, width):
                    raise RuntimeFailure(
                        f"{name} of {manifest.transfer} is float32 [{rows}, {width}] by its manifest, "
                        f"got {list(outputs[name].shape)}"
                    )


def _widths(manifest: Manifest) -> dict[str, int]:
    """Return how many columns each output has, as far as the manifest says."""
    widths = {} if manifest.space is None else {FEATURES: manifest.space.dimension}
    for head in manifest.heads:
        widths[LOGITS if len(manifest.heads) == 1 else f"{LOGITS}.{head.name}"] = len(head.labels)
    return widths
