"""An ONNX graph as values and the calls that compute them; equal values are merged.

Reading hash-conses: two weights with equal content, or two calls of the same operator on the same values,
become one object. This joins several models that are read into one :class:`Graph`. Writing starts from the
outputs, so unneeded values are dropped. The written model depends only on the computation, not on names,
order, metadata or producer.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from registry.errors import InvalidSegment
from registry.quoting import quoted
from registry.segments.encoding import Detached, from_bytes

OPSET = 20
"""The ONNX operator set version of all segments."""
IR_VERSION = 10
"""The corresponding version of the file format."""
GRAPH_NAME = "cultivar"
SYMBOLS = ("batch", "seq")
"""Names of the first and second dimension of an input if they are variable."""

_PACKED_BITS = {
    number: 4
    for name in ("INT4", "UINT4", "FLOAT4E2M1")
    if (number := getattr(TensorProto, name, None)) is not None
}
"""Bits per element of the packed types, by ONNX's type number."""

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_PLAIN_CONSTANTS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


@dataclass(frozen=True, slots=True)
class Type:
    """The type of a tensor.

    Attributes:
        dtype: ONNX's number of the element type.
        shape: its dimensions, each a number or one of ``SYMBOLS``.
    """

    dtype: int
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Port:
    """An input tensor of the graph."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A constant tensor.

    Attributes:
        dtype: ONNX's number of the element type.
        shape: its dimensions.
        data: the elements, little-endian, in C order, as ``TensorProto.raw_data``; may be a view of data held
            elsewhere.
    """

    dtype: int
    shape: tuple[int, ...]
    data: bytes | memoryview


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One operator on some values.

    Attributes:
        operator: its ONNX name.
        domain: ``""`` for ONNX's own operators.
        inputs: the values; None for an omitted optional input.
        attributes: the serialised attributes, sorted by name.
        outputs: for each output whether it is used.
    """

    operator: str
    domain: str
    inputs: "tuple[Value | None, ...]"
    attributes: tuple[bytes, ...]
    outputs: tuple[bool, ...]

    def attribute(self, name: str, default: int | None = None) -> int | None:
        """Return an integer attribute."""
        for data in self.attributes:
            given = AttributeProto.FromString(data)
            if given.name == name:
                return int(given.i)
        return default


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One output of a call."""

    call: Call
    index: int


Value: TypeAlias = Port | Weight | Result
Store: TypeAlias = Callable[[TensorProto, Weight], None]


class Graph:
    """Values of one or more models, hash-consed.

    Attributes:
        types: the types of ports and results.
    """

    def __init__(self) -> None:
        self.types: dict[Value, Type] = {}
        self._ports: dict[str, Port] = {}
        self._weights: dict[tuple[int, tuple[int, ...], bytes], Weight] = {}
        self._results: dict[tuple[object, ...], tuple[Result, ...]] = {}
        self._domains: dict[str, int] = {}

    def port(self, name: str, type_: Type) -> Port:
        """Return the port with a name.

        Raises:
            InvalidSegment: it already exists with another type.
        """
        port = self._ports.setdefault(name, Port(name))
        if self.types.setdefault(port, type_) != type_:
            raise InvalidSegment(
                f"input {name!r} is {self.types[port]} to one segment and {type_} to another"
            )
        return port

    def weight(self, dtype: int, shape: Sequence[int], data: bytes | memoryview) -> Weight:
        """Return the constant tensor with a content."""
        key = (dtype, tuple(shape), hashlib.sha256(data).digest())
        return self._weights.setdefault(key, Weight(dtype, tuple(shape), data))

    def integers(self, values: Sequence[int]) -> Weight:
        """Return a constant int64 vector."""
        return self.weight(TensorProto.INT64, (len(values),), np.array(values, "<i8").tobytes())

    def call(
        self,
        operator: str,
        inputs: Sequence[Value | None],
        attributes: Sequence[bytes] = (),
        domain: str = "",
        outputs: tuple[bool, ...] = (True,),
    ) -> tuple[Result, ...]:
        """Return the outputs of an operator on some values.

        Attributes with their default value are omitted: an exporter may or may not write ``alpha=1``, and
        ONNX Runtime fills it in.
        """
        defaults: frozenset[bytes] = frozenset() if domain else _defaults(operator)
        told = tuple(data for data in attributes if data not in defaults)
        key = (operator, domain, tuple(map(id, inputs)), told, outputs)
        if key not in self._results:
            call = Call(operator, domain, tuple(inputs), told, outputs)
            self._results[key] = tuple(Result(call, index) for index in range(len(outputs)))
        return self._results[key]

    def read(
        self, model: ModelProto | Detached, wired: "Mapping[str, Value | str] | None" = None
    ) -> dict[str, Value]:
        """Add a model and return its outputs by name.

        Args:
            model: the model; separate weights are not copied. Its variable dimensions take their symbols from
                its inputs.
            wired: values or port names for some of its inputs; every other input becomes a port with its own
                name.

        Raises:
            InvalidSegment: the model is malformed; it contains control flow, functions, random operators,
                external or sparse data, or another opset; or a value does not have the type of its input.
        """
        proto, weights = (
            (from_bytes(model.model), model.weights) if isinstance(model, Detached) else (model, {})
        )
        return _GraphReader(self, proto, weights, wired or {}).read()

    def write(self, outputs: Mapping[str, Value], store: "Store | None" = None) -> ModelProto:
        """Return one model that computes some values.

        Args:
            outputs: the values by output name.
            store: puts a weight's elements into its initialiser, which already has name, type and shape; None
                puts them into the model.

        Raises:
            InvalidSegment: the name of an input or output is reserved for positional names.
        """
        return _Writer(self, outputs, store or _inline).write(self._domains)

    def uses_domain(self, domain: str, version: int) -> None:
        """Record the version of an operator set.

        Raises:
            InvalidSegment: another version is in use.
        """
        if domain == "" and version != OPSET:
            raise InvalidSegment(
                f"segments are written in opset {OPSET}, got {version}; export again with that opset"
            )
        if self._domains.setdefault(domain, version) != version:
            raise InvalidSegment(
                f"operators {domain!r} are of version {self._domains[domain]} and {version}; use one"
            )


