"""Tiny, whole versions: real ONNX segments, a real recipe, a manifest that fits them.

A trunk averages an 8 x 8 picture's colours and mixes them into four features, or averages the
vectors of a text's words; a head is one Gemm on those. Equal trunk seeds give equal trunk bytes,
whatever the head::

    version = publish(registry, tiny("letters/digits", seed=1))
    version = publish(registry, tiny_text("words/moods", seed=1))
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from registry.digests import Digest
from registry.manifest import (
    CLASSIFICATION,
    Head,
    Manifest,
    Origin,
    Parity,
    Segment,
    Split,
    TechniqueRecord,
    Wire,
)
from registry.names import Transfer
from registry.recipe import ImageRecipe, Recipe, TextRecipe
from registry.registry import Registry
from registry.segments import canonical
from registry.signature import Signature, TensorSpec
from registry.space import Space
from registry.versions import Version

SIDE = 8
DIMENSION = 4
LABELS = ("circle", "square", "triangle")
MOODS = ("glad", "sad")
WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "day", "night", "is", "was"),
    *("good", "bad", "bright", "dark", ".", ",", "!"),
)


@dataclass(frozen=True, slots=True)
class Tiny:
    """A manifest and every blob that it needs, itself excluded, as (kind, bytes)."""

    manifest: Manifest
    blobs: tuple[tuple[str, bytes], ...]


def picture(seed: int = 0, side: int = SIDE) -> bytes:
    """Return a PNG of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def trunk(seed: int = 0, output: str = "features") -> bytes:
    """Return a segment from ``pixels`` uint8 [batch, 8, 8, 3] to ``features`` float32 [batch, 4]."""
    weights = np.random.default_rng(seed).normal(size=(3, DIMENSION)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["colours"], keepdims=0),
        helper.make_node("Gemm", ["colours", "weights"], [output]),
    ]
    constants: dict[str, ArrayLike] = {"scale": np.float32(255), "axes": np.array([1, 2]), "weights": weights}
    return _segment(
        nodes,
        constants,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIMENSION]),
    )


def head(seed: int = 0, labels: int = len(LABELS)) -> bytes:
    """Return a segment from ``features`` float32 [batch, 4] to ``logits`` float32 [batch, labels]."""
    random = np.random.default_rng(seed)
    constants = {
        "weights": random.normal(size=(DIMENSION, labels)).astype(np.float32),
        "bias": random.normal(size=labels).astype(np.float32),
    }
    return _segment(
        [helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"])],
        constants,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIMENSION])],
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels]),
    )


class Details(TypedDict, total=False):
    """What is seldom said of a version.

    Attributes:
        seed: of the head, the items and the accuracy.
        technique: the technique's name.
        parent: digest of the version that it claims to be carried over from.
    """

    seed: int
    technique: str
    parent: Digest | None


def tiny(
    transfer: str = "letters/digits",
    *,
    trunk_seed: int = 0,
    labels: tuple[str, ...] | None = LABELS,
    **details: Unpack[Details],
) -> Tiny:
    """Make a version; other arguments make another one, equal ones the same.

    Args:
        transfer: source and target task.
        trunk_seed: of the trunk: equal ones share its segment and its space.
        labels: the head's labels; None makes a feature extractor without head.
        details: the rest.
    """
    weights = Digest.of(f"trunk {trunk_seed}".encode())
    stages = (_Stage("pool", trunk(trunk_seed), weights, {"pixels": Wire("recipe", "pixels")}, "features"),)
    return _version(ImageRecipe(height=SIDE, width=SIDE), stages, transfer, labels, **details)


