"""Checks of values against their declared unit or scale, which the name of a column does not show."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

CopyNumberScale = Literal["relative", "log2_plus_1", "log2_ratio", "absolute"]
"""1 is the genome's mean; log2(relative + 1); log2(relative); 2 is diploid."""

HIGHEST_LOG_TPM = 25.0  # TPM add up to a million a sample, so log2(TPM + 1) stays below 20
HIGHEST_COPIES = 1000.0  # relative ones; amplifications above 100 are not known
HIGHEST_LN_IC50 = 20.0  # half a kilomolar
_HIGHEST_AREA = 1.5  # fits overshoot 1 a little
_MOST = 2_000_000  # values that quantiles are taken of
_FEW = 500  # values, too few to judge their distribution
_FEW_FOR_MEDIAN = 50
_TRANSCRIPTOME = 10_000  # genes whose TPM add up to nearly a million
_SPAN_OF_COPIES = 1.23  # log2, from the 1st to the 99th percentile; cancer lines reach 1.3 and more
_MEDIAN_COPIES = {  # lowest and highest median, and what the medians of the scales are
    "relative": (0.6, 1.5, "relative copies have a median near 1, absolute copies near 2, log2 ratios near 0"),
    "log2_plus_1": (0.65, 1.35, "log2(relative + 1) has a median near 1, and log2(absolute + 1) near 1.6"),
    "log2_ratio": (-0.75, 0.6, "log2 ratios have a median near 0, copies near 1 or 2"),
    "absolute": (1.3, 6.0, "absolute copies have a median near 2, relative copies near 1"),
}


@dataclass(frozen=True)
class Doubt:
    """What speaks against a declared scale, for ``certain`` or as unlikely, and which scale it may be."""

    certain: bool
    message: str


class _Summary:
    def __init__(self, known: np.ndarray) -> None:
        self.count, self.whole = len(known), bool((known == np.rint(known)).all())
        self.lowest, self.highest, self.median = float(known.min()), float(known.max()), float(np.median(known))
        self.range = f"the values lie within {self.lowest:g} and {self.highest:g}, with median {self.median:.3g}"


def copy_number_doubt(values: npt.ArrayLike, scale: CopyNumberScale = "relative") -> Doubt | None:
    """Return what speaks against copy numbers of shape ``(lines, genes)`` being on ``scale``, None if nothing does."""
    known = _known(values)
    if not len(known):
        return None
    found, (low, high, usual) = _Summary(known), _MEDIAN_COPIES[scale]
    if found.whole and found.highest > found.lowest:
        whole = f"all values are whole, as absolute copies or calls are; {usual}"
        return None if scale == "absolute" else Doubt(True, whole)
    if scale != "log2_ratio" and found.lowest < 0:
        return Doubt(True, f"{found.range}; copies are never below 0, log2 ratios are")
    copies = {"log2_plus_1": np.exp2, "log2_ratio": np.exp2}.get(scale, np.asarray)(np.minimum(found.highest, 64.0))
    if copies > HIGHEST_COPIES:
        return Doubt(True, f"{found.range}, which is not the scale {scale}")
    if found.count < _FEW_FOR_MEDIAN:
        return None
    if scale == "log2_ratio" and found.lowest >= 0:
        return Doubt(True, f"{found.range}; of log2 ratios about half are below 0")
    if not low <= found.median <= high:
        return Doubt(False, f"{found.range}; {usual}")
    if scale == "relative" and found.highest < 3.5 and found.count >= _FEW:
        first, last = np.quantile(np.log2(np.maximum(known, 2.0**-6)), [0.01, 0.99])
        if last - first < _SPAN_OF_COPIES:
            return Doubt(False, f"{found.range}, and spread as little around 1 as log2(relative + 1) does")
    return None


def log_tpm_doubt(values: npt.ArrayLike) -> Doubt | None:
    """Return what speaks against expression of shape ``(samples, genes)`` being log2(TPM + 1), None if nothing does."""
    table = np.asarray(values, dtype=np.float64)
    known = _known(table)
    if not len(known):
        return None
    found = _Summary(known)
    if found.lowest < 0:
        return Doubt(True, f"{found.range}; log2(TPM + 1) is never below 0, standardized values and log ratios are")
    if found.highest > HIGHEST_LOG_TPM:
        kind = "counts" if found.whole else "TPM or another linear unit"
        return Doubt(True, f"{found.range}; log2(TPM + 1) stays below 20: these are {kind}")
    if found.count < _FEW:
        return None
    if found.whole and found.highest > 1:
        return Doubt(True, "all values are whole, as counts are; log2(TPM + 1) is not")
    two, natural, ten = (float(np.median(np.nansum(base**table - 1, axis=1))) for base in (2.0, np.e, 10.0))
    if two > 1.1e6:
        return Doubt(False, f"2 ** x - 1 adds up to {two:.3g} a sample; TPM add up to at most a million")
    if table.shape[1] >= _TRANSCRIPTOME and two < 5e5:
        for base, total in (("the natural logarithm", natural), ("the decimal logarithm", ten)):
            if 7e5 < total < 1.1e6:
                return Doubt(True, f"2 ** x - 1 adds up to {two:.3g} a sample, TPM to a million: it is {base}")
    if found.highest < 6 and table.shape[1] >= 100:
        return Doubt(False, f"{found.range}; log2(TPM + 1) of most tables exceeds 10, decimal logarithms do not")
    return None


