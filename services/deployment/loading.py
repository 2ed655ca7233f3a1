"""Loads a version: reads it, opens its sessions, and warms it up before it answers requests."""

from collections.abc import Mapping
from dataclasses import dataclass

from registry.errors import InvalidManifest, RuntimeFailure
from registry.manifest import FEATURES, LOGITS, Head, Manifest
from registry.recipe import Recipe
from registry.registry import Registry
from registry.runtime import cpu_quota
from registry.versions import Version
from services.deployment.identity import AnswerIdentity, head_of
from services.deployment.plan import Plan, PlannedPath
from services.deployment.sessions import Sessions
from services.engine import Route, RouteStep
from services.engine.batch import compute

_WARM_ROWS = (1, 2)
"""Batch sizes of the warm-up. Two rows detect graphs in which a batch size of one is a constant."""


@dataclass(frozen=True, slots=True, eq=False)
class VersionContents:
    """The contents of a version, read and checked, without open sessions.

    Attributes:
        version: the version in the catalog.
        manifest: its manifest.
        recipe: prepares its inputs.
    """

    version: Version
    manifest: Manifest
    recipe: Recipe

    @classmethod
    def read(cls, registry: Registry, version: Version) -> "VersionContents":
        """Read a version.

        Raises:
            IntegrityError: stored bytes are missing or damaged.
            InvalidValue: they are not a version that this program understands, or belong to another version.
        """
        manifest = registry.manifest(version)
        if manifest.transfer != version.transfer:
            raise InvalidManifest(
                f"expected a manifest of {version.transfer}, got one of {manifest.transfer}: the catalog was damaged"
            )
        recipe = registry.recipe(manifest)
        if manifest.signature.inputs != recipe.fields:
            raise InvalidManifest("a version's inputs are the fields of its recipe; these differ")
        return cls(version, manifest, recipe)


@dataclass(frozen=True, slots=True, eq=False)
class LoadedVersion:
    """A version that can answer.

    Attributes:
        contents: its contents.
        path: its path through the plan.
        route: the path with open sessions; computes its outputs.
        identity: the fields that its answers start with.
        head: the head that classify uses, or None.
    """

    contents: VersionContents
    path: PlannedPath
    route: Route
    identity: AnswerIdentity
    head: Head | None

    @property
    def version(self) -> Version:
        """The version in the catalog."""
        return self.contents.version

    @property
    def manifest(self) -> Manifest:
        """Its manifest."""
        return self.contents.manifest

    @property
    def recipe(self) -> Recipe:
        """Prepares its inputs."""
        return self.contents.recipe

    @property
    def providers(self) -> tuple[str, ...]:
        """Its execution providers, the preferred one first."""
        return self.route.providers

    @classmethod
    def open(
        cls,
        registry: Registry,
        contents: VersionContents,
        path: PlannedPath,
        sessions: Sessions,
        proven: frozenset[RouteStep] = frozenset(),
    ) -> "LoadedVersion":
        """Open the sessions that a version needs, run it on blank inputs and check the outputs.

        Args:
            registry: holds its segments.
            contents: the version.
            path: its path through the plan.
            sessions: the sessions of this process.
            proven: steps that are in use already; a version made only of these is not run.

        Raises:
            IntegrityError: stored bytes are missing or damaged.
            RuntimeFailure: ONNX Runtime refuses it, or its outputs do not match the manifest.
        """
        manifest = contents.manifest
        route = sessions.route(path, manifest.signature.inputs, registry.blob)
        widths = _widths(manifest)
        _check_heads(manifest, route, widths)
        if not proven.issuperset(route.steps):
            _warm(contents, route, widths)
        return cls(
            contents,
            path,
            route,
            AnswerIdentity.of(contents.version.ref, contents.version.number, manifest),
            head_of(manifest) if manifest.heads else None,
        )


def open_alone(registry: Registry, version: Version) -> LoadedVersion:
    """Open one version alone, on all cores; raises as ``VersionContents.read`` and ``LoadedVersion.open`` do."""
    contents = VersionContents.read(registry, version)
    cores = cpu_quota()
    return LoadedVersion.open(
        registry,
        contents,
        Plan.of({version.digest: contents.manifest}).paths[version.digest],
        Sessions(threads=cores, cores=cores),
    )


def _warm(contents: VersionContents, route: Route, widths: Mapping[str, int]) -> None:
    for alone in (False, True) if route.wide else (False,):
        for blank in contents.recipe.blanks():
            for rows in sorted({*_WARM_ROWS, *route.sizes}):
                outputs = compute(route, contents.recipe.collate([blank] * rows), alone=alone)
                for name, width in widths.items():
                    if outputs[name].shape != (rows, width):
                        raise _misshapen(contents.manifest, name, [rows, width], list(outputs[name].shape))


def _check_heads(manifest: Manifest, route: Route, widths: Mapping[str, int]) -> None:
    """Check the linear heads against the manifest; if the steps are proven, they are not run."""
    names = {wire: name for name, wire in route.outputs.items()}
    for head in route.heads:
        name = names.get(head.gives, LOGITS)
        rows = manifest.space.dimension if manifest.space is not None else head.weight.shape[0]
        wanted = [rows, widths.get(name, head.weight.shape[1])]
        if list(head.weight.shape) != wanted:
            raise _misshapen(manifest, f"the weight of {name}", wanted, list(head.weight.shape))


def _misshapen(manifest: Manifest, name: str, wanted: list[int], came: list[int]) -> RuntimeFailure:
    return RuntimeFailure(f"{name} of {manifest.transfer} is float32 {wanted} by its manifest, got {came}")


def _widths(manifest: Manifest) -> dict[str, int]:
    """Return the number of columns of each output that the manifest defines."""
    widths = {} if manifest.space is None else {FEATURES: manifest.space.dimension}
    for head in manifest.heads:
        widths[LOGITS if len(manifest.heads) == 1 else f"{LOGITS}.{head.name}"] = len(head.labels)
    return widths
