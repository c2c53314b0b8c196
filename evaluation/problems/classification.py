"""How predicted classes are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.classification import weighted_classification_metrics
from evaluation.metrics.columns import Floats
from evaluation.problems import Columns, Measures, columns_of, names_of

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence, Explained
    from evaluation.modalities import Modality
    from training.contract import Contract
    from training.model.predictor import Predictor


class ClassificationMeasures(Measures):
    """Shares, areas and calibration, over all rows and of each class."""

    answer = "probability"
    promise = "prediction sets"
    margin_metric = "accuracy"
    units = ("class",)

    def weigh(
        self, target: npt.ArrayLike, outputs: npt.ArrayLike, groups: npt.ArrayLike, counts: npt.ArrayLike, **known: Any
    ) -> dict[str, Floats]:
        """See `evaluation.metrics.classification.weighted_classification_metrics`."""
        return weighted_classification_metrics(target, outputs, groups, counts, **known)

    def columns(self, predictions: pd.DataFrame) -> Columns:
        """See `Measures.columns`; codes ``(n,)`` and probabilities ``(n, classes)``."""
        classes = names_of(predictions, "probability")
        outputs = columns_of(predictions, "probability", classes)
        baseline = columns_of(predictions, "baseline", classes) if names_of(predictions, "baseline") else None
        return Columns(predictions["target"].to_numpy(np.int64), outputs, baseline, {"classes": classes})

    def answered(self, model: Predictor, samples: Any, ours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `Measures.answered`; the other model must know the same classes, in whatever order."""
        known, own = names_of(ours, "probability"), self.classes(model.contract)
        if set(known) != set(own):
            raise ValueError(f"its classes are {', '.join(own)}"[:200])
        ordered = model.outputs(samples)[:, [own.index(label) for label in known]]
        columns = {f"probability_{label}": ordered[:, code] for code, label in enumerate(known)}
        return ours, ours.assign(**columns, prediction=ordered.argmax(axis=1))

    def classes(self, contract: Contract) -> list[str]:
        """Return the classes of the model."""
        return list(contract.scoring["classes"])

    def evidence(self, run: Evaluation, modality: Modality) -> Evidence:
        """See `evaluation.evidence.classification`."""
        from evaluation.evidence.classification import class_evidence

        return class_evidence(self, run, modality)

    def explained(self, run: Evaluation) -> Explained:
        """Return the true class of each row, of which masking takes probability."""
        from evaluation.evidence.parts import Explained

        found = self.columns(run.predictions)
        classes, target, probabilities = found.scoring["classes"], found.target, found.outputs
        predicted = probabilities.argmax(axis=1)

        def lost(before: np.ndarray, after: np.ndarray, of_row: np.ndarray) -> np.ndarray:
            every = np.arange(len(of_row))
            difference: np.ndarray = before[every, of_row] - after[every, of_row]
            return difference

        def caption(row: int) -> str:
            wrong = f"\n{classes[predicted[row]]}" if target[row] != predicted[row] else ""
            return f"{classes[target[row]]}{wrong} {probabilities[row].max():.2f}"

        return Explained(tuple(classes), target, lost, strata=target, right=target == predicted, caption=caption)

    def by_part(self, predictions: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
        """Return a row for each drug, the best first: name, threshold, samples, share of the second class, areas.

        Areas are NaN where all samples of a drug are of one class.
        """
        from sklearn.metrics import average_precision_score, roc_auc_score

        second = names_of(predictions, "probability")[1]

        def summary(part: pd.DataFrame) -> pd.Series:
            true, score = part["target"], part[f"probability_{second}"]
            both = true.nunique() == 2
            return pd.Series(
                {
                    "name": names.get(str(part.name), ""),
                    "threshold": part["threshold"].iloc[0],
                    "samples": len(part),
                    second: true.mean(),
                    f"predicted_{second}": score.mean(),
                    "roc_auc": roc_auc_score(true, score) if both else np.nan,
                    "pr_auc": average_precision_score(true, score) if both else np.nan,
                }
            )

        columns = ["target", "threshold", f"probability_{second}"]
        table = predictions.groupby("drug_id")[columns].apply(summary).reset_index()
        return table.sort_values("roc_auc", ascending=False, kind="stable", na_position="last")


MEASURES = ClassificationMeasures()
