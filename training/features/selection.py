"""Selection of a table's features: all that vary, the most variable, or the most related to the response."""

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
    """Return the positions of the columns of ``values`` ``(lines, features)`` that are kept, ascending.

    ``all`` keeps every feature that varies, others at most ``share`` of them: ``variance``, the most variable;
    ``mutual_information`` with the response (Kraskov et al., 2004; Ross, 2014); ``rfe``, recursive elimination (Guyon
    et al., 2002) by ridge regression. With a constant response the most variable are kept.
    """
    variance = values.var(axis=0)
    varying = np.flatnonzero(variance > _CONSTANT)
    wanted = max(1, round(share * values.shape[1]))
    if selection == "all" or len(varying) <= wanted:
        return varying
    score = variance[varying]
    if selection in SUPERVISED:
        if response is None:
            raise ValueError(f"the selection {selection} needs the response of the training lines")
        if (response.var(axis=0) > _CONSTANT).any():
            known = values[:, varying]
            by_rank = selection == "rfe"
            score = _elimination(known, response, wanted) if by_rank else _mutual_information(known, response)
    return np.sort(varying[np.argsort(-score, kind="stable")[:wanted]])


def _mutual_information(values: np.ndarray, response: np.ndarray) -> np.ndarray:
    lines = len(values)
    few = min(_FEW, lines - 1)  # with fewer values than lines one of them occurs twice, which the estimate needs
    discrete = np.array([len(np.unique(column)) <= few for column in values.T])
    options = {"discrete_features": discrete, "n_neighbors": min(_NEIGHBORS, lines - 1), "random_state": 0}
    found = [mutual_info_regression(values, column, **options) for column in response.T]
    return np.average(found, axis=0, weights=response.var(axis=0))


def _elimination(values: np.ndarray, response: np.ndarray, wanted: int) -> np.ndarray:
    standardized = (values - values.mean(axis=0)) / values.std(axis=0)
    # With the number of lines as penalty, the weight of a feature that correlates with no other is halved.
    ridge = Ridge(alpha=float(len(values)))
    return -RFE(ridge, n_features_to_select=wanted, step=_STEP).fit(standardized, response).ranking_
