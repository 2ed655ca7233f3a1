"""Our logistic regression beside scikit-learn's ``LogisticRegressionCV``: ``python -m benchmarks.solvers``.

Both choose the penalty by five folds, on standardised features. A third of the items is held out for the log loss. Both
take turns in each round, on one thread.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from adapters.heads.logistic import logistic_head
from benchmarks.machine import describe
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import Verdict, show

FASTER_AIM = 1.5
WORSE_AIM = 1.96
"""Standard errors by which our log loss on the held-out items may be above the library's, item by item."""


@dataclass(frozen=True, slots=True)
class Data:
    """Items to learn from, and others to be judged by; features float32 [N, D], labels int64 [N]."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return int(self.train_labels.max()) + 1

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray) -> "Data":
        """Hold a third out."""
        order = np.random.default_rng(0).permutation(len(labels))
        cut = 2 * len(labels) // 3
        features, labels = features[order].astype(np.float32), labels[order].astype(np.int64)
        return cls(features[:cut], labels[:cut], features[cut:], labels[cut:])


def glyph_features() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's handwriting as features of the bundled trunk."""
    import torch

    from adapters.datasets.examples import digits
    from adapters.sources.providers import find

    source = find("bundled:glyphs")
    stages, recipe = source.load(), source.recipe
    items = list(digits())
    labels = np.array([int(str(item.label)) for item in items])
    pixels = recipe.collate(
        [recipe.prepare(item.content) for item in items if isinstance(item.content, bytes)]
    )["pixels"]
    with torch.no_grad():
        features = [
            stages(torch.from_numpy(pixels[start : start + 128])) for start in range(0, len(pixels), 128)
        ]
    return torch.cat(features).numpy(), labels


def data_sets() -> Mapping[str, Data]:
    """Return the data sets by name."""
    from sklearn.datasets import load_breast_cancer, load_digits

    return {
        "handwriting, pixels": Data.of(*load_digits(return_X_y=True)),
        "handwriting, features of the bundled trunk": Data.of(*glyph_features()),
        "breast cancer": Data.of(*load_breast_cancer(return_X_y=True)),
    }


def item_losses(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log loss of each item in nats, from scores [N, labels]."""
    from scipy.special import log_softmax

    losses: np.ndarray = -log_softmax(scores, axis=1)[np.arange(len(labels)), labels]
    return losses


def ours(data: Data) -> Callable[[np.ndarray], np.ndarray]:
    """Fit by our solver."""
    head = logistic_head(data.train, data.train_labels, data.labels)
    return head.logits


def library(data: Data) -> Callable[[np.ndarray], np.ndarray]:
    """Fit by scikit-learn."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=10, cv=5, l1_ratios=(0.0,), scoring="neg_log_loss", max_iter=1000, use_legacy_attributes=False
        ),
    ).fit(data.train, data.train_labels)
    return lambda rows: np.asarray(model.predict_log_proba(rows))


def main() -> None:
    """Compare them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solvers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="each solver is measured so often (5)")
    parser.add_argument("--json", type=Path, help="write every measurement to this file")
    arguments = parser.parse_args()
    rows: dict[str, list[str]] = {}
    verdicts: list[Verdict] = []
    document: dict[str, object] = {"machine": describe()}
    everything = data_sets()
    # The limit holds for libraries that are loaded by now, scikit-learn's OpenMP among them.
    import sklearn.linear_model  # noqa: F401

    with threadpool_limits(1):
        for name, data in everything.items():
            ratios, seconds, losses = [], {"ours": [], "library": []}, {}  # type: ignore[var-annotated]  # lists of float
            for number in range(arguments.rounds):
                took = {}
                solvers = [("ours", ours), ("library", library)]
                for each, fit in solvers if number % 2 else reversed(solvers):
                    began = time.perf_counter()
                    scores = fit(data)
                    took[each] = time.perf_counter() - began
                    seconds[each].append(took[each])
                    losses[each] = item_losses(scores(data.test), data.test_labels)
                ratios.append(took["library"] / took["ours"])
            faster = Spread.of(ratios)
            rows[name] = [
                f"{data.train.shape[0]} × {data.train.shape[1]}, {data.labels}",
                Spread.of(seconds["ours"]).show(),
                Spread.of(seconds["library"]).show(),
                faster.show(),
                f"{losses['ours'].mean():.4f}",
                f"{losses['library'].mean():.4f}",
            ]
            verdicts.append(Verdict(f"{name}: times as fast", faster, FASTER_AIM))
            more = losses["ours"] - losses["library"]
            worse = Spread.of([float(more.mean() / (more.std(ddof=1) / len(more) ** 0.5))])
            verdicts.append(
                Verdict(f"{name}: standard errors that our loss is higher", worse, WORSE_AIM, at_least=False)
            )
            document[name] = {
                "seconds": seconds,
                "losses": {each: float(values.mean()) for each, values in losses.items()},
            }
    columns = ["items × features, labels", "ours, s", "scikit-learn, s", "times as fast", "loss", "its loss"]
    print(table("data", columns, rows))
    reached = show(verdicts)
    if arguments.json is not None:
        document["verdicts"] = [each.to_json() for each in verdicts]
        arguments.json.write_text(json.dumps(document, indent=1))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
