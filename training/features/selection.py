"""Selection of a table's features: all that vary, the most variable, or the most related to the response."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.feature_selection import RFE, mutual_info_regression
from sklearn.linear_model import Ridge

SUPERVISED = ("mutual_information", "rfe")
SELECTIONS = ("all", "variance", *SUPERVISED)

_CONSTANT = 1e-12  # a variance below this is none
_NEIGHBORS = 3  # of the estimate of mutual information
_FEW = 5  # a feature with no more different values (a mutation, a call of copy number) is discrete
_STEP = 0.1  # share of the features that recursive elimination drops at a time


def selected(values: np.ndarray, selection: str, share: float, response: np.ndarray | None = None) -> np.ndarray:
    """Return the positions of the features that are kept, ascending.

    Parameters
    ----------
    values
        Of the training lines, without missing values, shape ``(lines, features)``.
    selection
        ``all``: every feature that varies. The others keep ``share`` of the features, at least one and only those that
        vary: ``variance``, the most variable; ``mutual_information``, with the response (Kraskov et al., 2004; Ross,
        2014, for discrete features), averaged over its columns by their variance; ``rfe``, recursive elimination (Guyon
        et al., 2002) by ridge regression of the response on standardized features.
    response
        Of the training lines, shape ``(lines, columns)``: see `line_response`. If it is constant, the most variable
        features are kept.
    """
    variance = values.var(axis=0)
    varying = np.flatnonzero(variance > _CONSTANT)
    wanted = max(1, round(share * values.shape[1]))
    if selection == "all" or len(varying) <= wanted:
        return varying
    known = values[:, varying]
    if selection not in SUPERVISED:
        score = variance[varying]
    elif response is None:
        raise ValueError(f"the selection {selection} needs the response of the training lines")
    elif not (response.var(axis=0) > _CONSTANT).any():
        score = variance[varying]
    else:
        score = _SCORES[selection](known, response, wanted)
    return np.sort(varying[np.argsort(-score, kind="stable")[:wanted]])


def _mutual_information(values: np.ndarray, response: np.ndarray, wanted: int) -> np.ndarray:
    lines = len(values)
    few = min(_FEW, lines - 1)  # with fewer values than lines one of them occurs twice, which the estimate needs
    discrete = np.array([len(np.unique(column)) <= few for column in values.T])
    size = response.var(axis=0)
    return np.average(
        [
            mutual_info_regression(
                values, column, discrete_features=discrete, n_neighbors=min(_NEIGHBORS, lines - 1), random_state=0
            )
            for column in response.T
        ],
        axis=0,
        weights=size,
    )


def _elimination(values: np.ndarray, response: np.ndarray, wanted: int) -> np.ndarray:
    standardized = (values - values.mean(axis=0)) / values.std(axis=0)
    # With the number of lines as penalty, the weight of a feature that goes with no other is halved.
    ridge = Ridge(alpha=float(len(values)))
    return -RFE(ridge, n_features_to_select=wanted, step=_STEP).fit(standardized, response).ranking_


_SCORES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "mutual_information": _mutual_information,
    "rfe": _elimination,
}
