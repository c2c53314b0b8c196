"""Simulated expression profiles of tumors in the raw format ``expression``.

For a sample i of a patient p in a cohort c, on a platform b, and a gene j of a program k:

- reads y_ij ~ negative binomial with mean μ_ij = L_i q_ij / (Σ_j q_ij + R) and variance μ_ij + φ_j μ_ij²
- abundance log2 q_ij = a_j + w_j r_j(z_i) + s_bj + e_pj
- activity z_ik = κ π_i C_ck + σ (√0.7 u_pk + √0.3 v_ik), u and v standard normal

L is the library size, R what the genes that are not shipped take, a a gene's level (a quarter of the genes has few
reads), s the shift of the second platform, and e what is the patient's own. φ is the trend of DESeq2 (Love et al. 2014,
doi 10.1186/s13059-014-0550-8), 0.08 + 1 / mean reads, times a log-normal factor. w is the log2 fold change at one unit
of activity; r is linear, z_k (all landmarks), saturating, tanh(2 z_k), or gated by a program l, z_k (1 + tanh z_l). C
are the programs of a cohort, see ``_COHORTS``: SIMB and SIMC share one while their own are weak, so they are hard to
tell apart. π is the share of tumor cells; normals have none, and less proliferation; stroma fills the rest.

``tumor_type`` has counts per million of the library, 10⁶ y_ij / L_i, of 400 genes; ``gene_expression`` has log2 of
these plus one, of 80 landmarks and 220 others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

PLATFORMS = ("SIM-SEQ 1", "SIM-SEQ 2")
RARE = "SIMR"
PROGRAMS = ("SIMA", "SIMB", "SIMC", "SIMD", "SIME", "SIMF", RARE, "shared", "proliferation", "stroma")
PRIMARY, METASTASIS, NORMAL = "01", "06", "11"  # codes of TCGA

_COHORTS: dict[str, dict[str, float]] = {
    "SIMA": {"SIMA": 1.0, "proliferation": 0.3},
    "SIMB": {"SIMB": 0.4, "shared": 1.0, "proliferation": 0.6},
    "SIMC": {"SIMC": 0.4, "shared": 1.0, "proliferation": 0.5},
    "SIMD": {"SIMD": 1.0, "proliferation": -0.4},
    "SIME": {"SIME": 1.0, "proliferation": 0.0},
    "SIMF": {"SIMF": 1.0, "shared": 0.3, "proliferation": 0.2},
    RARE: {RARE: 1.0, "proliferation": 0.4},
}
_GENES, _PER_PROGRAM, _LANDMARKS, _LOW = 400, 24, 8, 4  # landmarks and low genes of each program
_LOW_OUTSIDE = 60
_LINEAR, _SATURATING, _GATED = range(3)
# End and centromere in megabases, GRCh38, rounded; the short arms of 13, 14, 15, 21 and 22 bear few genes.
_CHROMOSOMES = {
    "1": (248, 123), "2": (242, 94), "3": (198, 91), "4": (190, 50), "5": (181, 49), "6": (170, 60), "7": (159, 60),
    "8": (145, 45), "9": (138, 43), "10": (133, 40), "11": (135, 53), "12": (133, 35), "13": (114, 18), "14": (107, 17),
    "15": (102, 19), "16": (90, 37), "17": (83, 25), "18": (80, 18), "19": (58, 26), "20": (64, 28), "21": (46, 12),
    "22": (50, 15), "X": (156, 61),
}  # fmt: skip
_SHORT_ARMS_LEFT_OUT = ("13", "14", "15", "21", "22")


@dataclass(frozen=True)
class Design:
    """Parameters of a simulated collection; symbols are those of the module."""

    cohorts: Mapping[str, float]  # shares of the patients
    library: float  # median of L, in reads
    panel: float  # share of the library that the 400 genes take on average
    effect: float  # factor on the log2 fold changes w
    contrast: float  # κ: how far cohorts differ
    spread: float  # σ: how far patients differ within cohorts
    own: float  # standard deviation of e, in log2
    second: float  # share of the patients with a metastasis besides the primary tumor
    normals: float = 0.0  # share of the patients with a solid normal
    rare: int = 0  # additional patients of the rare cohort


TUMOR_TYPE = Design(
    cohorts={"SIMA": 84, "SIMB": 66, "SIMC": 56, "SIMD": 46, "SIME": 38, "SIMF": 30},
    library=3e6, panel=0.1, effect=1.0, contrast=2.8, spread=0.45, own=0.5, second=1 / 8, normals=1 / 16, rare=3,
)  # fmt: skip
GENE_EXPRESSION = Design(
    cohorts={"SIMA": 80, "SIMB": 60, "SIMC": 50, "SIMD": 40},
    library=2e7, panel=0.05, effect=1.3, contrast=1.0, spread=1.0, own=0.3, second=1 / 23,
)  # fmt: skip


@dataclass(frozen=True)
class Genes:
    """The simulated genes and how each responds to programs; arrays have shape ``(genes,)``."""

    table: pd.DataFrame  # columns of `genes.csv`
    program: np.ndarray  # index of the gene's program, -1 outside programs
    gate: np.ndarray  # index of the program that gates a gated response
    answer: np.ndarray  # linear, saturating or gated
    slope: np.ndarray  # w at an effect of 1, in log2
    level: np.ndarray  # a of the other genes, before it is scaled to the panel, in log2
    low_reads: np.ndarray  # expected reads in the median library; NaN where the level holds

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Return the 400 genes."""
        order = rng.permutation(_GENES)  # programs are scattered over the table
        programs = len(PROGRAMS)
        members = order[: programs * _PER_PROGRAM].reshape(programs, _PER_PROGRAM)
        program = np.full(_GENES, -1)
        program[members] = np.arange(programs)[:, None]
        landmark, low = np.zeros((2, _GENES), bool)
        landmark[members[:, :_LANDMARKS]] = True
        low[members[:, -_LOW:]] = True
        low[order[-_LOW_OUTSIDE:]] = True

        answer = np.where(landmark, _LINEAR, rng.choice([_LINEAR, _SATURATING, _GATED], _GENES, p=[0.3, 0.3, 0.4]))
        gate = (program + rng.integers(1, programs, _GENES)) % programs
        slope = rng.uniform(0.5, 1.5, _GENES) * rng.choice([1, -1], _GENES, p=[0.75, 0.25])
        low_reads = np.where(low, np.exp2(rng.uniform(np.log2(0.15), np.log2(2.5), _GENES)), np.nan)

        chromosome, start = _places(members, rng)
        numbers = range(1, _GENES + 1)
        names = {
            "gene": [f"SIMG{number:04d}|{900_000_000 + number}" for number in numbers],
            "symbol": [f"SIMG{number:04d}" for number in numbers],
            "entrez": [900_000_000 + number for number in numbers],
        }
        table = pd.DataFrame({**names, "chromosome": chromosome, "start": start, "is_l1000_landmark": landmark})
        level = rng.normal(0, 1.5, _GENES)
        return cls(table, program, gate, answer, np.where(program < 0, 0, slope), level, low_reads)

    def abundance(self, design: Design) -> np.ndarray:
        """Return ``a``: log2 counts per million of each gene where no program is active."""
        low = np.isfinite(self.low_reads)
        per_million = np.exp2(self.level)
        per_million[low] = 0
        per_million *= design.panel * 1e6 / per_million.sum()
        per_million[low] = self.low_reads[low] / design.library * 1e6
        return np.log2(per_million)

    def change(self, activity: np.ndarray) -> np.ndarray:
        """Return ``w r(z)``, shape ``(samples, genes)``, of activities of shape ``(samples, programs)``."""
        own, gate = activity[:, self.program], activity[:, self.gate]
        answers = np.stack([own, np.tanh(2 * own), own * (1 + np.tanh(gate))])
        return self.slope * np.take_along_axis(answers, self.answer[None, None], axis=0)[0]


