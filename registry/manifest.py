"""The manifest: what a version is.

Canonical JSON, format 1. A version's identity is the sha256 of these bytes, so they hold no
clock, duration, host, actor or number: those belong to the event that registered the version.

Segments form a graph. Every named input of a segment is wired to ``recipe:FIELD``, a tensor
that the recipe prepares, or to ``SEGMENT:OUTPUT``, a tensor that an earlier segment leaves. A
chain with one head is the usual case; taps, several inputs and several heads are legal.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias, TypeVar

from registry.digests import Digest, canonical_json
from registry.errors import InvalidManifest, InvalidValue
from registry.names import Transfer
from registry.quoting import quoted
from registry.signature import Signature
from registry.space import Space

FORMAT = 1
MAX_BYTES = 16 << 20
"""Size over which bytes are refused as a manifest before they are parsed."""

RECIPE = "recipe"
FEATURES = "features"
LOGITS = "logits"
ROLES = ("trunk", "tail", "head")
CLASSIFICATION = "classification"
MULTILABEL = "multilabel"
EMBEDDING = "embedding"
KINDS = (CLASSIFICATION, MULTILABEL)

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wire:
    """Where a tensor comes from, written ``SEGMENT:OUTPUT`` or ``recipe:FIELD``."""

    segment: str
    port: str

    def __post_init__(self) -> None:
        if not self.segment or not self.port or ":" in self.port:
            raise InvalidManifest(
                f"a wire is SEGMENT:OUTPUT or recipe:FIELD, got {self.segment!r}:{self.port!r}"
            )

    @property
    def from_recipe(self) -> bool:
        """True where the tensor is a field of the recipe."""
        return self.segment == RECIPE

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``SEGMENT:OUTPUT``; ``str`` writes it back.

        Raises:
            InvalidManifest: the text has another form.
        """
        segment, colon, port = text.rpartition(":")
        if not colon:
            raise InvalidManifest(f"a wire is SEGMENT:OUTPUT or recipe:FIELD, got {quoted(text)}")
        return cls(segment, port)

    def __str__(self) -> str:
        return f"{self.segment}:{self.port}"


