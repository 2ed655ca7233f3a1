import copy
import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer, SwinTransformerBlockV2
from torchvision.models.vision_transformer import VisionTransformer

from adapters.export import Exported, export, export_head, export_readout, linear_head
from adapters.export.cutting import cut
from adapters.export.exporting import to_onnx
from adapters.readout import readout
from adapters.sources.normalisation import Normalisation
from adapters.sources.partition import stage
from adapters.sources.stages import Stages
from adapters.sources.torchvision import TorchvisionProvider
from adapters.sources.weights import stage_weights_digest
from registry.errors import InvalidSegment
from registry.runtime import Session
from registry.segments import Node, canonical, from_bytes, merge
from tests.adapters.tiny_text import DIMENSION, TinyTextSource

NORMALISATION = Normalisation.of([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])


def vision_transformer() -> Stages:
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
    cuts = ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1", "encoder.ln", "pool"]
    return _staged(network, cuts, "heads.head", 16, 32)


def swin_transformer() -> Stages:
    """Windows that are rolled, in two resolutions: its tail asks for the batch size of its input."""
    torch.manual_seed(0)
    network = SwinTransformer([4, 4], 8, [2, 1], [2, 2], [4, 4], num_classes=5, block=SwinTransformerBlockV2)
    return _staged(network, ["features.1", "features.2", "permute", "avgpool"], "head", 16, 64)


def torchvision(model: str) -> Stages:
    source = TorchvisionProvider().source(f"torchvision:{model}")
    stages = source.load(seed=0)
    stages.input_size = (source.smallest, source.smallest)
    return _realistic(stages)


def _staged(network: nn.Module, cuts: Sequence[str], head: str, dimension: int, side: int) -> Stages:
    return _realistic(
        stage(
            network,
            cuts,
            head,
            architecture="test",
            features_dim=dimension,
            input_size=(side, side),
            normalisation=NORMALISATION,
        )
    )


def _realistic(stages: Stages) -> Stages:
    """Move what is initialised to a constant off it, statistics included."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in stages.state_dict().items():
        if tensor.is_floating_point() and tensor.min() == tensor.max():
            noise = 0.1 * torch.randn(tensor.shape, generator=generator)
            tensor += noise.abs() if name.endswith("var") else noise
    return stages


BUILDERS = {
    "resnet18": lambda: torchvision("resnet18"),
    "squeezenet1_1": lambda: torchvision("squeezenet1_1"),
    "vision_transformer": vision_transformer,
    "swin_transformer": swin_transformer,
}
"""A family each: skip connections, a convolutional head, a class token, windows that are rolled."""


@pytest.fixture(scope="module", params=BUILDERS)
def stages(request: pytest.FixtureRequest) -> Stages:
    return BUILDERS[request.param]()


@pytest.fixture(scope="module")
def segments(stages: Stages) -> list[Exported]:
    return [*export(stages), export_head(stages, own_head(stages), after=stages.head_after)]


def own_head(stages: Stages) -> nn.Module:
    assert stages.head is not None
    return stages.head


def pixels(stages: Stages, rows: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 256, (rows, *stages.input_size, 3), np.uint8)


def nodes(segments: Sequence[Exported]) -> list[Node]:
    return [Node(segment.name, segment.model, segment.inputs) for segment in segments]


def uncut(stages: Stages) -> bytes:
    """Export everything in one, from pixels to logits."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = stages

        def forward(self, value: Tensor) -> Tensor:
            return self.stages.logits(value)

    return canonical(to_onnx(Whole(), [torch.from_numpy(pixels(stages, 2))], ["pixels"], ["logits"]))


def joined(segments: Sequence[Exported]) -> bytes:
    return merge(nodes(segments), {"logits": "head:logits", "features": f"{segments[-2].name}:features"})