def simulate_tumor_type(folder: Path, patients: int = 320, seed: int = 7) -> None:
    """Write a raw folder of the task ``tumor_type``: counts per million of six cohorts and a rare one."""
    genes = Genes.draw(np.random.default_rng([seed, 0]))
    samples, per_million = _profiles(genes, TUMOR_TYPE, "SIM-TT", patients, np.random.default_rng([seed, 1]))
    write_profiles(folder, samples, genes.table["gene"], per_million)
    genes.table.to_csv(folder / "genes.csv", index=False)


def simulate_gene_expression(folder: Path, patients: int = 230, seed: int = 7) -> None:
    """Write a raw folder of the task ``gene_expression``: log2(counts per million + 1) of four cohorts."""
    genes = Genes.draw(np.random.default_rng([seed, 0]))
    rng = np.random.default_rng([seed, 2])
    samples, per_million = _profiles(genes, GENE_EXPRESSION, "SIM-GE", patients, rng)
    low, outside = np.isfinite(genes.low_reads), genes.program < 0
    few = rng.choice(np.flatnonzero(outside & low), 35, replace=False)
    many = rng.choice(np.flatnonzero(outside & ~low), 25, replace=False)
    shipped = np.sort(np.concatenate([np.flatnonzero(~outside), few, many]))
    table = genes.table.iloc[shipped]
    write_profiles(folder, samples, table["gene"], np.log2(per_million[:, shipped] + 1))
    table.to_csv(folder / "genes.csv", index=False)


