"""The model that serving is measured with: a torchvision network of random weights, as a version.

Speed does not depend on what the weights are. A process of its own makes the version, so that
torch's memory and threads are gone before anything is measured::

    python -m benchmarks.subject HOME torchvision:resnet18 photographs
"""

import argparse
from importlib.metadata import version as library_version
from pathlib import Path

from adapters.export import export, export_head
from adapters.publish import weights_digests
from adapters.sources.providers import find
from registry.digests import Digest
from registry.manifest import (
    CLASSIFICATION,
    FEATURES,
    LOGITS,
    Head,
    Manifest,
    Origin,
    Parity,
    Part,
    Segment,
    Technique,
    Wire,
)
from registry.names import PRODUCTION, Transfer
from registry.registry import Registry
from registry.settings import Settings
from registry.signature import Signature, TensorSpec
from registry.space import Space
from registry.versions import Version


def register(registry: Registry, spec: str, target: str, seed: int = 0) -> Version:
    """Put a source with random weights and its own head into production, without a proof or figures.

    Args:
        registry: where the version goes.
        spec: a source whose network has a head.
        target: the task to register it under.
        seed: of the weights.
    """
    source = find(spec)
    stages = source.load(seed)
    assert stages.head is not None and stages.head_after is not None
    exported = [*export(stages), export_head(stages, stages.head, after=stages.head_after)]
    labels = tuple(f"label {number:04d}" for number in range(len(source.labels)))
    whole = Digest.of_json(list(weights_digests(stages)))
    with registry.publication() as publication:
        segments = tuple(
            Segment(
                each.name,
                "head" if each is exported[-1] else "tail",
                publication.store("segment", each.model),
                len(each.model),
                each.weights,
                {port: Wire.parse(wire) for port, wire in each.inputs.items()},
                each.outputs,
            )
            for each in exported
        )
        recipe = publication.store("recipe", source.recipe.to_bytes())
        weights = tuple(segment.weights for segment in segments[:-1])
        dimension = stages.features_dim
        version = publication.register(
            Manifest(
                transfer=Transfer("random", target),
                modality=source.modality,
                technique=Technique("scratch", None, {}),
                origin=Origin(source.spec, source.architecture, whole, source.licence),
                recipe=recipe,
                segments=segments,
                features=Wire(segments[-2].name, FEATURES),
                heads=(Head(target, CLASSIFICATION, Wire(segments[-1].name, LOGITS), labels),),
                signature=Signature(
                    source.recipe.fields,
                    (
                        TensorSpec(FEATURES, "float32", ("batch", dimension)),
                        TensorSpec(LOGITS, "float32", ("batch", len(labels))),
                    ),
                ),
                space=Space(weights, recipe, source.pooling, "none", dimension),
                parts={"train": Part(0, publication.store("items", b""))},
                excluded={},
                metrics={},
                predictions=None,
                parity=Parity({}, {}, None, {}, ()),
                seed=seed,
                libraries={name: library_version(name) for name in ("torch", "torchvision", "onnx")},
            )
        )
    registry.promote(version.ref, PRODUCTION)
    return registry.resolve(version.ref)


def main() -> None:
    """Make the version in a registry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("spec")
    parser.add_argument("target")
    arguments = parser.parse_args()
    with Registry.open(Settings.read(arguments.home)) as registry:
        print(register(registry, arguments.spec, arguments.target).ref)


if __name__ == "__main__":
    main()