class TestSegments:
    @pytest.mark.parametrize("rows", [1, 5])
    def test_merged_and_chained_answer_as_torch_does(
        self, stages: Stages, segments: list[Exported], rows: int
    ) -> None:
        given = pixels(stages, rows)
        with torch.no_grad():
            features, logits = stages(torch.from_numpy(given)), stages.logits(torch.from_numpy(given))
        merged = Session(joined(segments), threads=1).run({"pixels": given})
        values = {"recipe:pixels": given}
        for segment in segments:
            feeds = {port: values[wire] for port, wire in segment.inputs.items()}
            for port, value in Session(segment.model, threads=1).run(feeds).items():
                values[f"{segment.name}:{port}"] = value
        scale = max(1.0, float(logits.abs().max()))
        for found in (merged["logits"], values["head:logits"]):
            np.testing.assert_allclose(found, logits, rtol=0, atol=1e-4 * scale)
        np.testing.assert_allclose(
            merged["features"], features, rtol=1e-4, atol=1e-4 * float(features.abs().max())
        )

    def test_merged_is_the_uncut_network(self, stages: Stages, segments: list[Exported]) -> None:
        merged = merge(nodes(segments), {"logits": "head:logits"})
        if stages.names[-2] == "permute":
            # Swin's pooling is lowered by strides where nothing makes its map contiguous, and its
            # windows count the rows of another tensor: other nodes, equal answers.
            given = {"pixels": pixels(stages, 3)}
            one, other = (Session(model, threads=1).run(given)["logits"] for model in (uncut(stages), merged))
            np.testing.assert_array_equal(one, other)
        else:
            assert merged == uncut(stages)

    def test_exporting_all_but_the_first_stage_gives_the_same_bytes(
        self, stages: Stages, segments: list[Exported]
    ) -> None:
        assert export(stages, first=1) == segments[1 : len(stages)]

    def test_ports_and_wires_are_the_contract(self, stages: Stages, segments: list[Exported]) -> None:
        assert [segment.name for segment in segments] == [*stages.names, "head"]
        assert segments[0].inputs == {"pixels": "recipe:pixels"}
        assert segments[-2].outputs == ("features",)
        for segment in segments:
            model = from_bytes(segment.model)
            assert {port.name for port in model.graph.input} == set(segment.inputs)
            assert tuple(port.name for port in model.graph.output) == segment.outputs
            batch = model.graph.input[0].type.tensor_type.shape.dim[0]
            assert batch.dim_param == "batch"
            onnx.checker.check_model(model, full_check=True)

    def test_segments_are_canonical(self, segments: list[Exported]) -> None:
        for segment in segments:
            assert canonical(from_bytes(segment.model)) == segment.model

    def test_weights_digests_are_the_stages(self, stages: Stages, segments: list[Exported]) -> None:
        expected = [stage_weights_digest(stages, k) for k in range(len(stages))]
        assert [segment.weights for segment in segments[:-1]] == expected

    def test_training_mode_changes_nothing_and_is_kept(
        self, stages: Stages, segments: list[Exported]
    ) -> None:
        stages.train()
        stages.stages[0].eval()
        modes = [module.training for module in stages.modules()]
        try:
            assert export(stages, first=len(stages) - 2) == segments[len(stages) - 2 : len(stages)]
            assert [module.training for module in stages.modules()] == modes
        finally:
            stages.eval()

    def test_a_retrained_stage_changes_its_own_segment_only(
        self, stages: Stages, segments: list[Exported]
    ) -> None:
        retrained = copy.deepcopy(stages)
        k = retrained.depths()[0]
        with torch.no_grad():
            for parameter in retrained.stages[k].parameters():
                parameter.add_(0.01)
        changed = [a.model != b.model for a, b in zip(segments, export(retrained), strict=False)]
        assert changed == [index == k for index in range(len(stages))]

    def test_another_head_leaves_the_trunk_alone(self, stages: Stages, segments: list[Exported]) -> None:
        head = export_head(stages, nn.Linear(stages.features_dim, 3))
        assert head.inputs == {"features": f"{stages.names[-1]}:features"}
        logits = Session(joined([*segments[:-1], head]), threads=1).run({"pixels": pixels(stages, 2)})[
            "logits"
        ]
        assert logits.shape == (2, 3)


def test_channels_that_are_shuffled_merge_to_the_uncut_network_too() -> None:
    stages = torchvision("shufflenet_v2_x0_5")
    segments = [*export(stages), export_head(stages, own_head(stages))]
    assert merge(nodes(segments), {"logits": "head:logits"}) == uncut(stages)


def test_another_process_writes_the_same_bytes() -> None:
    """With another hash seed and thread count, from the same random weights."""
    script = (
        "from tests.adapters.test_export import digests, torchvision\n"
        "print(*digests(torchvision('squeezenet1_1')))"
    )
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"},
    )
    assert answer.stdout.splitlines()[-1].split() == digests(torchvision("squeezenet1_1"))


def digests(stages: Stages) -> list[str]:
    exported = [*export(stages), export_head(stages, own_head(stages), after=stages.head_after)]
    return [segment.digest for segment in exported]


