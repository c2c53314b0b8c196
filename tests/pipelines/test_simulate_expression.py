"""The shipped profiles must be reproducible, small, plainly simulated, like counts, and to be learned in part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import confusion_matrix, f1_score, r2_score, roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.simulate.__main__ import main
from pipelines.simulate.expression import (
    GENE_EXPRESSION,
    METASTASIS,
    NORMAL,
    PRIMARY,
    PROGRAMS,
    RARE,
    TUMOR_TYPE,
    Genes,
    simulate_gene_expression,
    simulate_tumor_type,
)

TUMOR, GENE = "tumor_type", "gene_expression"
SIMULATE: dict[str, Callable[..., None]] = {TUMOR: simulate_tumor_type, GENE: simulate_gene_expression}
DESIGNS = {TUMOR: TUMOR_TYPE, GENE: GENE_EXPRESSION}
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Tables:
    values: pd.DataFrame  # indexed by sample_id
    samples: pd.DataFrame
    genes: pd.DataFrame

    @property
    def numbers(self) -> np.ndarray:
        return self.values.to_numpy(np.float64)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("simulated")
    for name, simulate in SIMULATE.items():
        simulate(base / name)
    return {name: base / name for name in SIMULATE}


@pytest.fixture(scope="module")
def tables(folders: dict[str, Path]) -> dict[str, Tables]:
    return {name: read(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def truth() -> Genes:
    return Genes.draw(np.random.default_rng([7, 0]))


def read(folder: Path) -> Tables:
    values = pd.read_parquet(folder / "expression.parquet").set_index("sample_id")
    return Tables(
        values, pd.read_csv(folder / "samples.csv", dtype={"sample_type": str}), pd.read_csv(folder / "genes.csv")
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def log2_of(tables: Tables) -> np.ndarray:
    linear = len(tables.genes) == 400  # tumor_type
    return np.log2(tables.numbers + 1) if linear else tables.numbers


def reads_of(tables: Tables) -> np.ndarray:
    return tables.numbers * tables.samples["library_size"].to_numpy()[:, None] / 1e6


def rows_of(tables: Tables, label: str, kind: str = PRIMARY) -> np.ndarray:
    return (tables.samples["label"].eq(label) & tables.samples["sample_type"].eq(kind)).to_numpy()


@pytest.mark.parametrize("name", SIMULATE)
def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(name: str, tmp_path: Path) -> None:
    for folder, seed in (("first", 1), ("second", 1), ("third", 2)):
        SIMULATE[name](tmp_path / folder, patients=30, seed=seed)
    first, second, third = (content(tmp_path / folder) for folder in ("first", "second", "third"))
    assert first == second
    assert set(first) == {"expression.parquet", "genes.csv", "samples.csv"}
    assert {file for file in first if first[file] == third[file]} == set()
    SIMULATE[name](tmp_path / "third", patients=30, seed=1)
    assert content(tmp_path / "third") == first  # what was there is replaced


@pytest.mark.parametrize("name", SIMULATE)
def test_the_command_writes_the_default_sample(
    name: str, folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--task", name, "--out", str(tmp_path / "out")])
    assert content(tmp_path / "out") == content(folders[name])
    assert str(tmp_path / "out") in capsys.readouterr().out


@pytest.mark.parametrize("name", SIMULATE)
def test_it_has_the_raw_format(name: str, tables: dict[str, Tables]) -> None:
    values, samples, genes = tables[name].values, tables[name].samples, tables[name].genes
    required = ["sample_id", "patient_id", "label", "sample_type", "platform"]
    assert samples.columns[:5].tolist() == required
    assert genes.columns.tolist() == ["gene", "symbol", "entrez", "chromosome", "start", "is_l1000_landmark"]
    assert values.index.tolist() == samples["sample_id"].tolist()
    assert values.columns.tolist() == genes["gene"].tolist()
    assert samples["sample_id"].is_unique and genes["gene"].is_unique
    assert (genes["symbol"] + "|" + genes["entrez"].astype(str)).equals(genes["gene"])
    assert set(values.dtypes) == {np.dtype(np.float32)}
    assert np.isfinite(values.to_numpy()).all() and values.to_numpy().min() == 0
    assert not samples.isna().any(axis=None) and not genes.isna().any(axis=None)
    assert genes["start"].between(1, 250_000_000).all()
    assert values.nunique().min() > 1


def test_it_has_the_size_that_it_promises(tables: dict[str, Tables]) -> None:
    tumor, gene = tables[TUMOR], tables[GENE]
    assert tumor.values.shape == (383, 400)
    assert tumor.samples["sample_type"].value_counts().to_dict() == {PRIMARY: 323, METASTASIS: 40, NORMAL: 20}
    assert tumor.samples["label"].nunique() == 7
    assert gene.values.shape == (240, 300)
    assert gene.samples["patient_id"].nunique() == 230
    assert gene.samples["label"].nunique() == 4
    assert gene.genes["is_l1000_landmark"].sum() == 80


def test_both_sets_are_small_enough_for_a_git_repository(folders: dict[str, Path]) -> None:
    assert sum(len(data) for folder in folders.values() for data in content(folder).values()) < 1.5 * MEGABYTE


@pytest.mark.parametrize("name", SIMULATE)
def test_it_says_that_it_is_simulated(name: str, tables: dict[str, Tables]) -> None:
    samples, genes = tables[name].samples, tables[name].genes
    assert samples["simulated"].eq(True).all()
    assert genes["symbol"].str.fullmatch(r"SIMG\d{4}").all()  # nobody takes them for real genes
    assert genes["entrez"].gt(900_000_000).all()
    for column in ("sample_id", "patient_id", "label", "platform"):
        assert samples[column].str.startswith("SIM").all(), column


def test_both_sets_are_of_the_same_genes_and_of_other_patients(tables: dict[str, Tables]) -> None:
    tumor, gene = tables[TUMOR], tables[GENE]
    shared = tumor.genes[tumor.genes["gene"].isin(gene.genes["gene"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(shared, gene.genes)
    assert not set(tumor.samples["patient_id"]) & set(gene.samples["patient_id"])


def test_values_are_reads_per_million_of_the_library(tables: dict[str, Tables]) -> None:
    reads = reads_of(tables[TUMOR])
    few = reads < 1000  # above, the rounding of the shipped values is more than a tenth of a read
    assert np.abs(reads - np.round(reads))[few].max() < 0.05
    totals = tables[TUMOR].numbers.sum(axis=1)
    assert totals.max() < 1e6  # the genes are a part of the library
    assert 0.5 < np.median(totals) / (TUMOR_TYPE.panel * 1e6) < 2


def test_expression_is_a_logarithm_of_reads_per_million(tables: dict[str, Tables]) -> None:
    values = tables[GENE].numbers
    assert values.max() < np.log2(1e6)
    reads = (2**values - 1) * tables[GENE].samples["library_size"].to_numpy()[:, None] / 1e6
    few = values < 0.5  # above, rounding is more than a tenth of a read
    assert np.abs(reads - np.round(reads))[few].max() < 0.1
    assert np.unique(np.round(reads[few])).size > 10


@pytest.mark.parametrize("name", SIMULATE)
def test_library_sizes_vary_as_a_log_normal(name: str, tables: dict[str, Tables]) -> None:
    size = np.log(tables[name].samples["library_size"])
    assert 0.38 < size.std() < 0.52
    assert abs(size.median() - np.log(DESIGNS[name].library)) < 0.15
    by_label = size.groupby(tables[name].samples["label"]).mean().drop(RARE, errors="ignore")
    assert by_label.max() - by_label.min() < 0.35  # a library's size does not tell the cohort


def test_reads_vary_more_than_poisson(tables: dict[str, Tables], truth: Genes) -> None:
    samples = rows_of(tables[TUMOR], "SIMA")
    library = tables[TUMOR].samples["library_size"].to_numpy(float)[samples]
    reads = reads_of(tables[TUMOR])[samples]
    mean = library[:, None] * reads.sum(axis=0) / library.sum()
    pearson = ((reads - mean) ** 2 / mean).sum(axis=0) / (len(reads) - 1)  # 1 under Poisson
    outside = truth.program < 0
    low = np.isfinite(truth.low_reads)
    assert np.median(pearson[outside & ~low]) > 10
    assert 1 < np.median(pearson[outside & low]) < 5
    excess = (pearson - 1) / mean.mean(axis=0)  # dispersion, which falls with the mean
    assert np.median(excess[outside & low]) > 2 * np.median(excess[outside & ~low])


@pytest.mark.parametrize("name", SIMULATE)
def test_a_quarter_of_the_genes_is_zero_in_many_samples(name: str, tables: dict[str, Tables], truth: Genes) -> None:
    zeros = tables[name].values.eq(0).mean()
    assert 0.2 < (zeros > 0.2).mean() < 0.3
    assert zeros.max() < 0.97
    landmarks = tables[name].genes["is_l1000_landmark"].to_numpy()
    assert zeros[landmarks].max() < 0.1


@pytest.mark.parametrize("name", SIMULATE)
@pytest.mark.parametrize("column", ["label", "sample_type"])
def test_platforms_are_not_confounded(name: str, column: str, tables: dict[str, Tables]) -> None:
    samples = tables[name].samples
    assert samples["platform"].nunique() == 2
    common = samples[samples["label"] != RARE]
    assert association(pd.crosstab(common[column], common["platform"]).to_numpy(), method="cramer") < 0.1


@pytest.mark.parametrize("name", SIMULATE)
def test_a_platform_shifts_genes_mildly(name: str, tables: dict[str, Tables], truth: Genes) -> None:
    values = log2_of(tables[name])
    # Genes that answer to no program and have enough reads: their means differ by the platform alone.
    plain = pd.Series(np.isnan(truth.low_reads) & (truth.program < 0), index=truth.table["gene"])
    plain_here = plain[tables[name].values.columns].to_numpy()
    second = tables[name].samples["platform"].eq("SIM-SEQ 2").to_numpy()
    tested = tables[name].samples["sample_type"].eq(PRIMARY).to_numpy()
    shift = values[second & tested].mean(axis=0) - values[~second & tested].mean(axis=0)
    assert 0.12 < shift[plain_here].std() < 0.35
    assert np.abs(shift[plain_here]).max() < 1


def test_some_patients_have_two_samples_of_one_label(tables: dict[str, Tables]) -> None:
    for name, number in ((TUMOR, 40), (GENE, 10)):
        samples = tables[name].samples
        tumors = samples[samples["sample_type"] != NORMAL].groupby("patient_id")
        kinds = tumors["sample_type"].agg(list)
        assert kinds.map(len).value_counts()[2] == number
        assert set(map(tuple, kinds)) == {(PRIMARY,), (PRIMARY, METASTASIS)}
        assert samples.groupby("patient_id")["label"].nunique().max() == 1


@pytest.mark.parametrize("name", SIMULATE)
def test_two_samples_of_a_patient_are_alike_and_those_of_two_patients_are_no_copies(
    name: str, tables: dict[str, Tables]
) -> None:
    values = log2_of(tables[name])
    samples = tables[name].samples
    tumor = samples["sample_type"].ne(NORMAL).to_numpy()
    patient, label = samples["patient_id"].to_numpy()[tumor], samples["label"].to_numpy()[tumor]
    correlation = np.corrcoef(values[tumor])
    upper = np.triu(np.ones_like(correlation, bool), 1)
    one = upper & (patient[:, None] == patient)
    others = upper & ~one
    same_label = others & (label[:, None] == label)
    assert np.median(correlation[one]) > np.quantile(correlation[same_label], 0.8)
    assert correlation[others].max() < 0.985  # 0.99 is what a near-identical profile means elsewhere


def test_the_rare_cohort_has_three_patients_and_the_others_are_uneven(tables: dict[str, Tables]) -> None:
    samples = tables[TUMOR].samples
    patients = samples.groupby("label")["patient_id"].nunique()
    assert patients[RARE] == 3 == samples["label"].eq(RARE).sum()
    common = patients.drop(RARE)
    assert common.min() >= 25 and common.max() > 2 * common.min()


def test_a_patient_number_does_not_tell_the_cohort(tables: dict[str, Tables]) -> None:
    samples = tables[TUMOR].samples.query("label != @RARE")
    number = samples["patient_id"].str[-4:].astype(int)
    share = [abs(roc_auc_score(samples["label"] == label, number) - 0.5) for label in samples["label"].unique()]
    assert max(share) < 0.15


def test_normals_are_of_tumor_patients_and_proliferate_less(tables: dict[str, Tables], truth: Genes) -> None:
    samples = tables[TUMOR].samples
    normal = samples["sample_type"].eq(NORMAL).to_numpy()
    assert set(samples.loc[normal, "patient_id"]) <= set(samples.loc[~normal, "patient_id"])
    assert samples.loc[normal, "label"].nunique() > 2
    for program, sign in (("proliferation", -1), ("stroma", 1)):
        score = program_score(log2_of(tables[TUMOR]), truth, program)
        assert roc_auc_score(normal, sign * score) > 0.9


def program_score(values: np.ndarray, truth: Genes, program: str) -> np.ndarray:
    """Return the mean of a program's landmarks, each turned to rise with the program, shape ``(samples,)``."""
    members = (truth.program == PROGRAMS.index(program)) & truth.table["is_l1000_landmark"].to_numpy()
    return values[:, members] @ np.sign(truth.slope[members]) / members.sum()


