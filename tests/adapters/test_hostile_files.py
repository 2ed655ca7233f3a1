"""Files that were made to hurt whoever reads them: refused in one line, before they take memory or time."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from pyarrow import parquet

from adapters.sources.checkpoints import read_safetensors
from adapters.sources.vectors import Vectors
from registry import tables
from registry.errors import CultivarError, DatasetError, InvalidSegment, SourceUnavailable, UnknownSource
from registry.segments import canonical


def only_line(caught: "pytest.ExceptionInfo[CultivarError]") -> None:
    assert "\n" not in str(caught.value)


# Weights


def weights(header: dict[str, Any] | bytes, data: bytes = b"", announced: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if announced is None else announced) + text + data


def tensor(shape: list[int], *offsets: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": list(offsets)}


WEIGHTS = {
    "nothing": b"",
    "a header longer than any file": weights({}, announced=2**63),
    "a header longer than this file": weights({}, announced=50_000_000),
    "overlapping tensors": weights({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"0000"),
    "a hole": weights({"a": tensor([1], 4, 8)}, b"00000000"),
    "a tensor beyond the end": weights({"a": tensor([2], 0, 8)}, b"0000"),
    "a shape that overflows": weights({"a": tensor([1 << 40, 1 << 40], 0, 4)}, b"0000"),
    "a shape larger than its bytes": weights({"a": tensor([1 << 40], 0, 4)}, b"0000"),
    "a negative shape": weights({"a": tensor([-1], 0, 4)}, b"0000"),
    "lists without end": weights(b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no JSON": weights(b"\xff" * 100),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_hostile_safetensors_are_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(WEIGHTS[what])
    with pytest.raises(SourceUnavailable, match="safetensors") as caught:
        read_safetensors(path)
    only_line(caught)


# Word vectors

VECTORS = {
    "a count that lies": b"2000000 300\na 1 2\n",
    "a count beyond the limit": b"999999999 4096\na 1 2\n",
    "a first line without end": b"1" * 5_000_000,
    "a word without end": b"2 3\n" + b"a" * 5_000_000,
    "a word without end, binary": b"1000 100\n" + b"x" * 5_000_000,
    "a number without end": b"1 2\na " + b"1" * 1_000_000 + b" 2\n",
    "more than was announced": b"1 2\na 1 2\nb 1 2\n",
    "no number": b"1 2\na nan 1\n",
    "an infinite number": b"1 2\na 1e999 1\n",
}


@pytest.mark.parametrize("what", VECTORS)
def test_hostile_word_vectors_are_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(VECTORS[what])
    with pytest.raises(UnknownSource, match=r"vectors\.txt") as caught:
        Vectors.read(path)
    only_line(caught)


# Parquet


def rows_of(path: Path, max_rows: int = 2_000_000) -> int:
    _, records = tables.read(path, ("text", "label"), max_rows)
    return sum(1 for _ in records)


def repeated(path: Path) -> None:
    """Say one text of a megabyte two thousand times, in some hundred bytes."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2000), pa.array(["x" * (1 << 20)]))
    parquet.write_table(pa.table({"text": text, "label": ["a"] * 2000}), path, compression="zstd")


def zeros(path: Path) -> None:
    schema = pa.schema({"text": pa.string(), "label": pa.string()})
    batch = pa.record_batch({"text": ["\0" * 1_000_000] * 20, "label": ["a"] * 20}, schema)
    with parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(60):
            writer.write_batch(batch)


@pytest.mark.parametrize("make", [repeated, zeros])
def test_a_parquet_file_that_grows_beyond_the_limit_is_refused(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "bomb.parquet"
    make(path)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DatasetError, match="come to at most") as caught:
        rows_of(path)
    only_line(caught)


def test_texts_in_a_dictionary_are_read_as_others_are(tmp_path: Path) -> None:
    values = ["b", None, "a", "b"]
    for name, text in (("plain", pa.array(values)), ("coded", pa.array(values).dictionary_encode())):
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.table({"text": text, "label": ["a", "b", "c", "d"]}), path)
        _, records = tables.read(path, ("text", "label"), 10)
        assert [record["text"] for _, record in records] == values


def test_a_damaged_parquet_file_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["\u00e9", "b"], "label": ["a", "b"]}), path)
    good = path.read_bytes()
    dice = random.Random(1)
    for _ in range(300):
        damaged = bytearray(good)
        damaged[dice.randrange(len(good))] ^= 1 << dice.randrange(8)
        path.write_bytes(damaged)
        try:
            assert rows_of(path, 100) <= 100
        except DatasetError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("text", [[[["a"]]], [{"a": "b"}], [[{"a": [1]}]]])
def test_nested_columns_are_no_texts(text: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "nested.parquet"
    parquet.write_table(pa.table({"text": text, "label": ["a"]}), path)
    (record,) = tables.read(path, ("text", "label"), 10)[1]
    assert not isinstance(record[1]["text"], str)


# ONNX


def graph_of(dims: list[int], raw: bytes, operator: str = "Mul", domain: str = "") -> Any:
    value = helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    node = helper.make_node(operator, ["h", "w"], ["y"], domain=domain)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=raw)
    graph = helper.make_graph([node], "g", [value], [out], [weight])
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    "dims",
    [[1 << 40], [1 << 32, 1 << 32], [-1], [-4], [3], [0]],
    ids=["huge", "overflow", "-1", "-4", "3", "0"],
)
def test_a_weight_whose_shape_is_not_that_of_its_bytes_is_refused(dims: list[int]) -> None:
    with pytest.raises(InvalidSegment) as caught:
        canonical(graph_of(dims, np.ones(4, np.float32).tobytes()))
    only_line(caught)


def test_a_cycle_is_refused() -> None:
    given = graph_of([4], np.ones(4, np.float32).tobytes())
    given.graph.node[0].input[0] = "y"
    with pytest.raises(InvalidSegment, match="used before") as caught:
        canonical(given)
    only_line(caught)
