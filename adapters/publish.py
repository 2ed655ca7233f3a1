"""From a fitted network to a registered version; the only caller of the registry's publication.

Segments are exported and stored, opened from the store as on a server, compared with torch, and evaluated on
the test set. Then the version is registered.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version as library_version
from typing import Any

import numpy as np
import torch

from adapters.datasets import TEST, TRAIN, Dataset
from adapters.evaluation import evaluate
from adapters.export import Exported, exit_port, export, export_head, export_readout, wires
from adapters.features import batches, tensors
from adapters.parity import MIN_INPUTS, choose_probes, prove
from adapters.phases import Phases
from adapters.sources.sketch import FeatureSketch
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.sources.weights import holds_weights, stage_weights_digest, state_bytes
from adapters.techniques import Fitted
from registry.digests import Digest
from registry.errors import InvalidSegment
from registry.manifest import (
    FEATURES,
    LOGITS,
    Head,
    Manifest,
    Origin,
    Parity,
    Segment,
    SourceVerification,
    Split,
    TechniqueRecord,
    Wire,
)
from registry.names import Transfer
from registry.program import Program
from registry.progress import Progress
from registry.publication import Publication
from registry.signature import Signature, TensorSpec
from registry.space import Space
from registry.versions import Version

LIBRARIES = ("torch", "torchvision", "onnx", "onnxscript", "numpy", "pillow", "scikit-learn")
EVALUATION_BATCH = 32
READOUT = "readout"

_UNPROVED = Parity({}, {}, None, {}, ())


@dataclass(frozen=True, slots=True)
class PreparedTransfer:
    """A transfer that is ready to be published.

    Attributes:
        transfer: source task and target task.
        source: the source.
        weights: weights digest of each stage of the network before anything was trained.
        outside: those of them that are also available outside the registry.
        fitted: the fitted network.
        dataset: its training and test data.
        seed: the random seed.
        baseline: the unchanged source's features of the training and test examples, for comparison; None
            without a pretrained source.
        sketch: mean and covariance of the version's features on its training data, for the adviser of later
            transfers.
        verification: the proof that the source's outputs equal its provider's own code, if there is one.
    """

    transfer: Transfer
    source: Source
    weights: tuple[Digest, ...]
    outside: frozenset[Digest]
    fitted: Fitted
    dataset: Dataset
    seed: int
    baseline: tuple[np.ndarray, np.ndarray] | None = None
    sketch: FeatureSketch | None = None
    verification: SourceVerification | None = None


def publish(
    prepared: PreparedTransfer, publication: Publication, read_blob: Callable[[Digest], bytes], phases: Phases
) -> tuple[Version, Manifest]:
    """Export, prove, evaluate and register a transfer.

    Args:
        prepared: the transfer to publish.
        publication: an open publication of the registry.
        read_blob: returns stored bytes, verified.
        phases: records and shows the time of each phase.

    Raises:
        ParityError: the exported version's outputs differ from torch's; nothing is registered.
        InvalidSegment: the network cannot be exported.
    """
    progress = phases.progress
    with phases.phase("export", "exporting"):
        segments = tuple(_stored(prepared, publication, progress))
        draft = _draft(prepared, segments, publication)
        with progress.step("opening in ONNX Runtime"):
            program = Program(draft, read_blob)
    with phases.phase("parity", "proving parity"):
        parity = _proved(prepared, program, progress)
    with phases.phase("evaluate", "evaluating"):
        figures = _evaluated(prepared, program, publication, progress)
    with phases.phase("register", "registering"):
        sketch = None if prepared.sketch is None else publication.store("sketch", prepared.sketch.to_bytes())
        manifest = replace(draft, parity=parity, sketch=sketch, **figures)
        return publication.register(manifest), manifest


def weights_digests(stages: Stages) -> tuple[Digest, ...]:
    """Return the digest of the parameters and buffers of each of a network's stages."""
    return tuple(stage_weights_digest(stages, index) for index in range(len(stages)))


def _stored(prepared: PreparedTransfer, publication: Publication, progress: Progress) -> Iterator[Segment]:
    """Store and yield every segment of a version in topological order."""
    fitted = prepared.fitted
    yield from _stored_stages(prepared, publication, progress)
    if fitted.taps:
        yield _described(export_readout(fitted.stages, fitted.taps), "trunk", publication)
    if fitted.head is not None:
        head = export_head(fitted.stages, fitted.head, after=None if fitted.taps else fitted.head_after)
        if fitted.taps:
            head = replace(head, inputs={FEATURES: f"{READOUT}:{FEATURES}"})
        yield _described(head, "head", publication)


def _described(exported: Exported, role: str, publication: Publication) -> Segment:
    """Store a segment and describe it."""
    inputs = {port: Wire.parse(wire) for port, wire in exported.inputs.items()}
    digest = publication.store("segment", exported.model)
    return Segment(
        exported.name, role, digest, len(exported.model), exported.weights, inputs, exported.outputs
    )