def test_programs_are_scattered_over_the_table_and_half_on_one_chromosome(truth: Genes) -> None:
    assert (truth.program >= 0).mean() == 0.6
    next_to = (truth.program[1:] == truth.program[:-1]) & (truth.program[1:] >= 0)
    assert next_to.mean() < 0.06  # chance is 0.036
    for program in range(10):
        members = truth.table[truth.program == program]
        at = members["chromosome"].value_counts()
        assert len(members) == 24 and 12 <= at.iloc[0] <= 18 and len(at) >= 6
        home = members[members["chromosome"] == at.index[0]]
        assert home["start"].quantile(0.75) - home["start"].quantile(0.25) < 100e6


@pytest.mark.parametrize("label", ["SIMA", "SIMD", "SIME", "SIMF"])
def test_the_program_of_a_cohort_tells_it(label: str, tables: dict[str, Tables], truth: Genes) -> None:
    tumors = tables[TUMOR].samples["sample_type"].ne(NORMAL).to_numpy()
    score = program_score(log2_of(tables[TUMOR])[tumors], truth, label)
    assert roc_auc_score(tables[TUMOR].samples["label"][tumors] == label, score) > 0.93


def test_genes_of_a_program_vary_together_within_a_cohort(tables: dict[str, Tables], truth: Genes) -> None:
    values = log2_of(tables[TUMOR])[rows_of(tables[TUMOR], "SIMA")]
    landmark = truth.table["is_l1000_landmark"].to_numpy()
    correlation = np.corrcoef(values[:, landmark].T) * np.sign(np.outer(*[truth.slope[landmark]] * 2))
    together = truth.program[landmark][:, None] == truth.program[landmark]
    np.fill_diagonal(correlation, np.nan)
    assert np.nanmean(correlation[together]) > 0.15
    assert abs(np.nanmean(correlation[~together])) < 0.05


