"""A picture encoder's image processor as a recipe and a normalisation."""

from math import isclose
from typing import Any

from transformers import AutoImageProcessor

from adapters.sources.hf.checkpoint import quiet
from adapters.sources.hf.folder import ModelFolder
from adapters.sources.normalisation import Normalisation
from registry.errors import UnknownSource
from registry.quoting import shortened
from registry.recipe import ImageRecipe
from registry.recipe.image import DOWN, NEAREST

PREPROCESSOR = "preprocessor_config.json"

_AUTO: Any = AutoImageProcessor
"""transformers' own has no types."""

_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
"""Pillow's numbers of its filters."""

_WHOLE = 384
"""From this side on, ConvNeXt's pictures are scaled straight to size (transformers, ConvNextImageProcessor)."""


def preprocessing(folder: ModelFolder) -> tuple[ImageRecipe, Normalisation]:
    """Return what is done to pictures before a network takes them.

    Read from the processor that transformers opens, because what the file leaves out is up to its class.

    Raises:
        UnknownSource: there is no such file, or it asks for what no recipe does.
    """
    if not folder.json(PREPROCESSOR):
        raise UnknownSource(f"expected {PREPROCESSOR} in {folder.path}, it is not there")
    processor = _opened(folder)
    if not processor.do_rescale or not isclose(processor.rescale_factor, 1 / 255, rel_tol=1e-6):
        raise _refused(folder, "values that are not scaled to 0..1")
    if not processor.do_resize:
        raise _refused(folder, "pictures of any size")
    if getattr(processor, "do_pad", None):
        raise _refused(folder, "pictures that are padded")
    (height, width), resize = _geometry(folder, processor)
    mean, std = (
        (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    )
    if not all(isinstance(each, list | tuple) and len(each) == 3 for each in (mean, std)):
        raise _refused(folder, f"image_mean {mean} and image_std {std}")
    resample = None if processor.resample is None else int(processor.resample)
    if resample not in _FILTERS:
        raise _refused(folder, f"the filter {resample}")
    recipe = ImageRecipe(height, width, resize, _FILTERS[resample], crop=NEAREST if resize is None else DOWN)
    return recipe, Normalisation.of(mean, std)


def _opened(folder: ModelFolder) -> Any:
    try:
        with quiet():
            return _AUTO.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    # What a wrong file raises is up to transformers.
    except Exception as error:
        raise UnknownSource(
            f"expected {PREPROCESSOR} in {folder.path} to be one that transformers can open: {shortened(error)}"
        ) from error


def _geometry(folder: ModelFolder, processor: Any) -> tuple[tuple[int, int], int | None]:
    """Return (height, width), and the length of the shorter side before the crop, None without one."""
    size = _given(processor.size)
    crop = _given(processor.crop_size) if processor.do_center_crop else {}
    if hasattr(processor, "crop_pct") and set(size) == {"shortest_edge"} and not crop:
        side = size["shortest_edge"]
        return (side, side), int(side / processor.crop_pct) if side < _WHOLE else None
    cropped = (crop["height"], crop["width"]) if set(crop) == {"height", "width"} else None
    if set(size) == {"shortest_edge"} and cropped:
        return cropped, size["shortest_edge"]
    if set(size) == {"height", "width"}:
        whole = size["height"], size["width"]
        if not crop or cropped == whole:
            return whole, None
    raise _refused(folder, f"the size {size} and a crop of {crop or None}")


def _given(size: Any) -> dict[str, int]:
    """Return the values of a size that are set."""
    return {name: int(value) for name, value in dict(size or {}).items() if value is not None}


def _refused(folder: ModelFolder, what: str) -> UnknownSource:
    return UnknownSource(
        f"{folder.name} asks for {what} in {PREPROCESSOR}, which no recipe does; choose another model"
    )
