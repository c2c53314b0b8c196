"""How well a version answers where no labels have arrived, estimated from how sure its answers are.

Confidence-based performance estimation (Garg et al., 2022, ICLR; NannyML calls it CBPE): what the confidence of an
answer is worth is learnt on held-out rows, whose labels are known, and averaged over the logged rows. So it follows a
shift of the inputs; where the relation of inputs and labels has shifted, nothing without labels can see it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from evaluation.metrics import Floats, Interval, percentile_interval
from serving.drift.watch import Performance, Watched
from serving.problems import Worth

RESAMPLES = 200
_DIGITS = 6  # after the point: of widths that are equal but for rounding


@dataclass(frozen=True)
class Estimate:
    """A metric of ``rows`` answers without labels, and its measured value on the held-out rows."""

    metric: str
    now: Interval
    then: float
    rows: int


def estimate(worth: Worth, held_out: pd.DataFrame, logged: pd.DataFrame, *, confidence: float, seed: int) -> Estimate:
    """Estimate the metric of ``worth`` on the ``logged`` answers; ``held_out`` are answers with their ``target``.

    Both are drawn anew for the interval, rows as if each were a group of its own.
    """
    rng = np.random.default_rng(seed)
    signal, known, asked = worth.signal(held_out), worth.score(held_out), worth.signal(logged)
    some = np.isfinite(signal) & np.isfinite(known)
    signal, known, asked = signal[some], known[some], asked[np.isfinite(asked)]

    def value(old: np.ndarray, new: np.ndarray) -> float:
        return float(worth.of_mean(_fitted(worth, signal[old], known[old])(asked[new]).mean()))

    def drawn(count: int) -> np.ndarray:
        return rng.integers(count, size=count)

    every = value(np.arange(len(signal)), np.arange(len(asked)))
    resampled = [value(drawn(len(signal)), drawn(len(asked))) for _ in range(RESAMPLES)]
    now = percentile_interval(every, np.array(resampled), confidence)
    return Estimate(worth.metric, now, float(worth.of_mean(known.mean())), len(asked))


def _fitted(worth: Worth, signal: Floats, score: Floats) -> Callable[[Floats], Floats]:
    """Return the function from signal to expected score: by a logit of probabilities (Platt, 1999), or rising steps.

    Steps would follow the few held-out rows at the ends, which is where inputs shift to.
    """
    if worth.probability:
        if len(np.unique(score)) < 2:
            return lambda asked: np.full(len(asked), score.mean())
        model = LogisticRegression(C=1e6).fit(_logit(signal)[:, None], score)
        return lambda asked: model.predict_proba(_logit(asked)[:, None])[:, 1]
    steps = IsotonicRegression(out_of_bounds="clip").fit(signal.round(_DIGITS), score)
    return lambda asked: steps.predict(asked.round(_DIGITS))


def _logit(probability: Floats) -> Floats:
    kept = probability.clip(1e-6, 1 - 1e-6)
    return np.log(kept / (1 - kept))


def told(found: Estimate, watched: Watched, limit: float) -> str:
    """Return the estimate in a sentence, with what it cannot know."""
    said = (
        f"{found.metric} is estimated at {found.now.value:.3g} [{found.now.low:.3g}, {found.now.high:.3g}] from how "
        f"sure {found.rows:,} answers are; on held-out rows it was {found.then:.3g}"
    )
    if watched.novelty.low > limit:
        return f"{said}. It is not to be relied on: too many rows are unlike the training data"
    if contradicted(found, watched.performance):
        return f"{said}. Labels say otherwise: what the same inputs mean has shifted, which no estimate can see"
    return f"{said}. It holds as long as the same inputs mean the same; only labels tell whether they do"


def contradicted(found: Estimate, measured: Performance | None) -> bool:
    """Return whether labels of the same metric lie beyond the estimate, both intervals apart."""
    if measured is None or measured.now is None or measured.metric != found.metric:
        return False
    return bool(measured.now.high < found.now.low or measured.now.low > found.now.high)


def as_dict(found: Estimate | None) -> Mapping[str, object] | None:
    """Return the section of the report."""
    if found is None:
        return None
    return {"metric": found.metric, "now": found.now.as_dict(), "then": found.then, "rows": found.rows}
