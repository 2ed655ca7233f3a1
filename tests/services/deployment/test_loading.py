"""A version runs before it answers: in every shape that is warmed up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from registry.errors import InvalidManifest, RuntimeFailure
from registry.registry import Registry
from registry.segments import canonical
from registry.settings import Settings
from services.deployment.loading import open_alone
from tests.builders import DIMENSION, Tiny, publish, table, text_recipe, tiny, tiny_text, with_segment


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(Settings.read(tmp_path, actor="tests"))


def of_eight_tokens() -> bytes:
    """A table of words whose exporter took the length of its example, 8, for a constant."""
    model = onnx.load_from_string(table())
    (gather,) = model.graph.node
    shape = numpy_helper.from_array(np.array([-1, 8, DIMENSION]), "shape")
    final, gather.output[0] = gather.output[0], "looked_up"
    model.graph.node.append(helper.make_node("Reshape", ["looked_up", "shape"], [final]))
    model.graph.initializer.append(shape)
    return canonical(model)


@pytest.mark.parametrize(
    "version", [tiny(), tiny_text(), tiny_text(labels=None)], ids=["picture", "text", "headless"]
)
def test_a_whole_version_opens(registry: Registry, version: Tiny) -> None:
    loaded = open_alone(registry, publish(registry, version))
    assert loaded.recipe.modality == version.manifest.modality
    assert (loaded.head is None) == (not version.manifest.heads)


def test_a_text_version_that_knows_one_length_only_does_not_open(registry: Registry) -> None:
    version = publish(registry, with_segment(tiny_text(), "embedding", of_eight_tokens()))
    with pytest.raises(RuntimeFailure):
        open_alone(registry, version)


def test_inputs_that_the_recipe_does_not_give_are_refused(registry: Registry) -> None:
    whole = tiny_text()
    recipe = replace(text_recipe(), token_types=True)
    manifest = replace(whole.manifest, recipe=recipe.digest)
    version = publish(registry, Tiny(manifest, (*whole.blobs, ("recipe", recipe.to_bytes()))))
    with pytest.raises(InvalidManifest, match="fields of its recipe"):
        open_alone(registry, version)
