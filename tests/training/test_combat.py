"""A correction that takes the class with the hospital, or that needs to know the hospital of whoever asks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from training.architectures import get_architecture
from training.features.combat import without_batches
from training.features.expression_profile import ProfileFeatures

GENES = 60


def planted(seed: int = 0, batches: int = 4, each: int = 15) -> tuple[np.ndarray, np.ndarray, pd.Series]:
    """Return values, classes and batches: every batch is of one class, shifts each gene and scales it."""
    rng = np.random.default_rng(seed)
    batch = np.repeat(np.arange(2 * batches), each)
    classes = batch // batches
    own, shift = rng.normal(0, 3, (2, GENES)), rng.normal(0, 2, (2 * batches, GENES))
    values = 8 + own[classes] + shift[batch] + rng.normal(0, 1, (len(batch), GENES)) * (1 + batch % 2)[:, None]
    return values, classes, pd.Series([f"site {code}" for code in batch], dtype=object)


def means(values: np.ndarray, by: np.ndarray | pd.Series) -> np.ndarray:
    return pd.DataFrame(values).groupby(np.asarray(by)).mean().to_numpy()


def test_batches_of_a_class_become_alike_and_classes_stay_apart() -> None:
    values, classes, batch = planted()
    found = without_batches(values, batch, classes)
    before, after = (means(each, batch) - means(each, classes).repeat(4, axis=0) for each in (values, found))
    assert np.abs(after).mean() < 0.1 * np.abs(before).mean()
    assert np.abs(means(found, classes) - means(values, classes)).max() < 0.5  # shrunken, so that sums miss a little
    spreads = pd.DataFrame(found).groupby(batch.to_numpy()).std().to_numpy().mean(axis=1)
    assert spreads.max() / spreads.min() < 1.2


def test_what_has_no_batch_or_is_alone_in_it_stays_and_rows_that_are_not_fitted_teach_nothing() -> None:
    values, classes, batch = planted()
    batch.iloc[0], batch.iloc[20] = None, "alone"
    found = without_batches(values, batch, classes)
    assert np.array_equal(found[[0, 20]], values[[0, 20]]) and not np.allclose(found[1], values[1])
    fitted = np.arange(len(values)) % 3 > 0
    changed = np.where(fitted[:, None], values, values + 100)
    one, other = (without_batches(each, batch, classes, fitted) for each in (values, changed))
    np.testing.assert_allclose(one[fitted], other[fitted])
    assert not np.allclose(one[~fitted], values[~fitted])


def test_a_gene_that_a_batch_does_not_express_tells_no_tree_of_the_batch() -> None:
    values, classes, batch = planted()
    values[:, 0] = 0.0
    values[batch == "site 1", 1] = 0.0
    found = without_batches(values, batch, classes)
    assert (found[:, 0] == 0).all() and (found[batch == "site 1", 1] == 0).all()


def samples(site: bool = True) -> ExpressionSamples:
    values, classes, batch = planted(each=12)
    n = len(values)
    ids = [f"S{row:03d}" for row in range(n)]
    table = pd.DataFrame({"sample_id": ids, "patient_id": ids, "digest": ids, "target": classes.astype(np.int64)})
    if site:
        table["site"] = batch.to_numpy()
    genes = tuple(f"G{number}" for number in range(GENES))
    about = pd.DataFrame(index=pd.Index(genes))
    return ExpressionSamples(table, values.astype(np.float32), np.arange(n), genes, about, "log2", classes=("a", "b"))


@pytest.mark.parametrize("name", ["logistic_regression", "random_forest", "xgboost"])
def test_a_model_with_combat_answers_without_a_site(name: str, tmp_path: Path) -> None:
    found, small = get_architecture(name, "profiles", "classification"), {"rounds": 5}
    fitted = found.build({"combat": "site"}, **small).fit(samples())
    features: ProfileFeatures = fitted.features_
    assert not np.allclose(features.learned(samples()), features.transform(samples()), atol=0.1)
    fitted.save(tmp_path / name)
    loaded = found.estimator.load(tmp_path / name)
    np.testing.assert_array_equal(loaded.outputs(samples(site=False)), fitted.outputs(samples()))
    with pytest.raises(UserError, match="combat is 'site', and the samples have no site"):
        found.build({"combat": "site"}, **small).fit(samples(site=False))


def test_a_study_tries_combat_where_samples_have_an_origin() -> None:
    from pipelines.datasets import Prepared
    from training.search.profiles import allowed

    given = samples()
    for table, origins in ((given.table, ["site"]), (given.table.assign(site="one"), None)):
        prepared = Prepared(replace(given, table=table), table, "0" * 64, {})
        settings = allowed({"seed": 0}, prepared)
        assert settings.get("origins") == origins
        first = get_architecture("logistic_regression", "profiles", "classification").first_trial(settings)
        assert first.get("combat") == ("none" if origins else None)
