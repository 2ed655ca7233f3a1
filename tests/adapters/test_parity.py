"""What counts as equal, and what does not."""

from collections.abc import Mapping

import numpy as np
import pytest

from adapters.parity import BATCHES, MIN_INPUTS, Reference, choose_probes, prove
from registry.digests import Digest
from registry.errors import ParityError
from registry.manifest import FEATURES, LOGITS
from registry.program import Program
from registry.recipe import Recipe, parse
from tests.builders import Tiny, picture, tiny


@pytest.fixture(scope="module")
def version() -> Tiny:
    return tiny("letters/digits")


@pytest.fixture(scope="module")
def program(version: Tiny) -> Program:
    stored = {Digest.of(data): data for _, data in version.blobs}
    return Program(version.manifest, stored.__getitem__)


def recipe_of(version: Tiny) -> Recipe:
    return parse(next(data for kind, data in version.blobs if kind == "recipe"))


def shifted(program: Program, output: str, by: float) -> Reference:
    """A stand-in for torch: the program itself, one output moved."""

    def reference(fields: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        answer = program.run(fields)
        return answer | {output: (answer[output] + np.float32(by)).astype(np.float32)}

    return reference


def test_held_out_items_come_first_then_training_then_made_up_ones() -> None:
    parts = {"test": [b"t"] * 100, "train": [b"r"] * 120}
    probes = choose_probes(parts, "image", seed=1)
    assert probes.counts == {"test": 100, "train": 120, "synthetic": 36}
    assert len(probes.items) == MIN_INPUTS
    assert choose_probes(parts, "image", seed=1) == probes


def test_no_more_than_256_are_taken() -> None:
    probes = choose_probes({"test": [b"t"] * 300, "train": [b"r"]}, "image", seed=1)
    assert probes.counts == {"test": 256, "train": 0, "synthetic": 0}


def test_equal_answers_are_proved_over_every_batch_size(version: Tiny, program: Program) -> None:
    sizes = set()

    def reference(fields: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        sizes.add(len(fields["pixels"]))
        return program.run(fields)

    probes = choose_probes({"test": [picture(seed) for seed in range(8)]}, "image", seed=1)
    parity = prove(program, recipe_of(version), reference, probes)
    assert set(parity.max_abs_difference) == {FEATURES, LOGITS}
    assert max(parity.max_abs_difference.values()) == 0.0
    assert parity.top1_agreement == 1.0
    assert set(BATCHES) <= sizes


@pytest.mark.parametrize(("by", "holds"), [(0.5e-4, True), (2e-2, False)])
@pytest.mark.parametrize("output", [FEATURES, LOGITS])
def test_a_difference_is_held_against_the_scale(
    version: Tiny, program: Program, output: str, by: float, holds: bool
) -> None:
    probes = choose_probes({}, "image", seed=2)
    reference = shifted(program, output, by)
    if holds:
        parity = prove(program, recipe_of(version), reference, probes)
        assert parity.max_abs_difference[output] == pytest.approx(by, rel=0.1)
    else:
        with pytest.raises(ParityError, match=f"{output}: the exported version differs"):
            prove(program, recipe_of(version), reference, probes)


def test_numbers_that_are_none_are_never_equal(version: Tiny, program: Program) -> None:
    with pytest.raises(ParityError, match="finite"):
        prove(
            program, recipe_of(version), shifted(program, LOGITS, float("nan")), choose_probes({}, "image", 3)
        )
