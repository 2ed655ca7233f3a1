"""Source verification: a source whose outputs differ from its provider's own code is rejected.

Two things are compared. First the preprocessing: the provider's code and the source's recipe prepare 16
probes. Token ids must be equal, and pixels too if the provider scales with Pillow (within one grey level if
it scales tensors). Second the network: the provider's prepared inputs pass through the provider's network and
through the source's stages. Features and logits may differ by 1e-4 of their scale.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from adapters.sources.probes import Probe, probes_for
from adapters.sources.reference import Reference
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from registry.errors import CultivarError, SourceDiffers
from registry.manifest import FEATURES, LOGITS, SourceVerification
from registry.progress import SILENT, Progress, ProgressStep
from registry.quoting import shortened
from registry.recipe import Prepared, TextRecipe

RELATIVE_TOLERANCE = 1e-4
"""Allowed difference as a share of an output's largest value over all probes."""

MOST_OPERATIONS = 4e11
"""Floating-point operations of all probes in one network: under 30 s at 15 GFLOP/s, what one busy core was measured
to do, and the provider's network as much again. Counted, not timed, so that every machine compares the same probes."""

MOST_TOKENS = 1024
"""Longer rows are compared as tokens alone: attention over 8192 tokens takes gigabytes."""

_LEVEL_ERROR = 0.01
"""Grey levels by which undoing a normalisation in float32 may miss a whole one."""

TOKENS = "tokens"
PIXELS = "pixels"

_Row = Mapping[str, np.ndarray]


def verify(source: Source, reference: Reference, progress: Progress = SILENT) -> SourceVerification:
    """Compare a source with its provider's own code.

    Args:
        source: the source, with its weights on this machine.
        reference: the same, as its provider runs it.
        progress: shows the progress.

    Raises:
        SourceDiffers: something differs by more than is allowed, or the provider's code fails on a probe;
            the message names the probe and what differs.
        SourceUnavailable: the weights are not on this machine.
    """
    probes = probes_for(source.recipe)
    with progress.step(f"verifying {source.spec}", 3 * len(probes)) as step:
        rows, difference = _prepared(source, reference, probes, step)
        tried, found = _through_stages(source, probes, rows, step)
        with _told(source, "running its network"):
            wanted = reference.run([probes[number].given for number in tried])
        step.advance(len(probes))
    names = (FEATURES, LOGITS) if source.labels else (FEATURES,)
    kind = TOKENS if source.modality == "text" else PIXELS
    differences, tolerances = {kind: difference}, {kind: float(reference.levels)}
    for name in names:
        chosen = [probes[number] for number in tried]
        differences[name], tolerances[name] = _compared(source, name, wanted, found[name], chosen)
    return SourceVerification(dict(reference.libraries), len(probes), len(tried), differences, tolerances)


def _prepared(
    source: Source, reference: Reference, probes: Sequence[Probe], step: ProgressStep
) -> tuple[list[Prepared], float]:
    """Prepare every probe in both ways; return the provider's rows as the stages take them, and the difference."""
    compare: Callable[[Source, Reference, Probe, _Row], tuple[Prepared, float]] = (
        _tokens if isinstance(source.recipe, TextRecipe) else _pixels
    )
    rows, largest = [], 0.0
    for probe in probes:
        with _told(source, f"preparing {probe.name!r}"):
            theirs = reference.prepare(probe.given)
        row, difference = compare(source, reference, probe, theirs)
        rows.append(row)
        largest = max(largest, difference)
        step.advance()
    return rows, largest


def _tokens(source: Source, _: Reference, probe: Probe, theirs: _Row) -> tuple[Prepared, float]:
    """Compare a text's tokens, which have to be equal."""
    ours = source.recipe.prepare(probe.raw)
    # A text without any token is one padding token to a recipe.
    counts = ours["attention_mask"] > 0
    nothing = np.zeros(len(theirs["input_ids"]), np.int64)
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        mine = ours.get(name, np.zeros_like(ours["input_ids"]))[counts]
        other = theirs.get(name, nothing)
        if not np.array_equal(mine, other):
            raise SourceDiffers(
                f"{source.spec}: {name} of the probe {probe.name!r} differ from its provider's: "
                f"{_first_difference(mine, other)}; a recipe cannot do what its tokenizer does, choose another model"
            )
    row = {name: theirs.get(name, nothing) for name in ours}
    return (row if len(nothing) else ours), 0.0


def _first_difference(mine: np.ndarray, other: np.ndarray) -> str:
    same = len(mine) == len(other)
    lengths = "" if same else f"{len(mine)} tokens where {len(other)} are expected, and "
    both = min(len(mine), len(other))
    places = np.flatnonzero(mine[:both] != other[:both])
    place = int(places[0]) if len(places) else both
    at = [str(int(each[place])) if place < len(each) else "nothing" for each in (mine, other)]
    return f"{lengths}token {place + 1} is {at[0]} where {at[1]} is expected"