def walk(outputs: Iterable[Value], inputs_of: Callable[[Value], Iterable[Value]]) -> Iterator[Value]:
    """Yield values in depth-first order from the outputs, each once and after its inputs."""
    done = set[Value]()
    for output in outputs:
        stack: list[tuple[Value, Iterator[Value]]] = [(output, iter(inputs_of(output)))]
        while stack:
            value, pending = stack[-1]
            if value in done:
                stack.pop()
            elif (inner := next(pending, None)) is None:
                stack.pop()
                done.add(value)
                yield value
            elif inner not in done:
                stack.append((inner, iter(inputs_of(inner))))


def inputs_of(value: Value) -> tuple[Value, ...]:
    """Return the operands of a value, in order."""
    return tuple(v for v in value.call.inputs if v is not None) if isinstance(value, Result) else ()


class _GraphReader:
    """Adds one model to a graph."""

    def __init__(
        self,
        graph: Graph,
        model: ModelProto,
        weights: Mapping[str, np.ndarray],
        wired: Mapping[str, Value | str],
    ) -> None:
        self.graph = graph
        self.model = model
        self.weights = weights
        self.wired = wired
        self.values: dict[str, Value] = {}
        self.symbols: dict[str, str] = {}

    def read(self) -> dict[str, Value]:
        source = self.model.graph
        if self.model.functions or source.sparse_initializer:
            raise InvalidSegment(
                "a segment has no functions of its own and no sparse weights; export it with neither"
            )
        for opset in self.model.opset_import:
            if opset.domain == "" or any(node.domain == opset.domain for node in source.node):
                self.graph.uses_domain(opset.domain, opset.version)
        for tensor in source.initializer:
            self.define(tensor.name, self.read_weight(tensor))
        for port in source.input:
            if port.name not in self.values:  # up to IR 3, initialisers were listed as inputs too
                self.read_input(port)
        for node in source.node:
            self.read_node(node)
        for info in (*source.value_info, *source.output):
            value, type_ = self.values.get(info.name), self.type_of(info)
            if isinstance(value, Result) and type_ is not None:
                self.graph.types.setdefault(value, type_)
        return {output.name: self.value(output.name) for output in source.output}

    def read_weight(self, tensor: TensorProto) -> Weight:
        if tensor.name not in self.weights:
            return _weight(self.graph, tensor)
        array = self.weights[tensor.name]
        if array.shape != tuple(tensor.dims):
            raise InvalidSegment(
                f"weight {tensor.name!r}: expected {list(tensor.dims)}, got {list(array.shape)}"
            )
        elements = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return self.graph.weight(tensor.data_type, tensor.dims, elements.data)

    def read_input(self, port: ValueInfoProto) -> None:
        self.name_symbols(port)
        type_ = self.type_of(port)
        if type_ is None:
            raise InvalidSegment(f"input {port.name!r} needs a shape of numbers and {', '.join(SYMBOLS)}")
        value = self.wired.get(port.name, port.name)
        if isinstance(value, str):
            value = self.graph.port(value, type_)
        elif self.graph.types.get(value, type_) != type_:
            raise InvalidSegment(
                f"input {port.name!r} is {type_}, what it is wired to is {self.graph.types[value]}"
            )
        self.define(port.name, value)

    def define(self, name: str, value: Value) -> None:
        if name in self.values:
            raise InvalidSegment(f"the name {name!r} is given twice in one model")
        self.values[name] = value

    def value(self, name: str) -> Value:
        if name not in self.values:
            raise InvalidSegment(f"{name!r} is used before it is computed; the model is not well-formed")
        return self.values[name]

    def read_node(self, node: NodeProto) -> None:
        if node.op_type in _RANDOM or (node.op_type == "Dropout" and len(node.input) > 2):
            raise InvalidSegment(f"{node.op_type} is random; export the network in eval mode")
        if node.op_type == "Identity" and not node.domain:
            self.define(node.output[0], self.value(node.input[0]))
        elif node.op_type == "Constant" and not node.domain:
            self.define(node.output[0], _constant(self.graph, node))
        else:
            results = self.graph.call(
                node.op_type,
                [self.value(name) if name else None for name in node.input],
                _attributes(node),
                node.domain,
                tuple(bool(name) for name in node.output),
            )
            for name, result in zip(node.output, results, strict=True):
                if name:
                    self.define(name, result)

    def name_symbols(self, port: ValueInfoProto) -> None:
        for axis, dimension in enumerate(port.type.tensor_type.shape.dim):
            if dimension.dim_param:
                if axis >= len(SYMBOLS):
                    raise InvalidSegment(
                        f"input {port.name!r} varies in dimension {axis}; only the first two may"
                    )
                name = self.symbols.setdefault(dimension.dim_param, SYMBOLS[axis])
                if name != SYMBOLS[axis]:
                    raise InvalidSegment(
                        f"{dimension.dim_param!r} is both the batch and the sequence of the inputs"
                    )

    def type_of(self, info: ValueInfoProto) -> Type | None:
        """Return a type if its dimensions are numbers or symbols of the inputs."""
        tensor = info.type.tensor_type
        if not tensor.HasField("shape"):
            return None
        shape: list[int | str] = []
        for dimension in tensor.shape.dim:
            if dimension.HasField("dim_value"):
                shape.append(dimension.dim_value)
            elif dimension.dim_param in self.symbols:
                shape.append(self.symbols[dimension.dim_param])
            else:
                return None
        return Type(tensor.elem_type, tuple(shape))