def _places(members: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the chromosome and the start, in base pairs, of each gene; half of a program lies on one arm."""
    arms = [(name, 0, middle) for name, (_, middle) in _CHROMOSOMES.items() if name not in _SHORT_ARMS_LEFT_OUT]
    arms += [(name, middle, end) for name, (end, middle) in _CHROMOSOMES.items()]
    lengths = np.array([end - begin for _, begin, end in arms])
    arm = rng.choice(len(arms), _GENES, p=lengths / lengths.sum())
    homes = rng.choice(np.flatnonzero(lengths >= 40), len(members), replace=False)
    # Every second gene, landmark or not.
    arm[members[:, ::2]] = homes[:, None]
    begin, end = np.array([bounds[1:] for bounds in arms])[arm].T
    start = ((begin + (end - begin) * rng.random(_GENES)) * 1e6).astype(np.int64) + 1
    return np.array([arms[index][0] for index in arm]), start


def _profiles(
    genes: Genes, design: Design, prefix: str, patients: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the samples, sorted by their ids, and counts per million of shape ``(samples, genes)``."""
    samples = _samples(design, prefix, patients, rng)
    patient = pd.factorize(samples["patient_id"])[0]
    activity = _activity(samples, patient, design, rng)
    shift = np.where((samples["platform"] == PLATFORMS[1]).to_numpy()[:, None], rng.normal(0, 0.2, _GENES), 0)
    own = rng.normal(0, design.own, (patient.max() + 1, _GENES))[patient]

    level = genes.abundance(design)
    abundance = np.exp2(level + design.effect * genes.change(activity) + shift + own)
    rest = (1 - design.panel) * 1e6
    library = np.round(design.library * np.exp(rng.normal(0, 0.45, len(samples)))).astype(np.int64)
    mean = library[:, None] * abundance / (abundance.sum(axis=1, keepdims=True) + rest)
    dispersion = (0.08 + 1 / mean.mean(axis=0)) * np.exp(rng.normal(0, 0.4, _GENES))
    reads = rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, mean.shape))
    return samples.assign(library_size=library, simulated="true"), reads / library[:, None] * 1e6


def _samples(design: Design, prefix: str, patients: int, rng: np.random.Generator) -> pd.DataFrame:
    shares = np.array(list(design.cohorts.values()), float)
    bounds = np.round(np.cumsum(shares) / shares.sum() * patients).astype(int)
    common = np.repeat(list(design.cohorts), np.diff(bounds, prepend=0))
    # A patient's number is independent of the cohort.
    label = rng.permutation([*common, *[RARE] * design.rare])
    named = np.array([f"{prefix}-{number + 1:04d}" for number in range(len(label))])
    candidates = np.flatnonzero(label != RARE)
    rows = [(index, PRIMARY) for index in range(len(label))]
    for kind, share in ((METASTASIS, design.second), (NORMAL, design.normals)):
        rows += [(index, kind) for index in rng.permutation(candidates)[: round(share * patients)]]
    index, kinds = np.array([row[0] for row in rows]), [row[1] for row in rows]
    table = pd.DataFrame({"patient_id": named[index], "label": label[index], "sample_type": kinds})
    table.insert(0, "sample_id", table["patient_id"] + "-" + table["sample_type"])
    table = table.sort_values("sample_id", ignore_index=True)
    # Continued from one cohort to the next: a new start would put most of the small ones on the first platform.
    dealt = table.iloc[rng.permutation(len(table))].sort_values(["sample_type", "label"], kind="stable").index
    table.loc[dealt, "platform"] = np.resize([PLATFORMS[turn] for turn in (0, 1, 0, 1, 0)], len(table))
    return table


def _activity(samples: pd.DataFrame, patient: np.ndarray, design: Design, rng: np.random.Generator) -> np.ndarray:
    """Return ``z``, shape ``(samples, programs)``."""
    cohort = np.array([[_COHORTS[label].get(program, 0.0) for program in PROGRAMS] for label in samples["label"]])
    normal = (samples["sample_type"] == NORMAL).to_numpy()
    metastasis = (samples["sample_type"] == METASTASIS).to_numpy()
    purity = np.where(normal, 0, rng.beta(7, 3, len(samples)))
    stroma, proliferation = PROGRAMS.index("stroma"), PROGRAMS.index("proliferation")

    noise = np.sqrt(0.7) * rng.normal(0, 1, (patient.max() + 1, len(PROGRAMS)))[patient]
    noise += np.sqrt(0.3) * rng.normal(0, 1, noise.shape)
    activity = design.contrast * np.where(normal, 1 / 3, purity)[:, None] * cohort + design.spread * noise
    activity[:, stroma] += 2 * (0.7 - purity) + 0.4 * metastasis
    activity[:, proliferation] += np.where(normal, -1.2, 0.4 * metastasis)
    return activity


def write_profiles(folder: Path, samples: pd.DataFrame, genes: Iterable[str], values: np.ndarray) -> None:
    """Write ``expression.parquet`` and ``samples.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    # Rounded for size; floats that hardly repeat are smaller without a dictionary.
    table = pd.DataFrame(np.round(values, 3).astype(np.float32), columns=list(genes))
    table.insert(0, "sample_id", samples["sample_id"])
    table.to_parquet(folder / "expression.parquet", index=False, compression="zstd", use_dictionary=False)
    samples.to_csv(folder / "samples.csv", index=False)
