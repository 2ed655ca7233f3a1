"""Logistic regression, solved to the optimum by L-BFGS."""

from dataclasses import dataclass

import numpy as np

from adapters.heads.head import LinearHead
from adapters.heads.loss import MAX_SCORES, log_loss
from adapters.heads.search import FOLDS, MAX_SEARCH_ROWS, Search, descend, stratified
from adapters.heads.standard import Standard, compressed, threads

DEFAULT_L2 = 1e-2
"""Where nothing can be cross-validated: a class has one item, so that no fold can leave it out. What the
search finds on small sets of handwriting, rounded."""

_TIE = 1e-3
"""Log losses, in nats, that count as equal. Where classes can be separated the loss falls for ever as
the penalty weakens, and only confidence grows."""


@dataclass(frozen=True, slots=True)
class _Effort:
    """How far to go on: iterations at most, and the relative gain and the slope that are too small to go on for."""

    steps: int
    gain: float
    slope: float


_RARE = 1e-3
"""Least share of a label to start from."""

_SOLVER_BYTES = 512 << 20
_CORRECTIONS = 10
"""Pairs of steps and slopes that L-BFGS remembers: scipy's default."""

_FEWEST_CORRECTIONS = 3
"""Nocedal and Wright, "Numerical Optimization", 2006, section 7.2: 3 to 20 are of use."""

_COPIES = 10
"""Copies of the weights that the solver holds beside its pairs."""

_LARGEST_EXPONENT = 80
"""exp of it is finite in single precision."""

_SEARCH = _Effort(100, 1e-5, 1e-4)
_FINAL = _Effort(1000, 1e-9, 1e-6)


def logistic_head(
    features: np.ndarray, targets: np.ndarray, labels: int, *, l2: float | None = None, seed: int = 0
) -> LinearHead:
    """Fit multinomial logistic regression by L-BFGS, or one binary regression for each label.

    Args:
        features: float32 [N, D].
        targets: label numbers, int64 [N]; where an item has any number of labels ones and zeros,
            uint8 [N, labels].
        labels: how many there are, at least two.
        l2: the penalty; None chooses it by stratified cross-validation of the log loss, with as
            many folds as the rarest class has items, at most five.
        seed: of the folds.

    Raises:
        DatasetError: fewer than two labels are present, or a feature is not finite.
    """
    scale = Standard.of(features, targets)
    search: Search = ()
    with threads(features, labels * FOLDS):
        rows = compressed(scale.apply(features))
        if l2 is None:
            l2, search = _search(rows.values, targets, labels, seed)
        whole = np.full((1, len(targets)), 1 / len(targets))
        start = _start(rows.values, targets, whole, labels)
        solution = _solve(rows.values, targets, whole, l2, start, _FINAL)[0]
    return scale.fold(rows.restore(solution[:, :-1].T), solution[:, -1], l2, search)


def _search(rows: np.ndarray, targets: np.ndarray, labels: int, seed: int) -> tuple[float, Search]:
    """Choose the penalty whose folds lose least on the items that they leave out."""
    order = np.random.default_rng(seed).permutation(len(targets))[:MAX_SEARCH_ROWS]
    rows, targets = rows[order], targets[order]
    several = targets.ndim == 2
    counts = np.array([len(targets)]) if several else np.bincount(targets, minlength=labels)
    folds = min(FOLDS, int(counts[counts > 0].min()))
    if folds < 2:
        return DEFAULT_L2, ()
    # Where items have several labels their order, random by now, deals them out.
    fold = np.arange(len(targets)) % folds if several else stratified(targets, folds)
    kept = (fold[None, :] != np.arange(folds)[:, None]).astype(np.float64)
    kept /= kept.sum(axis=1, keepdims=True)
    state = _start(rows, targets, kept, labels)
    single = rows.astype(np.float32)

    def left_out(penalty: float) -> float:
        nonlocal state
        state = _solve(single, targets, kept, penalty, state, _SEARCH)
        return log_loss(_left_out_scores(rows, state, fold), targets)

    return descend(left_out, _TIE)


