"""Ridge regression in its dual form: on sparse rows, with memory that does not depend on how many columns they have.

Weights of one class for every column take columns x classes numbers, and a quasi-Newton solver keeps some forty
copies of them. The dual (Saunders et al., "Ridge Regression Learning Algorithm in Dual Variables", 1998) has one
number for each row and class instead, and is solved exactly: one Cholesky factorisation of the rows' products
serves every class.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PENALTIES = (1.0, 0.1, 10.0)
"""Penalties on the squared norm of the weights that are tried; the first where nothing can be left out to try them."""

_BLOCK = 256
"""Rows whose products are computed at a time."""

_FEWEST = 10
"""Rows below which a penalty cannot be told from another."""


def dual_ridge(rows: "csr_matrix", targets: np.ndarray, classes: int, held: "csr_matrix") -> np.ndarray:
    """Fit ridge regression to class indicators, and return its scores of other rows.

    The penalty is the one that is right most often on a fifth of the rows, drawn by a fixed seed. Memory: two
    matrices of 0.64 N² numbers, or one of N², and four of N x classes, all float32.

    Args:
        rows: sparse [N, D], N at most some 10,000.
        targets: class numbers, int64 [N].
        classes: how many there are.
        held: rows to score, sparse [M, D].

    Returns:
        float32 [M, classes]; the largest of a row is its answer.
    """
    penalty = _penalty(rows, targets, classes)
    weights = _solve(_products(rows, rows), targets, classes, penalty)
    return _scores(held, rows, weights, targets)


def _penalty(rows: "csr_matrix", targets: np.ndarray, classes: int) -> float:
    left_out, kept = np.split(np.random.default_rng(0).permutation(rows.shape[0]), [rows.shape[0] // 5])
    if len(left_out) < _FEWEST:
        return PENALTIES[0]
    products = _products(rows[kept], rows[kept])

    def share_right(penalty: float) -> float:
        weights = _solve(products.copy(), targets[kept], classes, penalty)
        scores = _scores(rows[left_out], rows[kept], weights, targets[kept])
        return float((scores.argmax(axis=1) == targets[left_out]).mean())

    return max(PENALTIES, key=share_right)


def _products(first: "csr_matrix", second: "csr_matrix") -> np.ndarray:
    """Return the products of every row with every other, float32 [N, M]."""
    products = np.empty((first.shape[0], second.shape[0]), np.float32)
    columns = second.T.tocsc()
    for start in range(0, len(products), _BLOCK):
        products[start : start + _BLOCK] = (first[start : start + _BLOCK] @ columns).toarray()
    return products


def _solve(products: np.ndarray, targets: np.ndarray, classes: int, penalty: float) -> np.ndarray:
    """Return the dual weights, float32 [N, classes]; ``products``, symmetric, is overwritten."""
    from scipy.linalg import cho_factor, cho_solve

    products.flat[:: len(products) + 1] += np.float32(penalty)
    indicators = np.zeros((len(targets), classes), np.float32, order="F")
    indicators[np.arange(len(targets)), targets] = 1
    indicators -= indicators.mean(axis=0)
    # The transpose of a symmetric matrix is itself, in the order in which LAPACK works in place.
    factor = cho_factor(products.T, lower=True, overwrite_a=True, check_finite=False)
    weights: np.ndarray = cho_solve(factor, indicators, overwrite_b=True, check_finite=False)
    return weights


def _scores(held: "csr_matrix", rows: "csr_matrix", weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return scores of rows that were not learnt from, float32 [M, classes]."""
    mean = np.bincount(targets, minlength=weights.shape[1]) / len(targets)
    scores = np.empty((held.shape[0], weights.shape[1]), np.float32)
    for start in range(0, len(scores), _BLOCK):
        scores[start : start + _BLOCK] = _products(held[start : start + _BLOCK], rows) @ weights + mean
    return scores
