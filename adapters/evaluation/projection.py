"""Projection of features to two dimensions."""

import numpy as np

from adapters.evaluation.evidence import MAX_MAPPED, FeatureMap
from registry.digests import Digest

PRINCIPAL = 50
PERPLEXITY = 30
STEPS = 500
"""t-SNE (van der Maaten and Hinton, 2008) on 50 principal components, as its authors advise, with 30
neighbours; in half the usual steps, after which a thousand points hardly move."""

_FEWEST = 5


def feature_map(features: np.ndarray, digests: tuple[Digest, ...], seed: int = 0) -> FeatureMap | None:
    """Lay items out by their features: principal components, then t-SNE. Equal input, equal points.

    Args:
        features: float32 [N, D], finite.
        digests: of the items, N different ones.
        seed: of the draw where there are over 1,000 items, and of the layout.

    Returns:
        the map; None for fewer than five items, or features that are all alike.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    order = np.arange(len(features))
    if len(order) > MAX_MAPPED:
        order = np.sort(np.random.default_rng(seed).choice(order, MAX_MAPPED, replace=False))
    rows = features[order].astype(np.float64)
    if len(order) < _FEWEST or not rows.std(axis=0).any():
        return None
    components = min(PRINCIPAL, *rows.shape)
    # Sums over several threads come in any order, and t-SNE blows the last bit up.
    with threadpool_limits(1):
        if components > 1:
            rows = PCA(components, svd_solver="full").fit_transform(rows)
        else:
            rows = np.pad(rows, ((0, 0), (0, 1)))
        layout = TSNE(
            perplexity=min(PERPLEXITY, (len(rows) - 1) / 3), init="pca", random_state=seed, max_iter=STEPS
        )
        points = layout.fit_transform(rows)
    return FeatureMap(tuple(digests[at] for at in order), points.astype(np.float32))
