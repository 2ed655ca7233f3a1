"""The models that serving is measured with: a torchvision network of random weights, as one version or several.

Speed does not depend on what the weights are. A process of its own makes the versions, so that
torch's memory and threads are gone before anything is measured::

    python -m benchmarks.subject HOME torchvision:resnet18 photographs
    python -m benchmarks.subject HOME torchvision:resnet18 photographs --heads 20
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from adapters.export import Exported, export, export_head
from adapters.publish import weights_digests
from adapters.sources.providers import find
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from benchmarks.made import Piece, promote, register
from registry.digests import Digest
from registry.manifest import Origin
from registry.registry import Registry
from registry.settings import Settings
from registry.versions import Version

LABELS = 100
"""Labels of each head where there are several."""


def own_head(source: Source, seed: int) -> list[Piece]:
    """Return a network's segments and its own head."""
    stages = source.load(seed)
    assert stages.head is not None and stages.head_after is not None
    return [*trunk(stages), piece(export_head(stages, stages.head, after=stages.head_after))]


def heads(source: Source, seed: int, count: int) -> Iterator[list[Piece]]:
    """Yield one trunk under several linear heads of random weights."""
    stages = source.load(seed)
    below = trunk(stages)
    for number in range(count):
        yield [*below, _linear(stages, seed + number)]


def halves(source: Source, seed: int, count: int) -> Iterator[list[Piece]]:
    """Yield networks of equal lower and different upper halves, counted in stages, under a linear head each."""
    lower = trunk(source.load(seed))
    for number in range(count):
        stages = source.load(seed + number)
        upper = trunk(stages)
        yield [*lower[: half(len(lower))], *upper[half(len(lower)) :], _linear(stages, seed + number)]


def half(stages: int) -> int:
    """Return how many of a network's stages are its lower half."""
    return stages // 2


def trunk(stages: Stages) -> list[Piece]:
    """Return a network's segments up to its features."""
    return [piece(each) for each in export(stages)]


def piece(exported: Exported) -> Piece:
    """Return what was exported as a piece of a version."""
    return Piece(exported.name, exported.model, exported.weights, exported.inputs, exported.outputs)


def put_into_production(
    registry: Registry, source: Source, target: str, pieces: Sequence[Piece], labels: int, seed: int
) -> Version:
    """Register a version of some segments under a target and promote it."""
    stages = source.load(seed)
    whole = Digest.of_json(list(weights_digests(stages)))
    version = register(
        registry,
        target,
        pieces,
        recipe=source.recipe,
        origin=Origin(source.spec, source.architecture, whole, source.licence),
        dimension=stages.features_dim,
        labels=labels,
        pooling=source.pooling,
        seed=seed,
    )
    return promote(registry, version)


def _linear(stages: Stages, seed: int) -> Piece:
    import torch

    torch.manual_seed(seed)
    return piece(export_head(stages, torch.nn.Linear(stages.features_dim, LABELS)))


def main() -> None:
    """Make the versions in a registry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("spec")
    parser.add_argument("target", help="of several versions the beginning of each one's target")
    parser.add_argument("--heads", type=int, metavar="N", help="N targets on one trunk")
    parser.add_argument("--halves", type=int, metavar="N", help="N targets that share half their stages")
    parser.add_argument(
        "--versions", type=int, metavar="N", help="N versions of one target, of other weights each"
    )
    parser.add_argument(
        "--heads-of-one", type=int, metavar="N", help="N versions of one target, of other heads each"
    )
    arguments = parser.parse_args()
    source, target = find(arguments.spec), arguments.target
    made: Iterator[tuple[str, list[Piece], int]]
    if arguments.heads:
        named = enumerate(heads(source, 0, arguments.heads))
        made = ((f"{target}-{number:02}", pieces, LABELS) for number, pieces in named)
    elif arguments.halves:
        named = enumerate(halves(source, 0, arguments.halves))
        made = ((f"{target}-{number:02}", pieces, LABELS) for number, pieces in named)
    elif arguments.heads_of_one:
        made = ((target, pieces, LABELS) for pieces in heads(source, 0, arguments.heads_of_one))
    else:
        seeds = range(arguments.versions or 1)
        made = ((target, own_head(source, seed), len(source.labels)) for seed in seeds)
    with Registry.open(Settings.read(arguments.home)) as registry:
        for seed, (name, pieces, labels) in enumerate(made):
            print(put_into_production(registry, source, name, pieces, labels, seed).ref)


if __name__ == "__main__":
    main()