class _Writer:
    """Writes one model from a graph."""

    def __init__(self, graph: Graph, outputs: Mapping[str, Value], store: Store) -> None:
        self.graph = graph
        self.outputs = {name: outputs[name] for name in sorted(outputs)}
        self.store = store
        self.names: dict[Value, str] = {}
        self.results = 0
        self.model = ModelProto(ir_version=IR_VERSION)
        self.target = self.model.graph
        self.target.name = GRAPH_NAME

    def write(self, domains: Mapping[str, int]) -> ModelProto:
        for name, value in self.outputs.items():
            if isinstance(value, Result):
                self.names.setdefault(value, name)
        order = list(walk(self.outputs.values(), inputs_of))
        ports = sorted((value for value in order if isinstance(value, Port)), key=lambda port: port.name)
        for port in ports:
            self.names[port] = port.name
        if reserved := [name for name in (*self.outputs, *self.names.values()) if _is_positional(name)]:
            raise InvalidSegment(
                f"inputs and outputs are not called v0, w1 and so on, got {', '.join(reserved)}"
            )
        calls = dict.fromkeys(value.call for value in order if isinstance(value, Result))
        for call in calls:
            self.write_call(call)
        for name, value in self.outputs.items():
            if self.names.get(value) != name:
                self.target.node.add(op_type="Identity", input=[self.name(value)], output=[name])
        self.target.input.extend(self.info(port.name, port) for port in ports)
        self.target.output.extend(self.info(name, value) for name, value in self.outputs.items())
        for domain in sorted({"", *(call.domain for call in calls)}):
            self.model.opset_import.add(domain=domain, version=domains.get(domain, OPSET))
        return self.model

    def write_call(self, call: Call) -> None:
        node = self.target.node.add(op_type=call.operator, domain=call.domain)
        node.input.extend("" if value is None else self.name(value) for value in call.inputs)
        for data in call.attributes:
            node.attribute.add().ParseFromString(data)
        results = self.graph.call(call.operator, call.inputs, call.attributes, call.domain, call.outputs)
        for result, wanted in zip(results, call.outputs, strict=True):
            node.output.append(self.name(result) if wanted else "")
            if wanted and result in self.graph.types and self.names[result] not in self.outputs:
                self.target.value_info.append(self.info(self.names[result], result))

    def name(self, value: Value) -> str:
        if value not in self.names:
            if isinstance(value, Weight):
                self.names[value] = f"w{len(self.target.initializer)}"
                tensor = self.target.initializer.add(
                    name=self.names[value], data_type=value.dtype, dims=value.shape
                )
                self.store(tensor, value)
            else:
                self.names[value] = f"v{self.results}"
                self.results += 1
        return self.names[value]

    def info(self, name: str, value: Value) -> ValueInfoProto:
        if isinstance(value, Weight):
            return onnx.helper.make_tensor_value_info(name, value.dtype, value.shape)
        if value not in self.graph.types:
            raise InvalidSegment(f"output {name!r} needs a shape of numbers and {', '.join(SYMBOLS)}")
        type_ = self.graph.types[value]
        return onnx.helper.make_tensor_value_info(name, type_.dtype, type_.shape)


