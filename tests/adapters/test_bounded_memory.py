"""What linear models take of memory is bounded, however many labels there are."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from adapters import heads
from adapters.evaluation import baselines
from adapters.evaluation.baselines import LOGISTIC, RIDGE, raw_baseline
from adapters.evaluation.dual import dual_ridge
from adapters.heads import logistic, loss, ridge
from tests.adapters.test_baselines import accuracy, messages

GIGABYTE = 1_000_000_000

PEAK = """
import random, resource
import numpy as np
import sklearn.linear_model, sklearn.model_selection, scipy.linalg, threadpoolctl
from adapters import heads
from adapters.evaluation import baselines
from adapters.heads import logistic

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

random.seed(0)
{}
print(peak() - before)
"""

TEXTS = """
letters = "abcdefghijklmnopqrstuvwxyz"
words = ["".join(random.choices(letters, k=random.randint(4, 9))) for _ in range(4000)]
texts, targets = [], np.repeat(np.arange({classes}), {each})
for label in range({classes}):
    own = random.sample(words, 6)
    texts += [" ".join(random.choices(own, k=4) + random.choices(words, k=8)) for _ in range({each})]
before = peak()
scores = baselines._texts(texts, texts[:50])(targets, {classes})
assert scores.shape == (50, {classes})
"""

FEATURES = """
targets = np.repeat(np.arange({classes}), 2)
features = np.random.default_rng(0).normal(size=(len(targets), {dimension})).astype(np.float32)
features += targets[:, None] % 7
logistic._SEARCH = logistic._Effort(2, 1e-5, 1e-4)
logistic._FINAL = logistic._Effort(2, 1e-5, 1e-4)
logistic.descend = lambda cost, tolerance: (cost(1.0) and 1.0, ())
before = peak()
heads.fit("{kind}", features, targets, {classes})
"""


@pytest.mark.parametrize(
    "work",
    [
        TEXTS.format(classes=1500, each=2),
        TEXTS.format(classes=60, each=10),
        FEATURES.format(classes=1500, dimension=1024, kind="logistic"),
        FEATURES.format(classes=1500, dimension=64, kind="centroid"),
        FEATURES.format(classes=1500, dimension=64, kind="ridge"),
    ],
    ids=["1500 labels of texts", "60 labels of texts", "1500 labels of features", "centroid", "ridge"],
)
def test_at_most_a_gigabyte_is_taken_above_the_data(work: str) -> None:
    done = subprocess.run([sys.executable, "-c", PEAK.format(work)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < GIGABYTE


def test_few_labels_are_told_apart_by_logistic_regression() -> None:
    dataset = messages()
    assert raw_baseline(dataset, dataset.labels).method == LOGISTIC


def test_where_it_would_take_too_much_ridge_regression_takes_its_place_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(baselines, "_SOLVER_BYTES", 0)
    dataset = messages()
    standing = raw_baseline(dataset, dataset.labels)
    assert standing.method == RIDGE and accuracy(dataset, standing.logits) == 1
    assert raw_baseline(dataset, dataset.labels).logits.tobytes() == standing.logits.tobytes()


def test_the_dual_form_is_ridge_regression() -> None:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    rows, targets = random.normal(size=(9, 30)), np.arange(9) % 3
    rows *= random.random(rows.shape) < 0.3
    scores = dual_ridge(csr_matrix(rows), targets, 3, csr_matrix(rows[:4] + 0.1))
    indicators = np.eye(3)[targets]
    ridge_regression = Ridge(alpha=1.0, fit_intercept=False).fit(rows, indicators - indicators.mean(axis=0))
    assert scores == pytest.approx(
        ridge_regression.predict(rows[:4] + 0.1) + indicators.mean(axis=0), abs=1e-5
    )


def test_of_very_long_texts_the_beginning_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_MAX_CHARACTERS", 60)
    long = [f"{word} {'and ' * 1000}" for word in ("purr", "bark")] * 3
    terms = baselines._texts(long, long[:1])
    whole = baselines._texts([text[:10] for text in long], [long[0][:10]])
    assert (terms.train != whole.train).nnz == 0 and (terms.test != whole.test).nnz == 0


def _clusters(several: bool) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    targets = np.arange(90) % 6
    features = (2 * np.eye(6)[targets] + random.normal(size=(90, 6))).astype(np.float32)
    return features, (np.eye(6, dtype=np.uint8)[targets] if several else targets)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", ["logistic", "ridge", "centroid"])
def test_heads_that_are_solved_in_blocks_are_the_same_heads(
    kind: heads.Kind, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "centroid" and several:
        pytest.skip("a centroid stands for one label")
    features, targets = _clusters(several)
    whole = heads.fit(kind, features, targets, 6)
    for module in (logistic, loss, ridge):
        monkeypatch.setattr(module, "MAX_SCORES", 50)
    monkeypatch.setattr(logistic, "_SOLVER_BYTES", 1000)
    blocks = heads.fit(kind, features, targets, 6)
    assert blocks.l2 == whole.l2
    assert blocks.logits(features) == pytest.approx(whole.logits(features), abs=2e-2)


@pytest.mark.parametrize("classes", [20, 1500])
def test_the_bound_says_which_model_is_taken(classes: int) -> None:
    method: Callable[[int], str] = baselines._texts(["purr and bark"] * 3, ["purr"]).method
    assert method(classes) == LOGISTIC
    large = baselines._Terms(np.zeros((1, 40_000)), np.zeros((1, 40_000)))
    assert large.method(classes) == (LOGISTIC if classes == 20 else RIDGE)