@dataclass(frozen=True, slots=True)
class Segment:
    """One ONNX file in its place in a version.

    Attributes:
        name: unique in the version; for a trunk or tail the module path that the segment ends with.
        role: ``trunk`` (frozen), ``tail`` (retrained) or ``head``.
        digest: of the ONNX file's bytes.
        bytes: the file's size.
        weights: digest of architecture, input size, parameters and buffers: the segment's identity
            whatever exporter wrote it.
        inputs: the file's input ports and the wires that feed them.
        outputs: the file's output ports.
        state: digest of the parameters and buffers by name, a safetensors file, where no source outside the
            registry has them: what a transfer from this version starts from; else None.
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
        entry = _Entry("segment", value)
        state = entry.optional("state", str)
        segment = cls(
            entry.take("name", str),
            entry.take("role", str),
            Digest(entry.take("digest", str)),
            entry.take("bytes", int),
            Digest(entry.take("weights", str)),
            {
                port: Wire.parse(_of_type(wire, str, "a wire"))
                for port, wire in entry.take("inputs", dict).items()
            },
            tuple(_of_type(port, str, "an output") for port in entry.take("outputs", list)),
            None if state is None else Digest(state),
        )
        entry.close()
        return segment


@dataclass(frozen=True, slots=True)
class Head:
    """A named output of the target task.

    Attributes:
        name: the task that it answers; for a version of one task its target.
        kind: ``classification`` (softmax) or ``multilabel`` (sigmoid).
        logits: the wire that carries float32 [batch, labels].
        labels: the labels in the order of the logits, all different.
    """

    name: str
    kind: str
    logits: Wire
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidManifest(
                f"head {self.name!r}: a kind is one of {', '.join(KINDS)}, got {self.kind!r}"
            )
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise InvalidManifest(f"head {self.name!r}: labels are one or more, all different")

    @property
    def labels_digest(self) -> Digest:
        """Digest of the ordered labels: equal only where index means the same label."""
        return Digest.of_json(list(self.labels))

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"name": self.name, "kind": self.kind, "logits": str(self.logits), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = _Entry("head", value)
        head = cls(
            entry.take("name", str),
            entry.take("kind", str),
            Wire.parse(entry.take("logits", str)),
            tuple(_of_type(label, str, "a label") for label in entry.take("labels", list)),
        )
        entry.close()
        return head


@dataclass(frozen=True, slots=True)
class Technique:
    """How the source was carried over.

    Attributes:
        name: ``as-is``, ``features``, ``frozen``, ``partial``, ``full``, ``lp-ft``, ``scratch`` …
        depth: how many segments below the head were retrained, where the technique takes a depth.
        config: every hyper-parameter in force, plain JSON values.
    """

    name: str
    depth: int | None
    config: Mapping[str, Json]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"name": self.name, "depth": self.depth, "config": dict(self.config)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = _Entry("technique", value)
        technique = cls(entry.take("name", str), entry.optional("depth", int), entry.take("config", dict))
        entry.close()
        return technique


@dataclass(frozen=True, slots=True)
class SourceVerification:
    """The proof that a source answers as its provider's own code does.

    Attributes:
        libraries: versions of the provider's libraries.
        probes: inputs that were prepared in both ways and compared.
        runs: those of them that were run through both networks; fewer for large ones.
        max_abs_difference: largest absolute difference: of ``tokens`` (ids, masks and types) or ``pixels``
            (grey levels out of 255), ``features`` and, where the source has labels, ``logits``.
        tolerance: what was allowed, by the same names.
    """

    libraries: Mapping[str, str]
    probes: int
    runs: int
    max_abs_difference: Mapping[str, float]
    tolerance: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "libraries": dict(self.libraries),
            "probes": self.probes,
            "runs": self.runs,
            "max_abs_difference": dict(self.max_abs_difference),
            "tolerance": dict(self.tolerance),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = _Entry("source verification", value)
        verification = cls(
            {
                name: _of_type(version, str, "a library's version")
                for name, version in entry.take("libraries", dict).items()
            },
            entry.take("probes", int),
            entry.take("runs", int),
            {
                name: _of_type(value, float, "a difference")
                for name, value in entry.take("max_abs_difference", dict).items()
            },
            {
                name: _of_type(value, float, "a tolerance")
                for name, value in entry.take("tolerance", dict).items()
            },
        )
        entry.close()
        return verification


@dataclass(frozen=True, slots=True)
class Origin:
    """What the version was carried over from.

    Attributes:
        spec: the source's spec, such as ``torchvision:resnet50@IMAGENET1K_V2``.
        architecture: the network's name at its provider.
        weights: digest of the source's parameters and buffers.
        licence: what the provider says of the weights' licence, or None.
        parent: digest of the registered version that the source is, or None.
        verification: proof against the provider's own code; None where there is no such code, where the
            weights are random, and in versions older than it. Left out of the JSON form where it is None.
    """

    spec: str
    architecture: str
    weights: Digest
    licence: str | None = None
    parent: Digest | None = None
    verification: SourceVerification | None = None

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "spec": self.spec,
            "architecture": self.architecture,
            "weights": self.weights,
            "licence": self.licence,
            "parent": self.parent,
            **({} if self.verification is None else {"verification": self.verification.to_json()}),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = _Entry("origin", value)
        parent = entry.optional("parent", str)
        origin = cls(
            entry.take("spec", str),
            entry.take("architecture", str),
            Digest(entry.take("weights", str)),
            entry.optional("licence", str),
            None if parent is None else Digest(parent),
            SourceVerification.from_json(entry.take("verification", dict))
            if entry.holds("verification")
            else None,
        )
        entry.close()
        return origin


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the dataset: training, validation or test.

    Attributes:
        count: items in it.
        items: digest of the stored list of its item digests (sorted, one a line).
    """

    count: int
    items: Digest

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"count": self.count, "items": self.items}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = _Entry("part", value)
        part = cls(entry.take("count", int), Digest(entry.take("items", str)))
        entry.close()
        return part


@dataclass(frozen=True, slots=True)
class Parity:
    """The proof that the exported version answers as the torch model does.

    Attributes:
        max_abs_difference: largest absolute difference per output (``features``, ``logits``).
        tolerance: what was allowed per output: 1e-4 times the larger of 1 and the output's scale.
        top1_agreement: share of inputs with the same first label, near-ties left out; None without head.
        inputs: how many inputs came from where (``test``, ``train``, ``synthetic``).
        batches: batch sizes that were run.
    """

    max_abs_difference: Mapping[str, float]
    tolerance: Mapping[str, float]
    top1_agreement: float | None
    inputs: Mapping[str, int]
    batches: tuple[int, ...]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "max_abs_difference": dict(self.max_abs_difference),
            "tolerance": dict(self.tolerance),
            "top1_agreement": self.top1_agreement,
            "inputs": dict(self.inputs),
            "batches": list(self.batches),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = _Entry("parity", value)
        parity = cls(
            entry.take("max_abs_difference", dict),
            entry.take("tolerance", dict),
            entry.optional("top1_agreement", float),
            entry.take("inputs", dict),
            tuple(_of_type(size, int, "a batch size") for size in entry.take("batches", list)),
        )
        entry.close()
        return parity