def _pixels(source: Source, reference: Reference, probe: Probe, theirs: _Row) -> tuple[Prepared, float]:
    """Compare a picture's grey levels, which have to be equal, or nearly where tensors are scaled."""
    assert source.normalisation is not None, "a picture's source has one"
    ours = source.recipe.prepare(probe.raw)[PIXELS]
    tensor = theirs[PIXELS]
    if tensor.shape != (ours.shape[2], *ours.shape[:2]):
        raise SourceDiffers(
            f"{source.spec}: its provider prepares the probe {probe.name!r} as {list(tensor.shape)}, the recipe as "
            f"{[ours.shape[2], *ours.shape[:2]]} (channels, rows, columns); choose another model"
        )
    mean, std = np.array(source.normalisation.mean), np.array(source.normalisation.std)
    levels = 255 * (tensor.transpose(1, 2, 0).astype(np.float64) * std + mean)
    whole = np.rint(levels)
    difference = float(np.abs(levels - ours).max())
    between = float(np.abs(levels - whole).max())
    if difference > reference.levels + _LEVEL_ERROR or between > _LEVEL_ERROR:
        what = (
            f"by {difference:.3g} of 255 grey levels, allowed is {reference.levels}"
            if difference > reference.levels + _LEVEL_ERROR
            else f"in lying {between:.3g} off a whole grey level"
        )
        raise SourceDiffers(
            f"{source.spec}: pixels of the probe {probe.name!r} differ from its provider's {what}; "
            "a recipe cannot do what its preprocessing does, choose another model"
        )
    return {PIXELS: whole.astype(np.uint8)}, round(difference)


def _through_stages(
    source: Source, probes: Sequence[Probe], rows: Sequence[Prepared], step: ProgressStep
) -> tuple[list[int], dict[str, np.ndarray]]:
    """Run what the provider prepared through the source's stages, as much of it as is allowed.

    Returns:
        Which probes were run, in the order of ``found``; and ``features`` and ``logits`` of them.
    """
    fit = [number for number in range(len(rows)) if _size(rows[number]) <= MOST_TOKENS or not _is_text(rows)]
    longest = max(fit, key=lambda number: _size(rows[number]))
    order = [longest, *(number for number in fit if number != longest)]
    # Counting operations fails on a parameter that a module takes as its input, unless it learns nothing.
    stages = source.load().requires_grad_(False)
    found: dict[str, list[np.ndarray]] = {}
    tried: list[int] = []
    spent = whole = 0.0
    for number in order:
        cost = whole * _size(rows[number]) / _size(rows[longest])
        if spent + cost > MOST_OPERATIONS and tried:
            continue
        with FlopCounterMode(display=False) as counter, _told(source, f"running {probes[number].name!r}"):
            answer = _outputs_of(source, stages, rows[number])
        whole = whole or float(counter.get_total_flops())
        spent += cost or whole
        tried.append(number)
        for name, values in answer.items():
            found.setdefault(name, []).append(values)
        step.advance(len(rows) / len(order))
    return tried, {name: np.concatenate(values) for name, values in found.items()}


def _is_text(rows: Sequence[Prepared]) -> bool:
    return PIXELS not in rows[0]


def _size(row: Prepared) -> int:
    """Return what a row costs by: its tokens; pictures all cost the same."""
    return len(row["input_ids"]) if "input_ids" in row else 1


def _outputs_of(source: Source, stages: Stages, row: Prepared) -> dict[str, np.ndarray]:
    """Return what the stages make of one row, padded as it is when served."""
    fields: dict[str, Tensor] = {
        name: torch.from_numpy(values) for name, values in source.recipe.collate([row]).items()
    }
    with torch.no_grad():
        answer = {FEATURES: stages(fields).numpy()}
        return answer | {LOGITS: stages.logits(fields).numpy()} if source.labels else answer


def _compared(
    source: Source, name: str, wanted: Mapping[str, np.ndarray], found: np.ndarray, probes: Sequence[Probe]
) -> tuple[float, float]:
    """Return the largest difference and the tolerance of an output."""
    expected = wanted[name]
    if expected.shape != found.shape:
        raise SourceDiffers(
            f"{source.spec}: its provider gives {name} of {list(expected.shape)}, the stages of {list(found.shape)}; "
            "choose another model"
        )
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise SourceDiffers(
            f"{source.spec}: {name} are not finite; fetch its weights again, or choose another"
        )
    tolerance = RELATIVE_TOLERANCE * float(np.abs(expected).max(initial=0.0))
    differences = np.abs(expected.astype(np.float64) - found).max(axis=1)
    worst = int(differences.argmax())
    if differences[worst] > tolerance:
        raise SourceDiffers(
            f"{source.spec}: {name} of the probe {probes[worst].name!r} differ from its provider's by "
            f"{differences[worst]:.3g}, allowed is {tolerance:.3g}; its network is not the one that is expected, "
            "choose another model"
        )
    return float(differences[worst]), tolerance


@contextmanager
def _told(source: Source, what: str) -> Iterator[None]:
    """Turn any exception of a provider's code into an error that names the failed operation."""
    try:
        yield
    except CultivarError:
        raise
    except Exception as error:
        reason = shortened(f"{type(error).__name__}: {error}")
        raise SourceDiffers(
            f"{source.spec} cannot be verified: {what} fails with {reason}; choose another model"
        ) from error