def _stored_stages(
    prepared: PreparedTransfer, publication: Publication, progress: Progress
) -> Iterator[Segment]:
    """Yield a segment for each stage, starting at the input; missing ones are exported and stored."""
    fitted = prepared.fitted
    stages = fitted.stages
    weights = [stage_weights_digest(stages, index) for index in range(fitted.height)]
    found = [publication.find_export(digest) for digest in weights]
    if None in found:
        first = found.index(None)
        models = export(stages, first, progress)[: fitted.height - first]
        with progress.step("storing segments", len(models)) as step:
            for index, exported in enumerate(models, start=first):
                found[index] = publication.store("segment", exported.model), len(exported.model)
                publication.remember_export(weights[index], exported.digest)
                step.advance()
    for index, stored in enumerate(found):
        if stored is None:
            raise InvalidSegment(f"{stages.architecture}: stage {stages.names[index]!r} was not exported")
        role = "trunk" if index < fitted.frozen else "tail"
        inputs = {port: Wire.parse(wire) for port, wire in wires(stages, index).items()}
        state = None
        if weights[index] not in prepared.outside and holds_weights(stages, index):
            state = publication.store("state", state_bytes(stages, index))
        exit_ = exit_port(stages, index)
        yield Segment(stages.names[index], role, *stored, weights[index], inputs, (exit_,), state)


def _draft(prepared: PreparedTransfer, segments: tuple[Segment, ...], publication: Publication) -> Manifest:
    """Return the manifest without parity proof and metrics."""
    fitted, source, dataset = prepared.fitted, prepared.source, prepared.dataset
    below = [segment for segment in segments if segment.role != "head"]
    recipe = publication.store("recipe", dataset.recipe.to_bytes())
    dimension = fitted.features(fitted.stages.example()).shape[1]
    outputs = [TensorSpec(FEATURES, "float32", ("batch", dimension))]
    heads: tuple[Head, ...] = ()
    if fitted.head is not None:
        outputs.append(TensorSpec(LOGITS, "float32", ("batch", len(fitted.labels))))
        heads = (Head(prepared.transfer.target, fitted.kind, Wire(segments[-1].name, LOGITS), fitted.labels),)
    return Manifest(
        transfer=prepared.transfer,
        modality=source.modality,
        technique=TechniqueRecord(fitted.technique, fitted.depth, fitted.config),
        origin=Origin(
            source.spec,
            source.architecture,
            Digest.of_json(list(prepared.weights)),
            source.licence,
            source.parent,
            prepared.verification,
        ),
        recipe=recipe,
        segments=segments,
        features=Wire(below[-1].name, FEATURES),
        heads=heads,
        signature=Signature(dataset.recipe.fields, tuple(outputs)),
        space=Space(
            tuple(segment.weights for segment in below),
            recipe,
            "+".join(["avg"] * len(fitted.taps)) if fitted.taps else source.pooling,
            "none" if fitted.taps else source.norm,
            dimension,
        ),
        parts=_stored_splits(dataset, publication),
        excluded=dataset.excluded,
        remarks=dataset.remarks,
        metrics={},
        predictions=None,
        parity=_UNPROVED,
        seed=prepared.seed,
        libraries={name: library_version(name) for name in LIBRARIES},
    )


def _stored_splits(dataset: Dataset, publication: Publication) -> Mapping[str, Split]:
    """Store the example digests of each split, one per line."""
    return {
        name: Split(
            len(digests), publication.store("items", "".join(f"{each}\n" for each in digests).encode())
        )
        for name, digests in dataset.split_digests().items()
    }


def _proved(prepared: PreparedTransfer, program: Program, progress: Progress) -> Parity:
    """Compare the opened version with torch."""
    fitted, dataset = prepared.fitted, prepared.dataset
    raw = {part: [item.read() for item in dataset.split(part)[:MIN_INPUTS]] for part in (TEST, TRAIN)}
    probes = choose_probes(raw, prepared.source.modality, prepared.seed)

    def reference(fields: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        given = tensors(fields, torch.device("cpu"))
        answer = {FEATURES: fitted.features(given).numpy()}
        return answer if fitted.head is None else answer | {LOGITS: fitted.logits(given).numpy()}

    return prove(program, dataset.recipe, reference, probes, progress)


def _evaluated(
    prepared: PreparedTransfer, program: Program, publication: Publication, progress: Progress
) -> Mapping[str, Any]:
    """Evaluate the opened version on the test set, store the results, and return the manifest's fields for them."""
    fitted, dataset = prepared.fitted, prepared.dataset
    index = dataset.index(TEST)
    if not fitted.labels or not len(index):
        return {}
    answers: dict[str, np.ndarray] = {}
    with progress.step("predicting the test examples", len(index)) as step:
        for places in batches(dataset.rows, index, EVALUATION_BATCH):
            for name, values in program.run(dataset.rows.batch(index[places]), [FEATURES, LOGITS]).items():
                answers.setdefault(name, np.empty((len(index), values.shape[1]), np.float32))[places] = values
            step.advance(len(places))
    predictions, metrics, evidence = evaluate(
        dataset,
        answers[LOGITS],
        answers[FEATURES],
        fitted.labels,
        fitted.kind,
        prepared.baseline,
        fitted.history,
        progress,
    )
    return {
        "metrics": metrics,
        "predictions": publication.store("predictions", predictions.to_bytes()),
        "evidence": publication.store("evidence", evidence.to_bytes()),
    }
