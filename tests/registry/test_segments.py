from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from registry.errors import InvalidSegment
from registry.runtime import Session
from registry.segments import Node, canonical, from_bytes, merge, merge_detached

BATCH = ("batch", 4)


def model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, Sequence[int | str]] | None = None,
    outputs: dict[str, Sequence[int | str]] | None = None,
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 20,
) -> ModelProto:
    def ports(given: dict[str, Sequence[int | str]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in given.items()
        ]

    graph = helper.make_graph(
        list(nodes),
        "some name",
        ports(inputs or {"h": BATCH}),
        ports(outputs or {"h_out": BATCH}),
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(
        graph, producer_name="someone", doc_string="words", opset_imports=[helper.make_opsetid("", opset)]
    )


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    return helper.make_node(
        operator, inputs.split(), outputs.split(), name=f"{operator} called {outputs}", **attributes
    )


def scaled(by: float, entry: str = "h", exit_: str = "h_out") -> bytes:
    """A segment that multiplies by a number."""
    return canonical(
        model([node("Mul", f"{entry} by", exit_)], {entry: BATCH}, {exit_: BATCH}, {"by": floats(by)})
    )


def operators(data: bytes) -> list[str]:
    return [n.op_type for n in from_bytes(data).graph.node]


def ones(rows: int = 2) -> np.ndarray:
    return np.ones((rows, 4), np.float32)


def run(data: bytes, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    return Session(data, threads=1).run(feeds)


class TestCanonicalBytes:
    def test_do_not_depend_on_names_order_or_metadata(self) -> None:
        one = model(
            [node("Relu", "h", "a"), node("Neg", "h", "b"), node("Add", "a b", "h_out")],
            weights={"unused": floats(1)},
        )
        other = model([node("Neg", "h", "x"), node("Relu", "h", "y"), node("Add", "y x", "h_out")])
        other.graph.name = "another"
        other.metadata_props.add(key="when", value="today")
        assert canonical(one) == canonical(other)

    def test_hold_no_metadata(self) -> None:
        written = from_bytes(canonical(model([node("Relu", "h", "h_out")])))
        assert (written.producer_name, written.doc_string, len(written.metadata_props)) == ("", "", 0)
        assert [n.name for n in written.graph.node] == [""]
        assert b"called" not in canonical(model([node("Relu", "h", "h_out")]))

    def test_are_a_fixed_point(self) -> None:
        once = canonical(model([node("Relu", "h", "a"), node("Add", "a h", "h_out")]))
        assert canonical(from_bytes(once)) == once
        onnx.checker.check_model(from_bytes(once), full_check=True)

    def test_leave_out_what_no_output_needs(self) -> None:
        assert operators(canonical(model([node("Relu", "h", "h_out"), node("Neg", "h", "unused")]))) == [
            "Relu"
        ]

    def test_merge_equal_constants_and_equal_nodes(self) -> None:
        written = canonical(
            model(
                [
                    node("Mul", "h one", "a"),
                    node("Mul", "h uno", "b"),
                    node("Constant", "", "eins", value=numpy_helper.from_array(floats(2, 2, 2, 2))),
                    node("Mul", "b eins", "c"),
                    node("Add", "a c", "h_out"),
                ],
                weights={"one": np.full(4, 2, np.float32), "uno": np.full(4, 2, np.float32)},
            )
        )
        assert operators(written) == ["Mul", "Mul", "Add"]
        assert len(from_bytes(written).graph.initializer) == 1
        np.testing.assert_array_equal(run(written, h=ones())["h_out"], 6 * ones())

    def test_tell_equal_bytes_of_another_shape_apart(self) -> None:
        written = canonical(
            model(
                [node("Mul", "h flat", "a"), node("Mul", "a tall", "h_out")],
                weights={"flat": np.ones(4, np.float32), "tall": np.ones((1, 4), np.float32)},
            )
        )
        assert [list(w.dims) for w in from_bytes(written).graph.initializer] == [[4], [1, 4]]

    @pytest.mark.parametrize(
        "constant",
        [
            {"value_float": 2.0},
            {"value_floats": [2.0]},
            {"value": helper.make_tensor("", TensorProto.FLOAT, [1], [2.0])},
        ],
        ids=str,
    )
    def test_write_every_kind_of_constant_as_a_weight(self, constant: dict[str, object]) -> None:
        written = canonical(model([node("Constant", "", "two", **constant), node("Mul", "h two", "h_out")]))
        assert operators(written) == ["Mul"]
        np.testing.assert_array_equal(run(written, h=ones())["h_out"], 2 * ones())

    def test_leave_out_attributes_at_their_default(self) -> None:
        weights = {"w": np.eye(4, dtype=np.float32)}
        plain = canonical(model([node("Gemm", "h w", "h_out")], weights=weights))
        wordy = canonical(
            model([node("Gemm", "h w", "h_out", transB=0, alpha=1.0, beta=1.0)], weights=weights)
        )
        other = canonical(model([node("Gemm", "h w", "h_out", alpha=2.0)], weights=weights))
        assert plain == wordy
        assert plain != other

    def test_forget_identities(self) -> None:
        nodes = [node("Identity", "h", "a"), node("Relu", "a", "b"), node("Identity", "b", "h_out")]
        assert canonical(model(nodes)) == canonical(model([node("Relu", "h", "h_out")]))

    def test_keep_one_where_an_input_is_an_output(self) -> None:
        written = canonical(model([node("Identity", "h", "h_out")]))
        assert operators(written) == ["Identity"]
        np.testing.assert_array_equal(run(written, h=ones())["h_out"], ones())

    def test_may_leave_one_value_under_two_names(self) -> None:
        nodes = [node("Relu", "h", "features"), node("Identity", "features", "also")]
        written = canonical(model(nodes, outputs={"features": BATCH, "also": BATCH}))
        assert set(run(written, h=ones())) == {"also", "features"}

    def test_keep_optional_inputs_and_outputs_in_their_places(self) -> None:
        written = canonical(
            model(
                [node("Clip", "h", "a"), helper.make_node("Clip", ["a", "", "top"], ["h_out"])],
                weights={"top": np.array(0.5, np.float32)},
            )
        )
        np.testing.assert_array_equal(run(written, h=ones())["h_out"], 0.5 * ones())

    def test_call_what_varies_batch_and_seq(self) -> None:
        shape = ("s77", "length", 4)
        written = from_bytes(canonical(model([node("Relu", "h", "h_out")], {"h": shape}, {"h_out": shape})))
        for port in (*written.graph.input, *written.graph.output):
            assert [d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim] == [
                "batch",
                "seq",
                4,
            ]

    def test_keep_inner_shapes_that_can_be_said_and_drop_others(self) -> None:
        given = model(
            [node("Relu", "h", "known"), node("Neg", "known", "unknown"), node("Abs", "unknown", "h_out")]
        )
        given.graph.value_info.append(helper.make_tensor_value_info("known", TensorProto.FLOAT, BATCH))
        given.graph.value_info.append(
            helper.make_tensor_value_info("unknown", TensorProto.FLOAT, ["2*batch", 4])
        )
        (info,) = from_bytes(canonical(given)).graph.value_info
        assert [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim] == ["batch", 4]

    @given(st.permutations(range(6)))
    def test_are_the_same_for_every_order_of_independent_nodes(self, order: list[int]) -> None:
        nodes = [node("Mul", f"h w{n}", f"m{n}") for n in range(6)]
        last = node("Sum", " ".join(f"m{n}" for n in range(6)), "h_out")
        weights = {f"w{n}": np.full(4, n, np.float32) for n in range(6)}
        shuffled = canonical(model([*(nodes[n] for n in order), last], weights=weights))
        assert shuffled == canonical(model([*nodes, last], weights=weights))


class TestRefusals:
    def test_random_operators(self) -> None:
        nodes = [node("RandomUniformLike", "h", "a"), node("Add", "a h", "h_out")]
        with pytest.raises(InvalidSegment, match="eval mode"):
            canonical(model(nodes))

    def test_dropout_in_training_mode(self) -> None:
        weights = {"ratio": np.array(0.5, np.float32), "yes": np.array(True)}
        with pytest.raises(InvalidSegment, match="eval mode"):
            canonical(model([node("Dropout", "h ratio yes", "h_out")], weights=weights))

    def test_other_opsets(self) -> None:
        with pytest.raises(InvalidSegment, match="opset 20, got 17"):
            canonical(model([node("Relu", "h", "h_out")], opset=17))

    def test_unknown_operators(self) -> None:
        with pytest.raises(InvalidSegment, match="no operator 'Reluu'"):
            canonical(model([node("Reluu", "h", "h_out")]))

    def test_weights_in_other_files(self) -> None:
        given = model([node("Mul", "h w", "h_out")], weights={"w": np.ones(4, np.float32)})
        tensor = given.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
        with pytest.raises(InvalidSegment, match="inside the file"):
            canonical(given)

    def test_control_flow(self) -> None:
        branch = helper.make_graph(
            [], "branch", [], [helper.make_tensor_value_info("h", TensorProto.FLOAT, BATCH)]
        )
        nodes = [node("If", "yes", "h_out", then_branch=branch, else_branch=branch)]
        with pytest.raises(InvalidSegment, match="control flow"):
            canonical(model(nodes, weights={"yes": np.array(True)}))

    def test_functions(self) -> None:
        given = model([node("Relu", "h", "h_out")])
        given.functions.add(name="mine", domain="own")
        with pytest.raises(InvalidSegment, match="functions"):
            canonical(given)

    def test_values_that_are_used_before_they_are_computed(self) -> None:
        with pytest.raises(InvalidSegment, match="'a' is used before"):
            canonical(model([node("Relu", "a", "h_out"), node("Neg", "h_out", "a")]))

    def test_names_that_are_given_twice(self) -> None:
        with pytest.raises(InvalidSegment, match="given twice"):
            canonical(model([node("Relu", "h", "h_out"), node("Neg", "h", "h_out")]))

    def test_ports_with_names_that_positions_use(self) -> None:
        with pytest.raises(InvalidSegment, match="v0"):
            canonical(model([node("Relu", "v0", "h_out")], {"v0": BATCH}))

    def test_inputs_whose_shape_nobody_knows(self) -> None:
        given = model([node("Relu", "h", "h_out")])
        given.graph.input[0].type.tensor_type.ClearField("shape")
        with pytest.raises(InvalidSegment, match="needs a shape"):
            canonical(given)

    def test_inputs_that_vary_beyond_the_second_dimension(self) -> None:
        with pytest.raises(InvalidSegment, match="dimension 2"):
            canonical(model([node("Relu", "h", "h_out")], {"h": ("n", 3, "height")}))

    @pytest.mark.parametrize("data", [b"\xff\xff", b"not a model at all"])
    def test_bytes_that_are_no_model(self, data: bytes) -> None:
        with pytest.raises(InvalidSegment, match="ONNX model"):
            from_bytes(data)


class TestMerging:
    def test_a_chain_equals_the_whole_byte_for_byte(self) -> None:
        nodes = [
            Node("low", scaled(2.0, "pixels"), {"pixels": "recipe:pixels"}),
            Node("high", scaled(3.0, exit_="features"), {"h": "low:h_out"}),
        ]
        whole = model(
            [node("Mul", "pixels two", "a"), node("Mul", "a three", "features")],
            {"pixels": BATCH},
            {"features": BATCH},
            {"two": floats(2), "three": floats(3)},
        )
        whole.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, BATCH))
        merged = merge(nodes, {"features": "high:features"})
        assert merged == canonical(whole)
        np.testing.assert_array_equal(run(merged, pixels=ones())["features"], 6 * ones())

    def test_two_heads_on_one_trunk_compute_it_once(self) -> None:
        nodes = [
            Node("trunk", scaled(2.0, "pixels", "features"), {"pixels": "recipe:pixels"}),
            Node("one", scaled(3.0, "features", "logits"), {"features": "trunk:features"}),
            Node("two", scaled(5.0, "features", "logits"), {"features": "trunk:features"}),
        ]
        merged = merge(nodes, {"first": "one:logits", "second": "two:logits", "features": "trunk:features"})
        assert operators(merged) == ["Mul", "Mul", "Mul"]
        answer = run(merged, pixels=ones())
        assert {name: float(value[0, 0]) for name, value in answer.items()} == {
            "features": 2.0,
            "first": 6.0,
            "second": 10.0,
        }

    def test_equal_segments_under_two_names_are_computed_once(self) -> None:
        nodes = [
            Node("a", scaled(2.0, "pixels", "features"), {"pixels": "recipe:pixels"}),
            Node("b", scaled(2.0, "pixels", "features"), {"pixels": "recipe:pixels"}),
        ]
        merged = merge(nodes, {"one": "a:features", "two": "b:features"})
        assert operators(merged) == ["Mul", "Identity"]

    def test_segments_that_no_output_needs_leave_no_trace(self) -> None:
        trunk = Node("trunk", scaled(2.0, "pixels", "features"), {"pixels": "recipe:pixels"})
        head = Node("head", scaled(3.0, "features", "logits"), {"features": "trunk:features"})
        outputs = {"features": "trunk:features"}
        assert merge([trunk, head], outputs) == merge([trunk], outputs)

    def test_side_inputs_reach_every_segment_as_one_input(self) -> None:
        masked = canonical(model([node("Mul", "h mask", "h_out")], {"h": BATCH, "mask": BATCH}))
        nodes = [
            Node("low", masked, {"h": "recipe:pixels", "mask": "recipe:attention_mask"}),
            Node("high", masked, {"h": "low:h_out", "mask": "recipe:attention_mask"}),
        ]
        merged = merge(nodes, {"features": "high:h_out"})
        assert [port.name for port in from_bytes(merged).graph.input] == ["attention_mask", "pixels"]
        answer = run(merged, pixels=ones(), attention_mask=3 * ones())
        np.testing.assert_array_equal(answer["features"], 9 * ones())

    def test_detached_weights_give_the_same_answers(self) -> None:
        random = np.random.default_rng(0)
        big, small = random.normal(size=(4, 400)).astype(np.float32), np.array([2, 1, 1], np.int64)
        given = canonical(
            model(
                [node("MatMul", "pixels big", "a"), node("ReduceSum", "a axes", "features")],
                {"pixels": BATCH},
                {"features": ("batch", 1)},
                {"big": big, "axes": small[1:2]},
            )
        )
        nodes = [Node("trunk", given, {"pixels": "recipe:pixels"})]
        detached = merge_detached(nodes, {"features": "trunk:features"})
        assert len(detached.model) < 1000
        assert [array.shape for array in detached.weights.values()] == [(4, 400)]
        one = Session(merge(nodes, {"features": "trunk:features"}), threads=1).run({"pixels": ones()})
        other = Session(detached, threads=1).run({"pixels": ones()})
        np.testing.assert_array_equal(one["features"], other["features"])


class TestWiring:
    def test_every_input_is_wired_and_nothing_else(self) -> None:
        with pytest.raises(InvalidSegment, match="do not match its wires"):
            merge([Node("trunk", scaled(2.0), {})], {"h_out": "trunk:h_out"})
        with pytest.raises(InvalidSegment, match="do not match its wires"):
            merge([Node("trunk", scaled(2.0), {"h": "recipe:h", "g": "recipe:g"})], {"h_out": "trunk:h_out"})

    def test_wires_lead_to_segments_before(self) -> None:
        nodes = [
            Node("high", scaled(2.0), {"h": "low:h_out"}),
            Node("low", scaled(2.0, "pixels"), {"pixels": "recipe:pixels"}),
        ]
        with pytest.raises(InvalidSegment, match="'low:h_out', which no segment before it leaves"):
            merge(nodes, {"h_out": "high:h_out"})

    @pytest.mark.parametrize("outputs", [{}, {"logits": "trunk:logits"}])
    def test_outputs_have_to_exist(self, outputs: dict[str, str]) -> None:
        with pytest.raises(InvalidSegment, match="expected outputs out of"):
            merge([Node("trunk", scaled(2.0, "pixels"), {"pixels": "recipe:pixels"})], outputs)

    def test_types_have_to_meet(self) -> None:
        wide = canonical(model([node("Relu", "h", "h_out")], {"h": ("n", 5)}, {"h_out": ("n", 5)}))
        nodes = [
            Node("low", scaled(2.0, "pixels"), {"pixels": "recipe:pixels"}),
            Node("high", wide, {"h": "low:h_out"}),
        ]
        with pytest.raises(InvalidSegment, match="what it is wired to is"):
            merge(nodes, {"h_out": "high:h_out"})

    def test_a_field_has_one_type(self) -> None:
        wide = canonical(model([node("Relu", "pixels", "h_out")], {"pixels": ("n", 5)}, {"h_out": ("n", 5)}))
        nodes = [
            Node("low", scaled(2.0, "pixels"), {"pixels": "recipe:pixels"}),
            Node("wide", wide, {"pixels": "recipe:pixels"}),
        ]
        with pytest.raises(InvalidSegment, match="'pixels' is"):
            merge(nodes, {"one": "low:h_out", "two": "wide:h_out"})