@dataclass(frozen=True, slots=True)
class Manifest:
    """An immutable version, whole.

    Attributes:
        transfer: source task and target task.
        modality: ``image`` or ``text``.
        technique: how it was carried over.
        origin: from what.
        recipe: digest of the stored recipe.
        segments: the graph, every segment after those that feed it.
        features: the wire of float32 [batch, dimension] that ``embed`` returns, or None.
        heads: the outputs of the target task; none for a feature extractor.
        signature: the tensors that go in and come out.
        space: the embedding space of ``features``, or None.
        parts: the dataset's parts by name (``train``, ``validation``, ``test``).
        excluded: items left out of the dataset, counted by reason.
        metrics: figures on the held-out part (``accuracy`` …).
        predictions: digest of the stored per-item predictions on the held-out part, or None.
        parity: proof against the torch model.
        seed: seed of everything random.
        libraries: versions of the libraries that made it.
        sketch: digest of mean and covariance of its features on what it learnt from, or None.
        evidence: digest of what a report shows beside the predictions (``adapters.report``), or None.
            Left out of the JSON form where it is None, so that versions older than it keep their identity.
        remarks: items of the dataset that were kept and yet not read plainly, counted by reason; left out
            of the JSON form where there are none.
    """

    transfer: Transfer
    modality: str
    technique: Technique
    origin: Origin
    recipe: Digest
    segments: tuple[Segment, ...]
    features: Wire | None
    heads: tuple[Head, ...]
    signature: Signature
    space: Space | None
    parts: Mapping[str, Part]
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
                raise InvalidManifest(f"segment {segment.name!r} stands twice in the graph")
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
        """Every output by name: ``features``, and ``logits`` (``logits.NAME`` where heads are several)."""
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
        """Yield (kind, digest) of every blob that the version cannot do without, itself excluded."""
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
        """Read a manifest, strictly: unknown keys, other types and other encodings are refused.

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
                "a manifest is stored as canonical JSON; these bytes say the same in another form"
            )
        return manifest

    @classmethod
    def _from_json(cls, value: object) -> Self:
        entry = _Entry("manifest", value)
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
            technique=Technique.from_json(entry.take("technique", dict)),
            origin=Origin.from_json(entry.take("origin", dict)),
            recipe=Digest(entry.take("recipe", str)),
            segments=tuple(Segment.from_json(each) for each in entry.take("segments", list)),
            features=None if features is None else Wire.parse(features),
            heads=tuple(Head.from_json(each) for each in entry.take("heads", list)),
            signature=Signature.from_json(entry.take("signature", dict)),
            space=None if space is None else Space.from_json(space),
            parts={name: Part.from_json(each) for name, each in entry.take("parts", dict).items()},
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


class _Entry:
    """Reads one JSON object key by key, and refuses what was not asked for."""

    def __init__(self, what: str, value: object) -> None:
        self._what = what
        self._left = dict(_of_type(value, dict, f"a {what}"))

    def take(self, key: str, type_: type[_T]) -> _T:
        if key not in self._left:
            raise InvalidManifest(f"a {self._what} has a key {key!r}, this one has not")
        return _of_type(self._left.pop(key), type_, f"{key!r} of a {self._what}")

    def optional(self, key: str, type_: type[_T]) -> _T | None:
        if key in self._left and self._left[key] is None:
            del self._left[key]
            return None
        return self.take(key, type_)

    def holds(self, key: str) -> bool:
        return key in self._left

    def close(self) -> None:
        if self._left:
            raise InvalidManifest(f"a {self._what} has no key {quoted(next(iter(self._left)))}")


def _of_type(value: object, type_: type[_T], what: str) -> _T:
    if not isinstance(value, type_) or (isinstance(value, bool) and type_ is not bool):
        raise InvalidManifest(f"{what} is {type_.__name__}, got {quoted(value)}")
    return value