def _is_positional(name: str) -> bool:
    return name[:1] in ("v", "w") and name[1:].isdecimal()


def attribute(name: str, value: int) -> bytes:
    """Return an integer attribute in the form that calls use."""
    return bytes(onnx.helper.make_attribute(name, value).SerializeToString(deterministic=True))


def _attributes(node: NodeProto) -> list[bytes]:
    """Return a node's attributes, sorted by name."""
    attributes = []
    for given in sorted(node.attribute, key=lambda a: a.name):
        if given.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) or given.ref_attr_name:
            raise InvalidSegment(
                f"a segment has no control flow, got a graph in the attribute {given.name!r}"
            )
        plain = AttributeProto()
        plain.CopyFrom(given)
        plain.ClearField("doc_string")
        attributes.append(bytes(plain.SerializeToString(deterministic=True)))
    return attributes


@functools.cache
def _defaults(operator: str) -> frozenset[bytes]:
    """Return the default attributes of one of ONNX's own operators, in the form that calls use."""
    try:
        schema = onnx.defs.get_schema(operator, OPSET, "")
    except onnx.defs.SchemaError as error:
        raise InvalidSegment(f"opset {OPSET} has no operator {quoted(operator)}") from error
    return frozenset(
        bytes(declared.default_value.SerializeToString(deterministic=True))
        for declared in schema.attributes.values()
        if declared.default_value.type != AttributeProto.UNDEFINED
    )


def _constant(graph: Graph, node: NodeProto) -> Weight:
    (attribute,) = node.attribute
    if attribute.name == "value":
        return _weight(graph, attribute.t)
    if attribute.name not in _PLAIN_CONSTANTS:
        raise InvalidSegment(f"a constant is numbers, got {attribute.name}")
    value = onnx.helper.get_attribute_value(attribute)
    return _weight(graph, numpy_helper.from_array(np.asarray(value, _PLAIN_CONSTANTS[attribute.name])))


def _weight(graph: Graph, tensor: TensorProto) -> Weight:
    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type == TensorProto.STRING:
        raise InvalidSegment(
            f"weight {tensor.name!r}: expected numbers inside the file, got text or another file's"
        )
    if min(tensor.dims, default=0) < 0:
        raise InvalidSegment(f"weight {tensor.name!r}: expected dimensions from 0, got {list(tensor.dims)}")
    try:
        if not tensor.HasField("raw_data"):
            tensor = numpy_helper.from_array(numpy_helper.to_array(tensor))
        elements = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    # A tensor with missing elements raises various exceptions of onnx and NumPy.
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidSegment(f"weight {tensor.name!r}: expected a whole tensor; {error}") from error
    bits = _PACKED_BITS.get(tensor.data_type, 8 * elements.itemsize)
    expected = -(-math.prod(tensor.dims) * bits // 8)
    if len(tensor.raw_data) != expected:
        raise InvalidSegment(
            f"weight {tensor.name!r}: its shape {list(tensor.dims)} takes {expected:,} bytes, it has "
            f"{len(tensor.raw_data):,}"
        )
    return graph.weight(tensor.data_type, tensor.dims, tensor.raw_data)


def _inline(tensor: TensorProto, weight: Weight) -> None:
    tensor.raw_data = bytes(weight.data)
