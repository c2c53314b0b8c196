"""What would stop an evaluation at its last step or draw what is not there: a lost class, no history, one image."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score

from evaluation.figures import plots
from tests.evaluation.measures import classification_metrics

CLASSES = ["basophil", "monocyte", "myeloblast"]


pytestmark = pytest.mark.usefixtures("quiet")


def _drawn(figure: Figure) -> Figure:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def _words(figure: Figure) -> str:
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(plt.Text))


def _predicted(n_rows: int = 60, n_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.arange(n_rows) % n_classes, rng.dirichlet(np.ones(n_classes), n_rows)


def test_the_confusion_matrix_shows_every_count_and_an_absent_class():
    counts = np.array([[2, 1, 0], [0, 0, 0], [1, 0, 1]])
    figure = _drawn(plots.confusion_matrix(counts, CLASSES, "resnet50"))
    numbers = [text.get_text() for text in figure.axes[0].texts]
    assert numbers == list("210000101")
    np.testing.assert_allclose(
        np.asarray(figure.axes[0].images[0].get_array()), [[2 / 3, 1 / 3, 0], [0.0, 0, 0], [0.5, 0, 0.5]]
    )


def test_the_areas_and_errors_in_the_legends_are_the_metrics():
    target, before = _predicted()
    after = (before + 1 / 3) / 2
    found = classification_metrics(target, before, classes=CLASSES)
    words = _words(_drawn(plots.roc_curves(target, before, CLASSES, "resnet50")))
    assert all(f"{name}: {found[f'roc_auc_{name}']:.3f}" in words for name in CLASSES)
    words = _words(_drawn(plots.calibration_curve(target, before, after, "resnet50")))
    for probabilities, name in ((before, "as predicted"), (after, "temperature-scaled")):
        error = classification_metrics(target, probabilities, classes=CLASSES)["ece"]
        assert f"{name}: ECE {error:.3f}" in words
    scores = {"mlp": before[:, 1], "baseline": after[:, 1]}
    words = _words(_drawn(plots.precision_recall_curves(target == 1, scores, "title")))
    areas = {name: average_precision_score(target == 1, each) for name, each in scores.items()}
    assert f"chance: {1 / 3:.3f}" in words and all(f"{name}: {area:.3f}" in words for name, area in areas.items())


def test_a_class_without_rows_has_no_curve_but_its_name():
    target, probabilities = _predicted()
    words = _words(_drawn(plots.roc_curves(target * 0, probabilities, CLASSES, "resnet50")))
    assert "monocyte: undefined, 0 of 60 rows" in words and "basophil: undefined, 60 of 60 rows" in words
    words = _words(_drawn(plots.precision_recall_curves(np.zeros(5), {"mlp": np.ones(5)}, "title")))
    assert "mlp: undefined, no row is positive" in words


def test_learning_curves_keep_losses_metrics_and_rates_apart_and_bear_gaps_and_no_epochs():
    for empty in ([], [{"step": 0.0}]):
        assert not _drawn(plots.learning_curves(empty, "random_forest")).axes[0].lines
    history: list[dict[str, float]] = [
        {"train_loss": 1.0, "validation_loss": 1.2, "validation_accuracy": 0.5, "learning_rate": 1e-3},
        {"train_loss": 0.8, "learning_rate": 1e-4},
        {"train_loss": float("nan"), "validation_loss": 1.0, "validation_accuracy": 0.7, "learning_rate": 1e-5},
        {"never_defined": float("nan")},
    ]
    figure = _drawn(plots.learning_curves(history, "resnet50"))
    panels = {axes.get_ylabel(): [line.get_label() for line in axes.lines] for axes in figure.axes}
    assert panels == {
        "loss": ["train_loss", "validation_loss"],
        "metric": ["validation_accuracy"],
        "learning rate": ["learning_rate"],
    }
    accuracy = figure.axes[1].lines[0]
    assert np.asarray(accuracy.get_xydata()).tolist() == [[0, 0.5], [2, 0.7]]


@pytest.mark.parametrize("count", [0, 1])
def test_a_panel_of_one_wrong_cell_or_of_none_is_drawn(count):
    images, maps = np.zeros((count, 8, 8, 3), np.uint8), np.full((count, 8, 8), np.nan, np.float32)  # it saw nothing
    _drawn(plots.attribution_panel(images, maps, ["a"] * count, title="t", right=np.zeros(count, bool)))
