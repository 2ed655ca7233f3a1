"""The manifest: the immutable description of a version.

It is canonical JSON, format 1. A version's identity is the sha256 of these bytes. So they contain no time,
duration, host, actor or version number: those belong to the event that registered the version.

Segments form a graph. Every named input of a segment is wired to ``recipe:FIELD``, a tensor prepared by the
recipe, or to ``SEGMENT:OUTPUT``, an output of an earlier segment. The usual case is a chain with one head;
taps, several inputs and several heads are legal.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from registry.digests import Digest, canonical_json
from registry.errors import InvalidManifest, InvalidValue
from registry.manifest.entry import Entry
from registry.manifest.head import Head
from registry.manifest.origin import Origin
from registry.manifest.parity import Parity
from registry.manifest.segment import Segment
from registry.manifest.split import Split
from registry.manifest.technique import Json, TechniqueRecord
from registry.manifest.wire import RECIPE, Wire
from registry.names import Transfer
from registry.signature import Signature
from registry.space import Space

FORMAT = 1
MAX_BYTES = 16 << 20
"""Largest size of a manifest, checked before it is parsed."""

FEATURES = "features"
LOGITS = "logits"
EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The immutable description of a version.

    Attributes:
        transfer: source task and target task.
        modality: ``image`` or ``text``.
        technique: the technique and its settings.
        origin: the source.
        recipe: digest of the stored recipe.
        segments: the graph in topological order.
        features: the wire of float32 [batch, dimension] that ``embed`` returns, or None.
        heads: the outputs of the target task; none for a feature extractor.
        signature: the input and output tensors.
        space: the embedding space of ``features``, or None.
        parts: the dataset's splits by name (``train``, ``validation``, ``test``).
        excluded: number of examples excluded from the dataset, by reason.
        metrics: metrics on the test set (``accuracy`` …).
        predictions: digest of the stored per-example predictions on the test set, or None.
        parity: proof against the torch model.
        seed: the random seed.
        libraries: versions of the libraries that created it.
        sketch: digest of the mean and covariance of its features on its training data, or None.
        evidence: digest of further data for reports (``adapters.report``), or None. If it is None the JSON
            form omits it, so that older versions keep their identity.
        remarks: number of examples that were kept but needed interpretation, by reason; omitted from the JSON
            form if empty.
    """

    transfer: Transfer
    modality: str
    technique: TechniqueRecord
    origin: Origin
    recipe: Digest
    segments: tuple[Segment, ...]
    features: Wire | None
    heads: tuple[Head, ...]
    signature: Signature
    space: Space | None
    parts: Mapping[str, Split]
    excluded: Mapping[str, int]
    metrics: Mapping[str, Json]
    predictions: Digest | None
    parity: Parity
    seed: int
    libraries: Mapping[str, str] = field(default_factory=dict)
    evidence: Digest | None = None
    sketch: Digest | None = None
    remarks: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {RECIPE: {spec.name for spec in self.signature.inputs}}
        for segment in self.segments:
            for port, wire in segment.inputs.items():
                self._check(wire, known, f"input {port!r} of segment {segment.name!r}")
            if segment.name in known:
                raise InvalidManifest(f"segment {segment.name!r} occurs twice in the graph")
            known[segment.name] = set(segment.outputs)
        for wire in self.outputs.values():
            self._check(wire, known, "an output")
        if not self.outputs:
            raise InvalidManifest("a version has features, a head or both; this one has neither")
        if (self.space is None) != (self.features is None):
            raise InvalidManifest("features and their space come together")

    @staticmethod
    def _check(wire: Wire, known: Mapping[str, set[str]], what: str) -> None:
        if wire.port not in known.get(wire.segment, ()):
            raise InvalidManifest(f"{what} is wired to {wire}, which nothing before it provides")

    @property
    def outputs(self) -> dict[str, Wire]:
        """Every output by name: ``features``, and ``logits`` (``logits.NAME`` if there are several heads)."""
        named = {} if self.features is None else {FEATURES: self.features}
        if len(self.heads) == 1:
            return named | {LOGITS: self.heads[0].logits}
        return named | {f"{LOGITS}.{head.name}": head.logits for head in self.heads}

    @property
    def kind(self) -> str:
        """The first head's kind, or ``embedding`` for a version without head."""
        return self.heads[0].kind if self.heads else EMBEDDING

    @property
    def digest(self) -> Digest:
        """The version's identity."""
        return Digest.of(self.to_bytes())

    @property
    def space_id(self) -> Digest | None:
        """The id of the space of ``features``, or None."""
        return None if self.space is None else self.space.id

    def blobs(self) -> Iterator[tuple[str, Digest]]:
        """Yield (kind, digest) of every blob that the version needs, except its own manifest."""
        yield "recipe", self.recipe
        for segment in self.segments:
            yield "segment", segment.digest
            if segment.state is not None:
                yield "state", segment.state
        for part in self.parts.values():
            yield "items", part.items
        if self.predictions is not None:
            yield "predictions", self.predictions
        if self.evidence is not None:
            yield "evidence", self.evidence
        if self.sketch is not None:
            yield "sketch", self.sketch

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "format": FORMAT,
            "transfer": str(self.transfer),
            "modality": self.modality,
            "technique": self.technique.to_json(),
            "origin": self.origin.to_json(),
            "recipe": self.recipe,
            "segments": [segment.to_json() for segment in self.segments],
            "features": None if self.features is None else str(self.features),
            "heads": [head.to_json() for head in self.heads],
            "signature": self.signature.to_json(),
            "space": None if self.space is None else self.space.to_json(),
            "parts": {name: part.to_json() for name, part in self.parts.items()},
            "excluded": dict(self.excluded),
            "metrics": dict(self.metrics),
            "predictions": self.predictions,
            **({} if self.evidence is None else {"evidence": self.evidence}),
            **({} if self.sketch is None else {"sketch": self.sketch}),
            **({"remarks": dict(self.remarks)} if self.remarks else {}),
            "parity": self.parity.to_json(),
            "seed": self.seed,
            "libraries": dict(self.libraries),
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes; ``parse`` reads them back to an equal manifest."""
        return canonical_json(self.to_json())

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a manifest strictly: unknown keys, wrong types and other encodings are rejected.

        Raises:
            InvalidManifest: the bytes are not the canonical form of a format 1 manifest.
        """
        if len(data) > MAX_BYTES:
            raise InvalidManifest(f"a manifest has at most {MAX_BYTES:,} bytes, got {len(data):,}")
        try:
            value = json.loads(data)
            manifest = cls._from_json(value)
        except InvalidManifest:
            raise
        except (InvalidValue, ValueError, RecursionError) as error:
            raise InvalidManifest(f"not a manifest: {error}") from error
        if manifest.to_bytes() != data:
            raise InvalidManifest(
                "a manifest is stored as canonical JSON; these bytes have the same content in another form"
            )
        return manifest

    @classmethod
    def _from_json(cls, value: object) -> Self:
        entry = Entry("manifest", value)
        if (number := entry.take("format", int)) != FORMAT:
            raise InvalidManifest(
                f"this program reads manifests of format {FORMAT}, got format {number}; update it"
            )
        features = entry.optional("features", str)
        predictions = entry.optional("predictions", str)
        space = entry.optional("space", dict)
        manifest = cls(
            transfer=Transfer.parse(entry.take("transfer", str)),
            modality=entry.take("modality", str),
            technique=TechniqueRecord.from_json(entry.take("technique", dict)),
            origin=Origin.from_json(entry.take("origin", dict)),
            recipe=Digest(entry.take("recipe", str)),
            segments=tuple(Segment.from_json(each) for each in entry.take("segments", list)),
            features=None if features is None else Wire.parse(features),
            heads=tuple(Head.from_json(each) for each in entry.take("heads", list)),
            signature=Signature.from_json(entry.take("signature", dict)),
            space=None if space is None else Space.from_json(space),
            parts={name: Split.from_json(each) for name, each in entry.take("parts", dict).items()},
            excluded=entry.take("excluded", dict),
            metrics=entry.take("metrics", dict),
            predictions=None if predictions is None else Digest(predictions),
            parity=Parity.from_json(entry.take("parity", dict)),
            seed=entry.take("seed", int),
            libraries=entry.take("libraries", dict),
            evidence=Digest(entry.take("evidence", str)) if entry.holds("evidence") else None,
            sketch=Digest(entry.take("sketch", str)) if entry.holds("sketch") else None,
            remarks=entry.take("remarks", dict) if entry.holds("remarks") else {},
        )
        entry.close()
        return manifest