def expression_scale(values: np.ndarray) -> tuple[Literal["linear", "log2", "as_is"], str]:
    """Return the ``data.scale`` that expression of shape ``(samples, genes)`` seems to have, and why."""
    known = _known(values[:, :: values.size // _MOST + 1])
    if not len(known):
        return "as_is", "there are no values"
    lowest, highest = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
    found = _Summary(np.append(known, [lowest, highest]))
    if lowest < 0:
        share = f"{found.range}, and {(known < 0).mean():.1%} are below 0"
        if highest > HIGHEST_LOG_TPM:
            return "linear", f"{share}, as linear intensities without their background are (set those to 0)"
        return "as_is", f"{share}, as log ratios, standardized values and log2(x + 0.001) are"
    if highest > HIGHEST_LOG_TPM:
        kind = "counts" if found.whole else "TPM, FPKM, RSEM or intensities that are no logarithms"
        return "linear", f"{found.range}, as {kind}"
    if highest <= 1:
        return "as_is", f"{found.range}, as shares and ranks do"
    if found.whole and found.count >= _FEW:
        return "linear", f"{found.range}, and all are whole, as counts are"
    other = "; the decimal logarithm (as_is) does so too" if highest < 6 else ""
    return "log2", f"{found.range}, as log2(x + 1) and log2 intensities do{other}"


def methylation_doubt(values: npt.ArrayLike) -> Doubt | None:
    """Return what speaks against values being shares of methylated reads (beta values), None if nothing does."""
    if not len(known := _known(values)):
        return None
    found = _Summary(known)
    if found.lowest < 0:
        return Doubt(True, f"{found.range}; shares are never below 0, M values are: beta is 2 ** M / (2 ** M + 1)")
    if found.highest > 1:
        kind = "percent: divide by 100" if found.highest <= 100 else "no shares"
        return Doubt(True, f"{found.range}; shares end at 1, these are {kind}")
    return None


def response_doubt(values: npt.ArrayLike, drugs: int) -> Doubt | None:
    """Return what speaks against responses of shape ``(n,)`` being ln IC50 in micromolar; few drugs have any range."""
    known = _known(values)
    if len(known) < _FEW or drugs < 10:
        return None
    found = _Summary(known)
    if found.lowest > 0:
        linear = found.highest > HIGHEST_LN_IC50 or float(known.mean()) > 1.5 * found.median
        kind = "IC50 in micromolar; take the natural logarithm" if linear else "pIC50 or nanomolar"
        message = f"{found.range}: none is below 0, where many drugs are; they look like {kind}"
        return Doubt(found.highest > HIGHEST_LN_IC50, message)
    if not -5 < found.median < 6.5:
        return Doubt(False, f"{found.range}; ln of micromolar has a median near 2: is it of nanomolar or molar?")
    low, high = np.quantile(known, [0.01, 0.99])
    if high - low < 6.0:
        return Doubt(
            False,
            f"98 % of the values lie within {low:.3g} and {high:.3g}: as narrow as decimal logarithms; "
            "natural ones span about 10 (multiply log10 by 2.303)",
        )
    return None


def area_doubt(values: np.ndarray) -> Doubt | None:
    """Return what speaks against values being areas under the dose-response curve, as shares."""
    median = float(np.median(values)) if len(values) else 1.0
    if median > _HIGHEST_AREA:
        return Doubt(True, f"the median is {median:.3g}; areas end near 1, these look like percent")
    if median < 0.5 and len(values) >= _FEW:
        message = f"the median is {median:.3g}; areas are near 1 where a drug does nothing, these look like 1 - area"
        return Doubt(False, message)
    return None


DOUBTS: dict[str, Callable[[npt.ArrayLike], Doubt | None]] = {
    "expression": log_tpm_doubt,
    "copy_number": copy_number_doubt,
    "methylation": methylation_doubt,
}
"""Of the omics of a drug-response collection, on the scale of the raw format."""


def _known(values: npt.ArrayLike) -> np.ndarray:
    flat = np.asarray(values, dtype=np.float64).ravel()
    flat = flat[np.isfinite(flat)]
    return flat if len(flat) <= _MOST else np.append(flat[:: len(flat) // _MOST + 1], [flat.min(), flat.max()])
