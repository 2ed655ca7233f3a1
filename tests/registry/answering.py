"""Tiny versions with predictions that can be read."""

from dataclasses import replace

import numpy as np

from registry.digests import Digest
from registry.manifest import Split
from registry.predictions import Predictions
from tests.builders import LABELS, Tiny

ITEMS = tuple(Digest.of(f"item {number}".encode()) for number in range(40))
TRUTH = np.arange(len(ITEMS)) % len(LABELS)


def answers(seed: int, items: tuple[Digest, ...] = ITEMS, sureness: float = 1.0) -> Predictions:
    """Return predictions on some items, right more often the surer they are."""
    truth = TRUTH[: len(items)]
    logits = np.random.default_rng(seed).normal(size=(len(items), len(LABELS))).astype(np.float32)
    logits[np.arange(len(items)), truth] += np.float32(sureness)
    return Predictions.of(items, truth, logits)


def answering(version: Tiny, predictions: Predictions, train: tuple[Digest, ...] = ()) -> Tiny:
    """Return a version that answered so, and that learnt from these items beside its own."""
    blobs = [each for each in version.blobs if each[0] != "predictions"]
    learnt = "\n".join(sorted((*train, Digest.of(b"one more")))).encode()
    blobs += [("predictions", predictions.to_bytes()), ("items", learnt)]
    manifest = replace(
        version.manifest,
        predictions=Digest.of(predictions.to_bytes()),
        parts={**version.manifest.parts, "train": Split(len(train) + 1, Digest.of(learnt))},
    )
    return Tiny(manifest, tuple(blobs))


def silent(version: Tiny) -> Tiny:
    """Return a version without predictions."""
    return Tiny(replace(version.manifest, predictions=None), version.blobs)
