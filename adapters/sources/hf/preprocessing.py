"""A picture encoder's ``preprocessor_config.json`` as a recipe and a normalisation."""

from collections.abc import Mapping
from math import isclose
from typing import Any

from adapters.sources.hf.folder import Folder
from adapters.sources.normalisation import Normalisation
from registry.errors import UnknownSource
from registry.recipe import ImageRecipe

PREPROCESSOR = "preprocessor_config.json"

_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
"""Pillow's numbers of its filters."""

_WHOLE = 384
"""From this side on, ConvNeXt's pictures are scaled straight to size (transformers, ConvNextImageProcessor)."""


def preprocessing(folder: Folder) -> tuple[ImageRecipe, Normalisation]:
    """Return what is done to pictures before a network takes them.

    Raises:
        UnknownSource: there is no such file, or it asks for what no recipe does.
    """
    given = folder.json(PREPROCESSOR)
    if not given:
        raise UnknownSource(f"expected {PREPROCESSOR} in {folder.path}, it is not there")
    if not given.get("do_rescale", True) or not isclose(
        given.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6
    ):
        raise _refused(folder, "values that are not scaled to 0..1")
    if not given.get("do_resize", True):
        raise _refused(folder, "pictures of any size")
    (height, width), resize = _geometry(folder, given)
    normalised = given.get("do_normalize", True)
    mean, std = (given.get("image_mean"), given.get("image_std")) if normalised else ([0.0] * 3, [1.0] * 3)
    if not isinstance(mean, list) or not isinstance(std, list) or len(mean) != 3 or len(std) != 3:
        raise _refused(folder, f"image_mean {mean} and image_std {std}")
    resample = given.get("resample", 2)
    if resample not in _FILTERS:
        raise _refused(folder, f"the filter {resample}")
    return ImageRecipe(height, width, resize, _FILTERS[resample]), Normalisation.of(mean, std)


def _geometry(folder: Folder, given: Mapping[str, Any]) -> tuple[tuple[int, int], int | None]:
    """Return (height, width), and the length of the shorter side before the crop, None without one."""
    size = given.get("size")
    short = size.get("shortest_edge") if isinstance(size, dict) else None
    if "ConvNext" in str(given.get("image_processor_type") or given.get("feature_extractor_type")):
        side = short or size
        if not isinstance(side, int):
            raise _refused(folder, f"the size {size}")
        return (side, side), int(side / given.get("crop_pct", 224 / 256)) if side < _WHOLE else None
    cropped = _sides(given.get("crop_size")) if given.get("do_center_crop") else None
    if short and cropped:
        return cropped, int(short)
    whole = _sides(size)
    if whole and cropped in (None, whole):
        return whole, None
    raise _refused(folder, f"the size {size} and a crop of {cropped}")


def _sides(value: object) -> tuple[int, int] | None:
    match value:
        case int(side):
            return side, side
        case {"height": int(height), "width": int(width)}:
            return height, width
    return None


def _refused(folder: Folder, what: str) -> UnknownSource:
    return UnknownSource(
        f"{folder.name} asks for {what} in {PREPROCESSOR}, which no recipe does; choose another model"
    )