def tiny_text(
    transfer: str = "words/moods",
    *,
    trunk_seed: int = 0,
    labels: tuple[str, ...] | None = MOODS,
    **details: Unpack[Details],
) -> Tiny:
    """Make a version of a text model; the arguments are those of ``tiny``.

    A word is looked up in a table, and the words of a text are averaged: two segments, the second
    of which takes the mask beside what the first gives.
    """
    digests = [Digest.of(f"{name} {trunk_seed}".encode()) for name in ("table", "mean")]
    wires = {"h": Wire("embedding", "h_out"), "attention_mask": Wire("recipe", "attention_mask")}
    stages = (
        _Stage(
            "embedding", table(trunk_seed), digests[0], {"input_ids": Wire("recipe", "input_ids")}, "h_out"
        ),
        _Stage("pool", mean(), digests[1], wires, "features"),
    )
    return _version(text_recipe(), stages, transfer, labels, **details)


def text_recipe(max_length: int = 32, buckets: tuple[int, ...] = (8, 16, 32)) -> TextRecipe:
    """Return a recipe of whole lower-case words, ``[CLS]`` before a text and ``[SEP]`` after each."""
    library = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))],
    )
    return TextRecipe(library.to_str(), max_length, buckets, pad_id=WORDS.index("[PAD]"))


def table(seed: int = 0) -> bytes:
    """Return a segment from ``input_ids`` int64 [batch, seq] to ``h_out`` float32 [batch, seq, 4]."""
    weights = np.random.default_rng(seed).normal(size=(len(WORDS), DIMENSION)).astype(np.float32)
    return _segment(
        [helper.make_node("Gather", ["weights", "input_ids"], ["h_out"])],
        {"weights": weights},
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "seq"])],
        helper.make_tensor_value_info("h_out", TensorProto.FLOAT, ["batch", "seq", DIMENSION]),
    )


def mean() -> bytes:
    """Return a segment from ``h`` and ``attention_mask`` to the masked mean ``features`` float32 [batch, 4]."""
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["h", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "words"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "words"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["divisor"]),
        helper.make_node("Div", ["sum", "divisor"], ["features"]),
    ]
    constants: dict[str, ArrayLike] = {
        "last": np.array([-1]), "words": np.array([1]), "one": np.array([1], np.float32),
    }  # fmt: skip
    return _segment(
        nodes,
        constants,
        [
            helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", "seq", DIMENSION]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "seq"]),
        ],
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIMENSION]),
    )


def layer(seed: int, output: str = "h_out") -> bytes:
    """Return a segment from ``h`` to ``h_out`` or ``features``, all float32 [batch, 4]: a layer that rectifies."""
    weights = np.random.default_rng(seed).normal(size=(DIMENSION, DIMENSION)).astype(np.float32)
    return _segment(
        [
            helper.make_node("Gemm", ["h", "weights"], ["mixed"]),
            helper.make_node("LeakyRelu", ["mixed"], [output], alpha=0.5),
        ],
        {"weights": weights},
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", DIMENSION])],
        helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIMENSION]),
    )


def chain(
    transfer: str, seeds: Sequence[int], *, seed: int = 0, labels: tuple[str, ...] | None = LABELS
) -> Tiny:
    """Make a version of a picture's mean colours and a layer for each seed.

    Args:
        transfer: source and target task.
        seeds: of the layers, one or more; versions whose first ones are equal share those.
        seed: of the head.
        labels: the head's labels; None makes a feature extractor without head.
    """
    wires = [Wire("recipe", "pixels"), Wire("colours", "h_out")]
    wires += [Wire(f"layer {number}", "h_out") for number in range(len(seeds) - 1)]
    stages = [
        _Stage("colours", trunk(0, "h_out"), Digest.of(b"colours"), {"pixels": wires[0]}, "h_out"),
    ]
    for number, (own, wire) in enumerate(zip(seeds, wires[1:], strict=True)):
        output = "features" if number == len(seeds) - 1 else "h_out"
        data, weights = layer(own, output), Digest.of(f"layer {own}".encode())
        stages.append(_Stage(f"layer {number}", data, weights, {"h": wire}, output))
    return _version(ImageRecipe(height=SIDE, width=SIDE), stages, transfer, labels, seed=seed)


def total() -> bytes:
    """Return a segment from ``h`` and ``attention_mask`` to the masked sum ``features`` float32 [batch, 4]."""
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["h", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "words"], ["features"], keepdims=0),
    ]
    return _segment(
        nodes,
        {"last": np.array([-1]), "words": np.array([1])},
        [
            helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", "seq", DIMENSION]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "seq"]),
        ],
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIMENSION]),
    )