def _left_out_scores(rows: np.ndarray, state: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return each row's scores by the problem that its fold was left out of, float64 [N, labels]."""
    scores = np.empty((len(rows), state.shape[1]))
    for number, solution in enumerate(state):
        scores[fold == number] = rows[fold == number] @ solution[:, :-1].T + solution[:, -1]
    return scores


def _start(rows: np.ndarray, targets: np.ndarray, shares: np.ndarray, labels: int) -> np.ndarray:
    """Return what answers with the shares of the labels, whatever the row, float64 [F, labels, D + 1].

    Under a strong penalty hardly more can be learnt, and the solver, which starts with the steep slopes of the
    penalty, would not even find that: the strongest would seem the best, by an answer of halves.
    """
    if targets.ndim == 2:
        present = np.clip(shares @ targets, _RARE, 1 - _RARE)
        bias = np.log(present / (1 - present))
    else:
        counts = [np.bincount(targets, weights=share, minlength=labels) for share in shares]
        bias = np.log(np.maximum(counts, _RARE))
    start = np.zeros((len(shares), labels, rows.shape[1] + 1))
    start[:, :, -1] = bias
    return start


def _solve(
    rows: np.ndarray, targets: np.ndarray, shares: np.ndarray, l2: float, start: np.ndarray, effort: _Effort
) -> np.ndarray:
    """Solve several weighted problems on the same rows: at once where the solver's memory allows it, else by turns.

    Scores are kept label by label, [F, labels, N]: sums over labels then run along whole rows of memory.

    Args:
        rows: float64 [N, D]; float32 where single precision is enough.
        targets: int64 [N], or uint8 [N, labels].
        shares: weight of every row in every problem, float64 [F, N], each problem's adding up to 1.
        l2: penalty; the bias is free of it.
        start: weights and, as last column, bias to start from, float64 [F, labels, D + 1].
        effort: when to stop.

    Returns:
        Weights and bias, float64 [F, labels, D + 1].
    """
    from scipy.optimize import minimize

    shape = start.shape
    corrections = min(_CORRECTIONS, (_SOLVER_BYTES // start.nbytes - _COPIES) // 2)
    if corrections < _CORRECTIONS and len(shares) > 1:
        turns = [
            _solve(rows, targets, share[None], l2, start[number : number + 1], effort)
            for number, share in enumerate(shares)
        ]
        return np.concatenate(turns)
    cost = _questions if targets.ndim == 2 else _choice
    block = max(1, MAX_SCORES // (shape[0] * shape[1]))
    weighting = shares.astype(rows.dtype)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = flat.reshape(-1, shape[2])
        weight, bias = solution[:, :-1].astype(rows.dtype), solution[:, -1:].astype(rows.dtype)
        gradient = np.zeros_like(solution)
        loss = 0.0
        for first in range(0, len(rows), block):
            here = slice(first, first + block)
            scores = weight @ rows[here].T
            scores += bias
            scores = scores.reshape(*shape[:2], -1)
            loss += cost(scores, targets[here], weighting[:, None, here])
            slopes = scores.reshape(len(solution), -1)
            gradient[:, :-1] += slopes @ rows[here]
            gradient[:, -1] += slopes.sum(axis=1)
        gradient[:, :-1] += l2 * solution[:, :-1]
        return loss + 0.5 * l2 * float(np.square(solution[:, :-1]).sum()), gradient.ravel()

    options = {
        "maxiter": effort.steps,
        "maxfun": 2 * effort.steps,
        "ftol": effort.gain,
        "gtol": effort.slope,
        "maxcor": max(corrections, _FEWEST_CORRECTIONS),
    }
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x).reshape(shape)


def _choice(scores: np.ndarray, targets: np.ndarray, weighting: np.ndarray) -> float:
    """Return the weighted cross-entropy of scores [F, labels, N], which become its slopes."""
    everyone = np.arange(len(targets))
    scores -= scores.max(axis=1, keepdims=True)
    right = scores[:, targets, everyone]
    np.exp(scores, out=scores)
    total = scores.sum(axis=1, keepdims=True)
    loss = float(np.sum(weighting[:, 0] * (np.log(total[:, 0]) - right), dtype=np.float64))
    scores /= total
    scores[:, targets, everyone] -= 1
    scores *= weighting
    return loss


def _questions(scores: np.ndarray, targets: np.ndarray, weighting: np.ndarray) -> float:
    """Return the weighted sum over labels of binary cross-entropies; scores become the slopes."""
    present = targets.T[None]
    losses = np.logaddexp(0, np.where(present == 1, -scores, scores), dtype=scores.dtype)
    loss = float(np.sum(weighting * losses, dtype=np.float64))
    np.negative(scores, out=scores)
    scores[:] = 1 / (1 + np.exp(np.minimum(scores, _LARGEST_EXPONENT)))
    scores -= present
    scores *= weighting
    return loss
