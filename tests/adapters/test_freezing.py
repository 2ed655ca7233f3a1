"""The freeze proof sees every parameter and every buffer."""

import pytest
import torch

from adapters.freezing import FreezeProof, frozen
from registry.errors import FrozenPartMoved
from tests.adapters.tiny import SIDE, TinySource


def _pixels(count: int = 6) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, SIDE, SIDE, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_the_proof_holds_when_nothing_moves() -> None:
    stages = TinySource().load()
    with frozen(stages, 2) as split:
        split.lower(_pixels())
    assert FreezeProof.of(stages, 2) == FreezeProof.of(TinySource().load(), 2)


def test_train_on_the_whole_and_on_the_frozen_part_changes_nothing() -> None:
    stages = TinySource().load()
    with frozen(stages, 2) as split:
        stages.train()
        split.lower.train()
        torch.nn.Sequential(split.lower, split.upper).train()
        assert not any(module.training for module in split.lower.modules())
        split.lower(_pixels())


def test_batch_norm_statistics_that_drift_are_caught_and_named() -> None:
    stages = TinySource().load()
    with (
        pytest.raises(
            FrozenPartMoved, match=r"low: 1\.1\.running_mean.*running_var.*num_batches_tracked changed"
        ),
        frozen(stages, 2),
    ):
        for module in stages.stages[0].modules():
            module.train()
        stages.run(_pixels(), stop=1)


def test_a_parameter_that_was_written_to_is_caught() -> None:
    stages = TinySource().load()
    with pytest.raises(FrozenPartMoved, match=r"high: 0\.0\.bias"), frozen(stages, 2), torch.no_grad():
        next(m for m in stages.stages[1].modules() if isinstance(m, torch.nn.Conv2d)).bias[0] += 1e-6  # type: ignore[index]  # it has one


def test_a_buffer_that_no_state_dict_holds_is_part_of_the_proof() -> None:
    stages = TinySource().load()
    with pytest.raises(FrozenPartMoved, match=r"low: 0\.shift"), frozen(stages, 1):
        stages.stages[0].get_submodule("0").shift.add_(1e-3)  # type: ignore[operator]  # a tensor


def test_a_tensor_that_came_or_went_is_caught() -> None:
    stages = TinySource().load()
    with pytest.raises(FrozenPartMoved, match="low: extra"), frozen(stages, 1):
        stages.stages[0].register_buffer("extra", torch.zeros(1))


def test_the_stages_above_may_move() -> None:
    stages = TinySource().load()
    with frozen(stages, 1) as split:
        split.upper(split.lower(_pixels())).sum().backward()
        assert all(parameter.grad is None for parameter in split.lower.parameters())
        with torch.no_grad():
            for parameter in split.upper.parameters():
                parameter.add_(1)
    assert not any(module.training for module in stages.modules())


def test_an_error_inside_is_not_hidden_by_the_proof() -> None:
    stages = TinySource().load()
    with pytest.raises(KeyboardInterrupt), frozen(stages, 1):
        stages.stages[0].register_buffer("extra", torch.zeros(1))
        raise KeyboardInterrupt
    assert not any(module.training for module in stages.modules())
