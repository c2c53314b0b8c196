"""Where images come from, and weights by which every source counts alike in each class."""

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from pipelines.samples.cell_masks import OUTSIDE, cell_masks
from pipelines.samples.images import ImageSamples

_CLUSTERS = 4  # of backgrounds
_FEW = 10  # images by which a mean of a source is half as certain as one can be
_LARGEST = 5.0  # weight: a few images of a class in a source of another one must not outweigh all others


def sources(samples: ImageSamples) -> np.ndarray:
    """Return the source of each image: its subject where it is known, else a cluster of backgrounds (k-means)."""
    subject = samples.table["subject_id"]
    found = subject.astype(str).to_numpy(object)
    if len(unknown := np.flatnonzero(subject.isna())):
        some = samples.take(unknown)
        outside = cell_masks(some) == OUTSIDE
        colors = np.array(
            [
                np.median(pixels[seen] if seen.any() else pixels.reshape(-1, 3), axis=0)
                for pixels, seen in zip((some.pixels[row] for row in some.index), outside, strict=True)
            ]
        )
        count = min(_CLUSTERS, len(np.unique(colors, axis=0)))
        clusters = KMeans(count, n_init=4, random_state=0).fit_predict(colors)
        found[unknown] = [f"background {cluster}" for cluster in clusters]
    return found


def source_weights(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return weights of mean 1 by which classes weigh alike, and in each class its sources; float32, ``(n,)``."""
    table = pd.DataFrame({"target": target, "source": source})
    images = table.groupby(["target", "source"])["source"].transform("size")
    of_class = table.groupby("target")["source"].transform("nunique")
    weights = (len(table) / (table["target"].nunique() * of_class * images)).clip(upper=_LARGEST).to_numpy(np.float32)
    return np.asarray(weights / weights.mean())


def between_sources(features: np.ndarray, target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return how far the mean of each source lies from that of its class, float32, ``(sources, width)``.

    Scaled so that the sum of squares is the variance between sources (Hatch et al., 2006), in which a source of few
    images counts less.
    """
    parts, total = list[np.ndarray](), 0.0
    for code in np.unique(target):
        of_class = target == code
        grouped = pd.DataFrame(features[of_class].astype(np.float64)).groupby(source[of_class])
        means, counts = grouped.mean().to_numpy(), grouped.size().to_numpy()
        weights = counts / (counts + _FEW)
        parts.append(np.sqrt(weights)[:, None] * (means - np.average(means, axis=0, weights=weights)))
        total += weights.sum()
    return (np.concatenate(parts) / np.sqrt(total)).astype(np.float32)
