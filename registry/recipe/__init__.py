"""Recipes: the only implementation of preprocessing."""

import json

from registry.errors import InvalidRecipe
from registry.quoting import quoted
from registry.recipe.image import ImageRecipe
from registry.recipe.recipe import Prepared, Raw, Recipe, content
from registry.recipe.text import TextRecipe

__all__ = ["ImageRecipe", "Prepared", "Raw", "Recipe", "TextRecipe", "content", "parse"]

MAX_RECIPE_BYTES = 64 << 20
"""A tokenizer with a million words has about 30 MB."""

_BY_MODALITY: dict[str, type[ImageRecipe] | type[TextRecipe]] = {
    kind.modality: kind for kind in (ImageRecipe, TextRecipe)
}


def parse(data: bytes) -> Recipe:
    """Parse a recipe's stored bytes.

    Raises:
        InvalidRecipe: the bytes are not a recipe of a known modality, or more than 64 MiB.
    """
    if len(data) > MAX_RECIPE_BYTES:
        raise InvalidRecipe(f"a recipe has at most {MAX_RECIPE_BYTES:,} bytes, got {len(data):,}")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidRecipe(f"a recipe is JSON: {error}") from error
    modality = value.get("modality") if isinstance(value, dict) else None
    if not isinstance(modality, str) or modality not in _BY_MODALITY:
        raise InvalidRecipe(
            f"a recipe's modality is one of {', '.join(_BY_MODALITY)}, got {quoted(modality)}"
        )
    return _BY_MODALITY[modality].from_json(value)