def test_tumor_types_can_be_learned_and_two_are_hard_to_tell_apart(tables: dict[str, Tables]) -> None:
    samples = tables[TUMOR].samples
    kept = (samples["sample_type"].ne(NORMAL) & samples["label"].ne(RARE)).to_numpy()
    label = samples["label"].to_numpy()[kept]
    predicted = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)),
        log2_of(tables[TUMOR])[kept],
        label,
        groups=samples["patient_id"].to_numpy()[kept],
        cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
    )
    assert 0.85 < f1_score(label, predicted, average="macro") < 0.97
    confused = confusion_matrix(label, predicted)
    np.fill_diagonal(confused, 0)
    assert confused[1, 2] + confused[2, 1] > 0.3 * confused.sum()


def test_targets_can_be_learned_from_landmarks_and_better_by_a_nonlinear_model(tables: dict[str, Tables]) -> None:
    values, groups = tables[GENE].values, tables[GENE].samples["patient_id"].to_numpy()
    landmark = tables[GENE].genes["is_l1000_landmark"].to_numpy()
    targets = values.loc[:, ~landmark].var().nlargest(50).index
    x, y = values.loc[:, landmark].to_numpy(float), values[targets].to_numpy(float)

    def score(model: object) -> float:
        predicted = cross_val_predict(make_pipeline(StandardScaler(), model), x, y, groups=groups, cv=GroupKFold(5))
        return float(r2_score(y, predicted))

    linear = score(RidgeCV(np.logspace(0, 4, 17)))
    assert 0.6 < linear < 0.8
    assert score(KernelRidge(kernel="rbf", gamma=0.002, alpha=0.1)) > linear + 0.03


@pytest.mark.parametrize("patients", [14, 60])
def test_any_number_of_patients_can_be_simulated(patients: int, tmp_path: Path) -> None:
    for name, simulate in SIMULATE.items():
        simulate(tmp_path / name, patients=patients)
        samples = read(tmp_path / name).samples
        assert samples["patient_id"].nunique() == patients + DESIGNS[name].rare
        assert set(samples["label"]) - {RARE} == set(DESIGNS[name].cohorts)
