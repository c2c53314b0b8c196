"""How a study chooses its trials (``tune.sampler``) and which of them it ends early (``tune.pruner``)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import mlflow
import numpy as np
import optuna
from optuna.trial import TrialState

_STARTUP = 5  # trials drawn at random before the sampler learns from them
_FEWEST = 6  # different values of trials that importance is told of


def sampler(name: str, seed: int, *, alone: bool = True) -> optuna.samplers.BaseSampler:
    """Return a sampler by its name in ``params.yaml``; ``alone``: no other worker draws for the study.

    ``tpe``: Bergstra et al. (2011), NeurIPS 24; ``cmaes``: Hansen (2016), arXiv:1604.00772, which draws choices and
    what depends on them at random. Of a ``grid`` all points are queued, see `grid`; nothing is drawn.
    """
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP, constant_liar=not alone)
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=_STARTUP, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


def pruner(name: str) -> optuna.pruners.BasePruner:
    """Return a pruner by its name in ``params.yaml``.

    ``asha``: asynchronous successive halving (Li et al., 2020, MLSys 2); ``hyperband``: Li et al. (2018), JMLR 18.
    """
    return {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=8),
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=2, reduction_factor=3),
        "none": optuna.pruners.NopPruner,
    }[name]()


def log_importance(study: optuna.Study) -> None:
    """Log to the active run how much of the metric's variance each hyperparameter explains, with a figure.

    Those that all trials have are compared (functional ANOVA; Hutter et al., 2014, ICML). Nothing is logged of fewer
    than `_FEWEST` trials that ended, or where all came to the same.
    """
    values = {trial.values[0] for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    if len(values) < _FEWEST:
        return
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, target=lambda trial: trial.values[0])
    if not found:
        return
    from matplotlib.figure import Figure  # most studies have fewer trials, and need not wait for it

    figure = Figure(figsize=(5.4, 0.3 * len(found) + 1.0), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([*found][::-1], [*found.values()][::-1])
    axes.set(xlabel=f"share of the variance over {len(values)} trials", title="importance of hyperparameters")
    axes.set_xlim(0, 1)
    mlflow.log_metrics({f"importance/{name}": float(share) for name, share in found.items()})
    mlflow.log_figure(figure, "figures/importance.png")


def grid(
    space: Callable[[Any, Mapping[str, Any]], Any], settings: Mapping[str, Any], most: int, seed: int
) -> list[Any]:
    """Return the points of a search space, in random order: all, or ``most`` of them where there are more.

    A choice has all its values, a range its ends and its middle, on its own scale. Hyperparameters that depend on
    others are in the points that have them.
    """
    rng = np.random.default_rng(seed)
    found = []
    for point in _every(space, settings):
        found.append(point)
        if len(found) > most:
            return _some(space, settings, most, rng)
    return [found[place] for place in rng.permutation(len(found))]


def _every(space: Callable[..., Any], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each point once: a space is a tree, whose branches are the values of one hyperparameter after another."""
    path: list[int] = []
    while True:
        walk = _Walk(lambda depth, count: path[depth] if depth < len(path) else 0)  # noqa: B023  # used at once
        space(walk, settings)
        yield walk.point
        path = walk.path
        while path and path[-1] + 1 == walk.counts[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


def _some(
    space: Callable[..., Any], settings: Mapping[str, Any], most: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return ``most`` different points at random, or as many as are met in a hundred times as many draws."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _ in range(100 * most):
        walk = _Walk(lambda depth, count: int(rng.integers(count)))
        space(walk, settings)
        found.setdefault(tuple(walk.point.items()), walk.point)
        if len(found) == most:
            break
    return list(found.values())


class _Walk:
    """In the place of an Optuna trial: takes the value that ``choose`` names at each depth."""

    def __init__(self, choose: Callable[[int, int], int]) -> None:
        self._choose = choose
        self.point: dict[str, Any] = {}
        self.path: list[int] = []
        self.counts: list[int] = []

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.path.append(self._choose(len(self.path), len(choices)))
        self.counts.append(len(choices))
        self.point[name] = choices[self.path[-1]]
        return self.point[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False, **how: Any) -> Any:
        middle = math.sqrt(low * high) if log else (low + high) / 2
        return self.suggest_categorical(name, list(dict.fromkeys([low, middle, high])))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False, **how: Any) -> Any:
        middle = math.sqrt(low * high) if log else (low + high) / 2
        return self.suggest_categorical(name, list(dict.fromkeys([low, round(middle), high])))