def test_the_batch_that_is_traced_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = vision_transformer()
    before = export(stages)
    monkeypatch.setattr("adapters.sources.stages.EXAMPLE_ROWS", 4)
    assert export(stages) == before


def test_there_has_to_be_a_stage_to_export() -> None:
    stages = vision_transformer()
    with pytest.raises(InvalidSegment, match="the stages 0 to 3, got 4"):
        export(stages, first=4)


class TestTexts:
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls) -> Stages:
        return TinyTextSource().load()

    @pytest.fixture(scope="class")
    @classmethod
    def exported(cls, network: Stages) -> list[Exported]:
        return export(network)

    def fields(self, rows: int, length: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(length)
        ids = torch.randint(4, 17, (rows, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, length // 2 + 1 :] = 0
        return {"input_ids": ids * mask, "attention_mask": mask}

    def test_sides_are_ports_wired_to_the_recipe(self, exported: list[Exported]) -> None:
        mask = {"attention_mask": "recipe:attention_mask"}
        assert [segment.inputs for segment in exported] == [
            {"input_ids": "recipe:input_ids"},
            {"h": "embeddings:h_out"},
            {"h": "low:h_out"} | mask,
            {"h": "high:h_out"} | mask,
        ]
        assert [segment.outputs for segment in exported] == [("h_out",)] * 3 + [("features",)]
        for segment in exported:
            model = from_bytes(segment.model)
            assert {port.name for port in model.graph.input} == set(segment.inputs)
            onnx.checker.check_model(model, full_check=True)

    def test_lengths_vary_at_every_port_of_tokens(self, exported: list[Exported]) -> None:
        for segment in exported:
            for port in from_bytes(segment.model).graph.input:
                names = [each.dim_param for each in port.type.tensor_type.shape.dim]
                assert names[:2] == ["batch", "seq"]

    @pytest.mark.parametrize("first", [1, 2, 3])
    def test_segments_do_not_depend_on_where_an_export_begins(
        self, network: Stages, exported: list[Exported], first: int
    ) -> None:
        assert export(network, first=first) == exported[first:]

    @pytest.mark.parametrize(("rows", "length"), [(1, 2), (3, 16), (2, 32)])
    def test_merged_answers_as_torch_does_at_any_length(
        self, network: Stages, exported: list[Exported], rows: int, length: int
    ) -> None:
        fields = self.fields(rows, length)
        merged = Session(merge(nodes(exported), {"features": "pool:features"}), threads=1)
        with torch.no_grad():
            expected = network(fields).numpy()
        found = merged.run({name: value.numpy() for name, value in fields.items()})["features"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("taps", [[2], [1, 3], [2, 4], [4]])
    def test_a_readout_averages_the_tokens_that_count(
        self, network: Stages, exported: list[Exported], taps: list[int]
    ) -> None:
        tail = export_readout(network, taps)
        masked = {"attention_mask": "recipe:attention_mask"} if taps != [4] else {}
        wires = {
            f"h{at}": f"{network.names[boundary - 1]}:{'features' if boundary == 4 else 'h_out'}"
            for at, boundary in enumerate(taps)
        }
        assert tail.inputs == wires | masked and tail.outputs == ("features",)
        merged = Session(
            merge(nodes([*exported[: taps[-1]], tail]), {"features": "readout:features"}), threads=1
        )
        module = readout(network, taps)
        for rows, length in ((1, 5), (3, 16)):
            fields = self.fields(rows, length)
            with torch.no_grad():
                carried = [network.run(fields["input_ids"], stop=boundary, sides=fields) for boundary in taps]
                expected = module(*carried, *([fields["attention_mask"]] if masked else [])).numpy()
            given = {name: value.numpy() for name, value in fields.items()}
            found = merged.run({port: given[port] for port in given if port == "input_ids" or taps != [1]})
            assert found["features"].shape == (rows, DIMENSION * len(taps))
            np.testing.assert_allclose(found["features"], expected, rtol=0, atol=1e-5)

    def test_a_readout_does_not_depend_on_what_is_below(self, network: Stages) -> None:
        other = TinyTextSource().load(seed=3)
        assert export_readout(network, [1, 2]) == export_readout(other, [1, 2])


def test_a_readout_averages_maps() -> None:
    stages = torchvision("resnet18")
    first, *_ = layered = export(stages)
    tail = export_readout(stages, [1])
    given = pixels(stages, 2)
    with torch.no_grad():
        expected = stages.run(torch.from_numpy(given), stop=1).mean((2, 3)).numpy()
    merged = Session(merge(nodes([first, tail]), {"features": "readout:features"}), threads=1)
    np.testing.assert_allclose(merged.run({"pixels": given})["features"], expected, rtol=0, atol=1e-4)
    assert len(layered) == len(stages)


class TestLinearHead:
    def test_is_one_gemm(self) -> None:
        weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        bias = np.arange(3, dtype=np.float32)
        features = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
        model = linear_head(weight, bias)
        assert [node.op_type for node in from_bytes(model).graph.node] == ["Gemm"]
        (logits,) = Session(model, threads=1).run({"features": features}).values()
        np.testing.assert_allclose(logits, features @ weight.T + bias, rtol=1e-6, atol=1e-6)

    def test_equals_what_the_exporter_writes(self) -> None:
        torch.manual_seed(0)
        head = nn.Linear(4, 3)
        exported = canonical(to_onnx(head, [torch.rand(2, 4)], ["features"], ["logits"]))
        assert linear_head(head.weight.detach().numpy(), head.bias.detach().numpy()) == exported

    @pytest.mark.parametrize(
        ("weight", "bias"),
        [
            (np.zeros((3, 4), np.float32), np.zeros(4, np.float32)),
            (np.zeros(3, np.float32), np.zeros(3, np.float32)),
            (np.zeros((3, 4)), np.zeros(3)),
        ],
    )
    def test_refuses_arrays_that_do_not_fit(self, weight: np.ndarray, bias: np.ndarray) -> None:
        with pytest.raises(InvalidSegment, match="float32"):
            linear_head(weight, bias)


class TestCutting:
    def test_refuses_data_that_passes_around_a_tap(self) -> None:
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4])
            for name in ("x", "middle", "end")
        ]
        graph = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["middle"]), helper.make_node("Add", ["middle", "x"], ["end"])],
            "skip",
            ports[:1],
            ports[1:],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        with pytest.raises(InvalidSegment, match="'x' passes around a cut"):
            list(cut(model, ["middle", "end"], "h", ["h_out", "features"]))

    def test_takes_earlier_shapes_from_the_carried_tensor(self) -> None:
        ports = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("middle", TensorProto.FLOAT, [2, "n"]),
            helper.make_tensor_value_info("end", TensorProto.FLOAT, ["n", 2]),
        ]
        weight = helper.make_tensor("weight", TensorProto.FLOAT, [2, 4], [float(n) for n in range(8)])
        graph = helper.make_graph(
            [
                helper.make_node("Gemm", ["weight", "x"], ["middle"], transB=1),
                helper.make_node("Shape", ["x"], ["shape"], start=0, end=1),
                helper.make_node("Concat", ["shape", "two"], ["size"], axis=0),
                helper.make_node("Reshape", ["middle", "size"], ["end"]),
            ],
            "look back",
            ports[:1],
            ports[1:],
            [weight, helper.make_tensor("two", TensorProto.INT64, [1], [2])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        _, upper = cut(model, ["middle", "end"], "h", ["h_out", "features"])
        (shape,) = [node for node in from_bytes(upper).graph.node if node.op_type == "Shape"]
        assert list(shape.input) == ["h"]
        assert [(a.name, a.i) for a in shape.attribute] == [("end", 2), ("start", 1)]

    def test_a_first_segment_takes_no_side_for_its_shape_alone(self) -> None:
        ports = [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "s"]),
            helper.make_tensor_value_info("mask", TensorProto.INT64, ["n", "s"]),
            helper.make_tensor_value_info("middle", TensorProto.FLOAT, ["n", "s"]),
            helper.make_tensor_value_info("end", TensorProto.FLOAT, ["n", "s"]),
        ]
        graph = helper.make_graph(
            [
                helper.make_node("Shape", ["mask"], ["shape"]),
                helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
                helper.make_node("Cast", ["ids"], ["values"], to=TensorProto.FLOAT),
                helper.make_node("Add", ["values", "zeros"], ["middle"]),
                helper.make_node("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
                helper.make_node("Mul", ["middle", "weights"], ["end"]),
            ],
            "a text's length",
            ports[:2],
            ports[2:],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
        lower, upper = map(from_bytes, cut(model, ["middle", "end"], "h", ["h_out", "features"], ["mask"]))
        assert [port.name for port in lower.graph.input] == ["ids"]
        assert {port.name for port in upper.graph.input} == {"h", "mask"}
