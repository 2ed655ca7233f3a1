"""The proof that an exported version's outputs equal the torch model's.

The version is opened in ONNX Runtime as on a server. Raw inputs pass through its own recipe in batches of
several sizes. Features and raw logits are compared with torch's.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from registry.errors import ParityError
from registry.manifest import LOGITS, Parity
from registry.program import Program
from registry.progress import SILENT, Progress
from registry.recipe import Prepared, Raw, Recipe

MIN_INPUTS = 256
BATCHES = (1, 2, 3, 17)
RELATIVE_TOLERANCE = 1e-4
"""Allowed difference, as a share of an output's largest value if that is over 1."""

Reference = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
"""The torch model: maps the recipe's fields of a batch to ``features`` and, with a head, ``logits``."""


@dataclass(frozen=True, slots=True)
class Probes:
    """Raw inputs for the comparison, and their origins.

    Attributes:
        items: at least 256 raw inputs.
        counts: the numbers of ``test``, ``train`` and ``synthetic`` inputs, in that order.
    """

    items: tuple[Raw, ...]
    counts: Mapping[str, int]


def choose_probes(parts: Mapping[str, Sequence[Raw]], modality: str, seed: int) -> Probes:
    """Take 256 probes: first test examples, then training examples, then seeded synthetic ones.

    Args:
        parts: raw inputs by split, in order of preference.
        modality: modality of the synthetic inputs.
        seed: seed of the synthetic inputs.
    """
    items: list[Raw] = []
    counts: dict[str, int] = {}
    for part, available in parts.items():
        taken = list(available)[: MIN_INPUTS - len(items)]
        items += taken
        counts[part] = len(taken)
    missing = MIN_INPUTS - len(items)
    counts["synthetic"] = missing
    items += _SYNTHETIC[modality](missing, seed)
    return Probes(tuple(items), counts)


def prove(
    program: Program, recipe: Recipe, reference: Reference, probes: Probes, progress: Progress = SILENT
) -> Parity:
    """Compare a version with its torch model.

    Args:
        program: the version, opened from the stored bytes.
        recipe: the version's recipe.
        reference: the torch model.
        probes: the inputs to compare.
        progress: shows the progress.

    Raises:
        ParityError: an output differs by more than 1e-4 times the larger of 1 and its scale, or is not
            finite; or a top label differs although torch's two best are further apart than twice that
            tolerance.
    """
    rows = [recipe.prepare(item) for item in probes.items]
    expected, got = [], []
    # Batches contain texts of similar lengths, so that batches of several lengths are run.
    rows.sort(key=_length)
    with progress.step("parity", len(rows)) as step:
        for batch in _batches(rows):
            fields = recipe.collate(batch)
            expected.append(reference(fields))
            got.append(program.run(fields))
            step.advance(len(batch))
    differences, tolerances = {}, {}
    for name in program.outputs:
        wanted = np.concatenate([answer[name] for answer in expected])
        answered = np.concatenate([answer[name] for answer in got])
        differences[name], tolerances[name] = _compare(name, wanted, answered)
    agreement = None
    if LOGITS in program.outputs:
        wanted = np.concatenate([answer[LOGITS] for answer in expected])
        answered = np.concatenate([answer[LOGITS] for answer in got])
        agreement = _top1_agreement(wanted, answered, tolerances[LOGITS])
    return Parity(differences, tolerances, agreement, probes.counts, BATCHES)


def _length(row: Prepared) -> int:
    return len(next(iter(row.values())))


def _batches(rows: Sequence[Prepared]) -> Iterator[Sequence[Prepared]]:
    """Split rows into batches of 1, 2, 3 and 17, cyclically."""
    start = turn = 0
    while start < len(rows):
        size = BATCHES[turn % len(BATCHES)]
        yield rows[start : start + size]
        start += size
        turn += 1


def _compare(name: str, wanted: np.ndarray, answered: np.ndarray) -> tuple[float, float]:
    if wanted.shape != answered.shape:
        raise ParityError(f"{name}: torch returns {wanted.shape}, the exported version {answered.shape}")
    if not (np.isfinite(wanted).all() and np.isfinite(answered).all()):
        raise ParityError(f"{name}: expected finite numbers; torch or the exported version returns others")
    tolerance = RELATIVE_TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0.0)))
    difference = float(np.abs(wanted - answered).max(initial=0.0))
    if difference > tolerance:
        raise ParityError(
            f"{name}: the exported version differs from torch by {difference:.3g}, allowed is {tolerance:.3g}; "
            "the version was not registered"
        )
    return difference, tolerance


def _top1_agreement(wanted: np.ndarray, answered: np.ndarray, tolerance: float) -> float:
    """Return the share of equal top labels where torch's two best are clearly apart; raise if it is below 1."""
    if wanted.shape[1] == 1:
        return 1.0
    two_best = np.partition(wanted, -2, axis=1)[:, -2:]
    clear = (two_best[:, 1] - two_best[:, 0]) > 2 * tolerance
    equal = wanted.argmax(axis=1)[clear] == answered.argmax(axis=1)[clear]
    if not equal.all():
        raise ParityError(
            f"the exported version predicts another label for {int((~equal).sum())} of {len(equal)} inputs; "
            "the version was not registered"
        )
    return 1.0


def _synthetic_pictures(count: int, seed: int) -> list[Raw]:
    """Generate pictures between noise and smooth gradients, as PNG files."""
    random = np.random.default_rng(seed)
    pictures: list[Raw] = []
    for _ in range(count):
        cells = int(random.integers(2, 33))
        image = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        image.resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "PNG", compress_level=1)
        pictures.append(buffer.getvalue())
    return pictures


def _synthetic_texts(count: int, seed: int) -> list[Raw]:
    """Generate texts of one to a few hundred words, from random letters and common words."""
    random = np.random.default_rng(seed)
    return [_synthetic_text(random) for _ in range(count)]


def _synthetic_text(random: np.random.Generator) -> str:
    words = np.exp(random.uniform(0, np.log(_MOST_WORDS)))
    return " ".join(
        _WORDS[random.integers(len(_WORDS))]
        if random.random() < 0.7
        else "".join(map(chr, random.integers(ord("a"), ord("z") + 1, random.integers(1, 12))))
        for _ in range(int(np.ceil(words)))
    )


_MOST_WORDS = 300
_WORDS = (
    "the",
    "of",
    "a",
    "and",
    "to",
    "in",
    "is",
    "it",
    "not",
    "was",
    "for",
    "on",
    "as",
    "with",
    "by",
    "at",
)
_SYNTHETIC: Mapping[str, Callable[[int, int], list[Raw]]] = {
    "image": _synthetic_pictures,
    "text": _synthetic_texts,
}
