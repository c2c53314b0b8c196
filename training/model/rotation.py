"""Nested cross-validation by group: outer models, each fitted without the part of the groups that it is tested on."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import Params, PerBudget, Task
from pipelines.split import PART
from training.architectures import Architecture, get_architecture
from training.contract import Columns, Contract
from training.estimator import Estimator, FitContext
from training.model.calibrated import fit_calibrated, validation_score
from training.model.novelty import Novelty
from training.model.predictor import Predictor
from training.model.track import make_reference, save_model

ROTATION = "rotation"  # folder of the outer models, a folder and a receipt each, and the tag of their studies' runs
FEWER_TRIALS = "quick"  # the budget whose trials the study of each part has


def is_rotated(architecture: str, task: Task, prepared: Prepared) -> bool:
    """Whether evidence of an architecture is of all groups by outer models; the baseline is fitted on all groups.

    The rarer a class in a part, the more probable it is to an outer baseline, which saw the others: over all parts the
    area under the curve of knowing nothing would be below 0.5, and every margin over it too large. `UserError` for a
    baseline that learns from what it sees of samples, whose answers to those that it was fitted on are no evidence.
    """
    baseline = task.evaluate.baseline
    if prepared.parts and get_architecture(baseline, task.modality, task.problem).role != "baseline":
        raise UserError(
            f"evaluate.baseline is {baseline}, which has seen all groups where these are tested in turn; name one that "
            "looks at no sample (majority_class), or set split.fewest_groups: 0"
        )
    return bool(prepared.parts) and architecture != baseline


def rotate(
    name: str,
    architecture: Architecture,
    prepared: Prepared,
    params: Params,
    *,
    asked: Mapping[str, Any],
    folder: Path,
    checkpoint: Callable[[str], Path | None],
    parent: str,
    tune: Callable[..., Any] | None,
) -> list[dict[str, Any]]:
    """Tune, fit and calibrate one model a part on the other parts alone, into ``folder``; return their receipts.

    Parts whose receipt is there are done. ``asked`` as in `fit_calibrated`, but for hyperparameters, which the study of
    the part finds; its runs are children of the run ``parent``. ``tune`` is `training.studies.study.tune`: an import
    would make every final fit depend on the code of studies.
    """
    if tune is None:
        raise TypeError("a rotation needs the function that tunes each part")
    task = params.task(name)
    few = task.tune.trials.of(FEWER_TRIALS)
    fewer = replace(task, tune=replace(task.tune, trials=PerBudget(few, few)))
    quick = replace(params, tasks={**params.tasks, name: fewer})
    folder.mkdir(parents=True, exist_ok=True)
    for part in prepared.parts:
        receipt = folder / f"{part}.json"
        if receipt.is_file():
            continue
        outer, began, found = prepared.without(part), time.perf_counter(), dict[str, Any]()
        if architecture.space is not None:
            found = tune(name, architecture, outer, quick, rotation=part, parent=parent).hyperparameters
        context = FitContext(checkpoint=checkpoint(f"part{part}.pt"), progress=True)
        fitted = fit_calibrated(
            name, architecture, task, outer, asked={**asked, "hyperparameters": found}, context=context
        )
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
            saved = Path(temporary) / "model"
            reference = make_reference(fitted.contract, outer, fitted.final)
            save_model(fitted.final.estimator, fitted.baseline, fitted.contract, saved, reference)
            shutil.rmtree(folder / str(part), ignore_errors=True)  # of a process that was killed before the receipt
            saved.replace(folder / str(part))
        score = validation_score(fitted.final, outer, task, task.tune.metric, params.seed)
        tested = outer.table.loc[outer.table["split"] == "test", "group"]
        counts = {"samples": len(tested), "groups": int(tested.nunique()), "seconds": time.perf_counter() - began}
        made_of = {"hyperparameters": found, "split.sha256": outer.sha256}
        write_json(receipt, {"part": part, **counts, "validation": score, **made_of})
    return [read_json(folder / f"{part}.json") for part in prepared.parts]


class Rotated(Predictor):
    """A registered model's stand-in for its own samples: each is answered by the outer model that never saw its group.

    ``contract`` and ``baseline`` are those of the registered model; what depends on calibration is asked of `per_row`.
    """

    outer: Sequence[Predictor]
    receipts: Sequence[dict[str, Any]]
    _part_of: pd.Series  # by sample

    @classmethod
    def of(cls, contract: Contract, baseline: Estimator, folder: Path, prepared: Prepared) -> Self:
        """Read the outer models that `rotate` wrote; UserError if they are not of the parts of ``prepared``."""
        found = cls()
        paths = [folder / f"{part}.json" for part in prepared.parts]
        if lacking := [path for path in paths if not path.is_file()]:
            raise UserError(
                f"{lacking[0]} is not there; run `dvc repro -f fit@{contract.task}-{contract.architecture}`"
            )
        found.receipts = [read_json(path) for path in paths]
        for part, receipt in zip(prepared.parts, found.receipts, strict=True):
            if receipt["split.sha256"] != prepared.without(part).sha256:
                raise UserError(f"{folder}: part {part} was fitted on another split; run the fit stage again")
        found.outer = [Predictor().read(folder / str(part)) for part in prepared.parts]
        found.contract, found.baseline, found.estimator = contract, baseline, Routed(found)
        found.novelty = Novelty((), 1.0)  # see `novelty_scores`
        found._part_of = prepared.table.set_index("sample_id")[PART]
        return found

    def each(self, samples: Any) -> Iterator[tuple[np.ndarray, Predictor, Any]]:
        """Yield the positions, the outer model and the samples of each part that has one of ``samples``."""
        parts = self._part_of.reindex(samples.table["sample_id"]).to_numpy(np.float64)
        if np.isnan(parts).any():
            unknown = samples.table["sample_id"].iloc[int(np.isnan(parts).argmax())]
            raise UserError(
                f"sample {unknown!r} is in no part of the rotation: no model of it is known to be without it"
            )
        for part in np.unique(parts):
            rows = np.flatnonzero(parts == part)
            yield rows, self.outer[int(part)], samples.take(rows)

    def per_row(self, samples: Any, call: Callable[[Any, np.ndarray], np.ndarray]) -> np.ndarray:
        """See `Predictor.per_row`."""
        return _in_order((rows, call(model.contract, rows)) for rows, model, _ in self.each(samples))

    def outputs(self, samples: Any) -> np.ndarray:
        """See `Predictor.outputs`."""
        return _in_order((rows, model.outputs(own)) for rows, model, own in self.each(samples))

    def answer(self, samples: Any, described: Columns | None = None) -> pd.DataFrame:
        """See `Predictor.answer`."""
        return pd.concat([model.answer(own).set_axis(rows) for rows, model, own in self.each(samples)]).sort_index()

    def unlike(self, samples: Any) -> np.ndarray | None:
        """See `Predictor.unlike`."""
        return _in_order((rows, np.asarray(model.unlike(own))) for rows, model, own in self.each(samples))

    def novelty_scores(self, samples: Any) -> np.ndarray:
        """See `Predictor.novelty_scores`; in units of the threshold, which each outer model has its own of."""

        return _in_order((rows, _relative(model, model.novelty_scores(own))) for rows, model, own in self.each(samples))

    def outputs_and_novelty(self, samples: Any) -> tuple[np.ndarray, np.ndarray]:
        """See `Predictor.outputs_and_novelty`."""
        found = [(rows, model, *model.outputs_and_novelty(own)) for rows, model, own in self.each(samples)]
        scores = _in_order((rows, _relative(model, scores)) for rows, model, _, scores in found)
        return _in_order((rows, outputs) for rows, _, outputs, _ in found), scores

    def predictions(self, prepared: Prepared) -> pd.DataFrame:
        """Return the table of all samples with what outer models and the baseline predict."""
        made = [
            model.contract.predicted(
                prepared.table.iloc[rows], own, model.estimator.outputs(own), self.baseline.outputs(own)
            )
            for rows, model, own in self.each(prepared.samples)
        ]
        return pd.concat(made).sort_index()


@dataclass(eq=False, repr=False)
class Routed(Estimator):
    """The estimators of a rotation's outer models."""

    of: Rotated

    @property
    def members_(self) -> list[Estimator]:
        """Return the estimators, part by part."""
        return [model.estimator for model in self.of.outer]

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Refuse: the models are fitted by `rotate`."""
        raise TypeError("the models of a rotation are fitted part by part")

    def predict(self, samples: Any) -> np.ndarray:
        """See `Estimator.predict`."""
        return _in_order((rows, model.estimator.predict(own)) for rows, model, own in self.of.each(samples))

    def outputs(self, samples: Any) -> np.ndarray:
        """See `Estimator.outputs`."""
        return _in_order((rows, model.estimator.outputs(own)) for rows, model, own in self.of.each(samples))

    def pretraining(self) -> dict[str, Any]:
        """See `Estimator.pretraining`."""
        return self.members_[0].pretraining()

    @property
    def heatmap_method(self) -> str:
        """See `Estimator.heatmap_method`."""
        return self.members_[0].heatmap_method

    def heatmaps(self, samples: Any) -> np.ndarray | None:
        """See `Estimator.heatmaps`."""
        found = [(rows, model.estimator.heatmaps(own)) for rows, model, own in self.of.each(samples)]
        known = [(rows, maps) for rows, maps in found if maps is not None]
        return _in_order(known) if known else None

    def seen(self, samples: Any) -> Any:
        """See `Estimator.seen`; each part is tuned by itself, and not all may change what they see."""
        pieces = [(rows, own, model.estimator.seen(own)) for rows, model, own in self.of.each(samples)]
        if all(seen is own for _, own, seen in pieces):
            return samples
        pieces.sort(key=lambda piece: piece[2] is piece[1])  # the first says how the joined ones were made
        joined: Any = self.of.contract
        order = np.argsort(np.concatenate([rows for rows, _, _ in pieces]))
        return joined.join([seen for _, _, seen in pieces]).take(order)


def _relative(model: Predictor, scores: np.ndarray) -> np.ndarray:
    # Without a view that could be fitted all scores are 0, and so is the threshold.
    return scores / (model.novelty.threshold or 1.0) if model.novelty else scores


def _in_order(pieces: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the arrays of pieces ``(positions, array)`` as one, in the order of the positions."""
    rows, values = zip(*pieces, strict=True)
    return np.concatenate(values)[np.argsort(np.concatenate(rows))]
