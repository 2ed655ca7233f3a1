"""Recipes: the only implementation of preprocessing."""

import json

from registry.errors import InvalidRecipe
from registry.recipe.image import ImageRecipe
from registry.recipe.recipe import Recipe

__all__ = ["ImageRecipe", "Recipe", "parse"]

_BY_MODALITY: dict[str, type[ImageRecipe]] = {ImageRecipe.modality: ImageRecipe}


def parse(data: bytes) -> Recipe:
    """Read a recipe from its stored bytes.

    Raises:
        InvalidRecipe: the bytes are not a recipe of a known modality.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InvalidRecipe(f"a recipe is JSON: {error}") from error
    modality = value.get("modality") if isinstance(value, dict) else None
    if modality not in _BY_MODALITY:
        raise InvalidRecipe(f"a recipe's modality is one of {', '.join(_BY_MODALITY)}, got {modality!r:.100}")
    return _BY_MODALITY[modality].from_json(value)