def with_segment(version: Tiny, name: str, data: bytes) -> Tiny:
    """Exchange a version's segment."""
    segments = [
        replace(segment, digest=Digest.of(data), bytes=len(data)) if segment.name == name else segment
        for segment in version.manifest.segments
    ]
    blobs = (*version.blobs, ("segment", data))
    return Tiny(replace(version.manifest, segments=tuple(segments)), blobs)


@dataclass(frozen=True, slots=True)
class _Stage:
    """A segment of a trunk, the digest of its weights, and what it takes and gives."""

    name: str
    data: bytes
    weights: Digest
    inputs: dict[str, Wire]
    output: str


def _version(
    recipe: Recipe,
    stages: Sequence[_Stage],
    transfer: str,
    labels: tuple[str, ...] | None,
    *,
    seed: int = 0,
    technique: str = "frozen",
    parent: Digest | None = None,
) -> Tiny:
    parts = {
        name: "\n".join(sorted(Digest.of(f"{name} {seed} {index}".encode()) for index in range(3))).encode()
        for name in ("train", "test")
    }
    blobs = [("recipe", recipe.to_bytes()), *(("items", items) for items in parts.values())]
    blobs += [("segment", stage.data) for stage in stages]
    segments = [
        _described(stage.name, "trunk", stage.data, stage.weights, stage.inputs, stage.output)
        for stage in stages
    ]
    features = Wire(stages[-1].name, "features")
    outputs = [TensorSpec("features", "float32", ("batch", DIMENSION))]
    heads: tuple[Head, ...] = ()
    predictions = None
    if labels is not None:
        head_bytes, head_weights = head(seed, len(labels)), Digest.of(f"head {seed} {len(labels)}".encode())
        segments.append(
            _described("head", "head", head_bytes, head_weights, {"features": features}, "logits")
        )
        blobs += [("segment", head_bytes), ("predictions", f'{{"seed": {seed}}}'.encode())]
        outputs.append(TensorSpec("logits", "float32", ("batch", len(labels))))
        heads = (Head(Transfer.parse(transfer).target, CLASSIFICATION, Wire("head", "logits"), labels),)
        predictions = Digest.of(blobs[-1][1])
    weights = tuple(stage.weights for stage in stages)
    manifest = Manifest(
        transfer=Transfer.parse(transfer),
        modality=recipe.modality,
        technique=TechniqueRecord(technique, None, {"l2": 1.0}),
        origin=Origin("bundled:tiny", "tiny", weights[0], "CC0-1.0", parent),
        recipe=recipe.digest,
        segments=tuple(segments),
        features=features,
        heads=heads,
        signature=Signature(recipe.fields, tuple(outputs)),
        space=Space(weights, recipe.digest, "avg", "none", DIMENSION),
        parts={name: Split(3, Digest.of(items)) for name, items in parts.items()},
        excluded={},
        metrics={} if labels is None else {"accuracy": round(0.5 + seed % 50 / 100, 2)},
        predictions=predictions,
        parity=Parity({"features": 0.0}, {"features": 1e-4}, None, {"synthetic": 256}, (1, 2, 3, 17)),
        seed=seed,
        libraries={"onnx": "1.23.2"},
    )
    return Tiny(manifest, tuple(blobs))


def publish(registry: Registry, version: Tiny) -> Version:
    """Store a version's blobs and register it."""
    with registry.publication() as publication:
        for kind, data in version.blobs:
            publication.store(kind, data)
        return publication.register(version.manifest)


def _described(
    name: str, role: str, data: bytes, weights: Digest, inputs: dict[str, Wire], output: str
) -> Segment:
    return Segment(name, role, Digest.of(data), len(data), weights, inputs, (output,))


def _segment(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, ArrayLike],
    inputs: Sequence[ValueInfoProto],
    output: ValueInfoProto,
) -> bytes:
    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], initialisers)
    return canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
