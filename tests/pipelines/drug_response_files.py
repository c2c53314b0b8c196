"""Stand-ins of the official files of GDSC, DepMap and the CCLE: their columns, with invented lines and values."""

import gzip
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd

# A cell line; the empty identifiers are those that DepMap's table lacks.
Line = namedtuple("Line", "model name ccle cosmic sanger tissue alias", defaults=[""])
LINES = [
    Line("ACH-000101", "Alpha-1", "ALPHA1_LUNG", "900101", "SIDM00101", "Lung"),
    Line("ACH-000102", "Beta 2", "BETA2_BREAST", "900102", "SIDM00102", "Breast"),
    Line("ACH-000103", "G.G", "GG_OESOPHAGUS", "900103", "", "Esophagus"),  # differs from the next in a dot alone
    Line("ACH-000104", "GG", "GG_THYROID", "900104", "SIDM00104", "Thyroid"),
    Line("ACH-000105", "Delta:5", "DELTA5_SKIN", "", "", "Skin", "Old Delta, D5"),  # known by its names alone
    Line("ACH-000106", "Zeta-A", "ZETAA_BONE", "900106", "SIDM00106", "Bone"),
    Line("ACH-000107", "Zeta-B", "ZETAB_BONE", "900106", "SIDM00106", "Bone"),  # the identifiers of the one before
    Line("ACH-000108", "Theta", "THETA_LUNG", "900108", "SIDM00108", "Lung"),
    Line("ACH-000109", "Iota", "IOTA_LUNG", "900109", "", "Lung"),
    Line("ACH-000110", "Kappa", "KAPPA_SKIN", "", "SIDM00110", "Skin"),
    Line("ACH-000111", "Lambda", "LAMBDA_BREAST", "900111", "SIDM00111", "Breast"),
    Line("ACH-000113", "Mu", "MU_OVARY", "900113", "SIDM00113", "Ovary"),
    Line("ACH-000112", "Never", "NEVER_OVARY", "900112", "SIDM00112", "Ovary"),  # not screened
]
SCREENED = [  # what GDSC writes: Sanger id, COSMIC id, name; and the model it must become, if it is certain
    ("SIDM00101", "900101", "ALPHA-1", "ACH-000101"),
    ("SIDM00102", "900102", "Beta2", "ACH-000102"),
    ("SIDM00103", "900103", "G.G", "ACH-000103"),
    ("SIDM00104", "900104", "GG", "ACH-000104"),
    ("SIDM00105", "900105", "old-delta", "ACH-000105"),
    ("SIDM00106", "900106", "Zeta", ""),  # two models
    ("SIDM00108", "999999", "Theta", ""),  # another COSMIC id than the model's
    ("SIDM00109", "900109", "IOTA", "ACH-000109"),
    ("SIDM00110", "900110", "Kappa", "ACH-000110"),
    ("SIDM00111", "900111", "Lambda", "ACH-000111"),
    ("SIDM00113", "900113", "MU", "ACH-000113"),
    ("SIDM00999", "900999", "Omega", ""),  # in no table
]
CERTAIN = [model for *_, model in SCREENED if model]
INVENTIB = (7, "Inventib", "GENE1", "Signals")  # of both studies
DRUGS = {  # number, name, target, pathway
    "GDSC1": [INVENTIB, (8, "Fictimab", "", ""), (9, "Nullstat", "GENE3, GENE4", "Other")],
    "GDSC2": [INVENTIB, (1011, "Novelate", "GENE5", "DNA"), (1012, "Madeupine", "", "Other")],
}
GENES = {"GENE1": 11, "GENE2": 22, "GENE3": 33, "GENE4": 44, "GENE5": 55, "GENE-6": 66}
RESPONSE_COLUMNS = [
    *("DATASET", "NLME_RESULT_ID", "NLME_CURVE_ID", "COSMIC_ID", "CELL_LINE_NAME", "SANGER_MODEL_ID", "TCGA_DESC"),
    *("DRUG_ID", "DRUG_NAME", "PUTATIVE_TARGET", "PATHWAY_NAME", "COMPANY_ID", "WEBRELEASE", "MIN_CONC", "MAX_CONC"),
    *("LN_IC50", "AUC", "RMSE", "Z_SCORE"),
]


def response_rows(study: str, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng([seed, len(DRUGS[study]), study == "GDSC1"])
    rows: list[tuple[object, ...]] = []
    for drug, name, target, pathway in DRUGS[study]:
        for sanger, cosmic, line, _ in SCREENED:
            z_score, ln_ic50, auc, rmse = (*rng.normal(2, 2, 2).round(6), *rng.uniform(0.01, 0.2, 2).round(6))
            tcga = "UNCLASSIFIED" if line == "Omega" else "LUAD"
            curve = (study, 281, 15_000_000 + len(rows), int(cosmic), line, sanger, tcga)
            compound = (drug, name, target or None, pathway or None, 1046, "Y", 0.001, 10.0)
            rows.append((*curve, *compound, ln_ic50, auc, rmse, z_score))
    return pd.DataFrame(rows, columns=RESPONSE_COLUMNS)


def write_workbook(path: Path, sheets: dict[str, pd.DataFrame]) -> Path:
    """Write a workbook of typed cells, after each table an empty row."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, frame in sheets.items():
        sheet = book.create_sheet(title)
        sheet.append(list(frame.columns))
        for row in frame.astype(object).where(frame.notna(), None).itertuples(index=False):
            sheet.append(list(row))
        sheet.append([None] * frame.shape[1])
    book.save(path)
    return path


def models(*, old: bool = False) -> pd.DataFrame:
    """Return Model.csv, or as ``old`` sample_info.csv."""
    new = ["ModelID", "CellLineName", "StrippedCellLineName", "CCLEName", "COSMICID", "SangerModelID"]
    older = ["DepMap_ID", "cell_line_name", "stripped_cell_line_name", "CCLE_Name", "COSMICID", "Sanger_Model_ID"]
    more = ["lineage", "primary_disease"] if old else ["OncotreeLineage", "OncotreePrimaryDisease"]
    rows = []
    for each in LINES:
        bare = "".join(filter(str.isalnum, each.name)).upper()
        cosmic = f"{each.cosmic}.0" if each.cosmic else ""  # as table programs leave it
        told = (each.model, each.name, bare, each.ccle, cosmic, each.sanger, each.tissue)
        rows.append((*told, f"Cancer of {each.tissue}", each.alias))
    return pd.DataFrame(rows, columns=[*(older if old else new), *more, "alias"])


def profiles(low: float, high: float, seed: int) -> pd.DataFrame:
    """Return a value a line and a gene, with the models as index."""
    values = np.random.default_rng(seed).uniform(low, high, (len(LINES), len(GENES))).round(4)
    return pd.DataFrame(values, pd.Index([each.model for each in LINES]), list(GENES))


EXPRESSION = profiles(0, 12, 1)
COPY_NUMBER = profiles(0.2, 1.9, 2)
METHYLATION = profiles(0, 1, 3).set_axis(
    [f"{gene}_1_{100 * number}_{100 * number + 99}" for number, gene in enumerate(GENES)], axis=1
)
HOTSPOT = (profiles(0, 1, 4) < 0.4).astype(int)


def by_model(values: pd.DataFrame, *, old: bool = False) -> pd.DataFrame:
    """Return a matrix with a model a row; the new layout also has a run of a model that is not its default."""
    frame = values.rename(columns={gene: f"{gene} ({entrez})" for gene, entrez in GENES.items()})
    if old:
        return frame.rename_axis("").reset_index()
    other = frame.iloc[[0]] + 1
    frame = pd.concat([other, frame]).rename_axis("ModelID").reset_index()
    runs = [str(number) for number in range(len(frame))]
    told: dict[str, object] = {"": runs, "SequencingID": [f"CDS-00000{run}" for run in runs]}
    told |= {"ModelID": frame.pop("ModelID"), "IsDefaultEntryForModel": ["No", *["Yes"] * (len(frame) - 1)]}
    told |= {"ModelConditionID": [f"MC-00000{run}-ab" for run in runs], "IsDefaultEntryForMC": "Yes"}
    return pd.concat([pd.DataFrame(told), frame], axis=1)


def calls(*, old: bool) -> pd.DataFrame:
    """Return a table of calls: the hotspots of `HOTSPOT`, and in every sequenced line a silent variant of GENE2."""
    hot = pd.Series(HOTSPOT.stack())
    rows = [(model, gene, True, "missense_variant") for model, gene in hot[hot == 1].index]
    rows += [(model, "GENE2", False, "synonymous_variant") for model in HOTSPOT.index]
    rows += [("ACH-000101", gene, False, "frameshift_variant") for gene in GENES]
    frame = pd.DataFrame(rows, columns=["ModelID", "HugoSymbol", "Hotspot", "VariantInfo"])
    frame["ProteinChange"] = 'p.A1B, "quoted"'
    frame["LikelyLoF"] = frame["VariantInfo"] == "frameshift_variant"
    if not old:
        return frame.assign(IsDefaultEntryForModel="Yes")
    kinds = {"missense_variant": "Missense_Mutation", "synonymous_variant": "Silent"}
    frame["VariantInfo"] = frame["VariantInfo"].map(kinds | {"frameshift_variant": "Frame_Shift_Del"})
    names = ["DepMap_ID", "Hugo_Symbol", "isTCGAhotspot", "Variant_Classification", "Protein_Change", "isDeleterious"]
    return frame.set_axis(names, axis=1).assign(isCOSMIChotspot=False)


def by_feature(values: pd.DataFrame, lead: Mapping[str, object]) -> pd.DataFrame:
    """Return a matrix with a feature a row, and lines under their names of the CCLE."""
    frame = values.rename(index={each.model: each.ccle for each in LINES}).T.reset_index(drop=True)
    return pd.concat([pd.DataFrame(lead), frame], axis=1)


def write_ccle(folder: Path) -> None:
    """Write the layout of RRBS, with its padded gaps and its last row without a name."""
    lead = {"locus_id": METHYLATION.columns, "CpG_sites_hg19": "1:5;1:9", "avg_coverage": [*map(str, range(6))]}
    frame = by_feature(METHYLATION, lead).astype(str)
    frame.loc[1, "ALPHA1_LUNG"] = "     NA"
    frame.loc[2, "ALPHA1_LUNG"] = "\tNA"
    frame.loc[3, "BETA2_BREAST"] = "    NaN"
    text = frame.to_csv(sep="\t", index=False) + "\t" * (frame.shape[1] - 1) + "\n"
    (folder / "CCLE_RRBS_TSS1kb_20181022.txt.gz").write_bytes(gzip.compress(text.encode()))


def write_gdsc(folder: Path) -> None:
    write_workbook(folder / "GDSC1_fitted_dose_response_27Oct23.xlsx", {"Sheet 1": response_rows("GDSC1")})
    response_rows("GDSC2").to_csv(folder / "GDSC2_fitted_dose_response_27Oct23.csv", index=False)
    columns = ["Sample Name", "COSMIC identifier", "GDSC\nTissue descriptor 1", "GDSC\nTissue\ndescriptor 2"]
    rows = [(name, int(cosmic), "lung", "lung_NSCLC") for _, cosmic, name, model in SCREENED if model]
    details = pd.DataFrame(rows, columns=columns)
    details.loc[len(details)] = ["TOTAL:", None, None, None]
    decode = pd.DataFrame({"Key": ["Y"], "Meaning": ["yes"]})
    write_workbook(folder / "Cell_Lines_Details.xlsx", {"Decode": decode, "Cell line details": details})
    (folder / "screened_compounds_rel_8.5.csv").write_text(COMPOUNDS)


def write_new(folder: Path) -> None:
    """Write DepMap's files in the layout of 25Q2 and later."""
    models().drop(columns="alias").to_csv(folder / "Model.csv", index=False)
    by_model(EXPRESSION).to_csv(folder / "OmicsExpressionTPMLogp1HumanProteinCodingGenes.csv", index=False)
    by_model(COPY_NUMBER).to_csv(folder / "OmicsCNGeneWGS.csv", index=False)
    by_model(HOTSPOT).to_csv(folder / "OmicsSomaticMutationsMatrixHotspot.csv", index=False)


def write_old(folder: Path) -> None:
    """Write DepMap's files in the layout of 2022."""
    models(old=True).to_csv(folder / "sample_info.csv", index=False)
    by_model(EXPRESSION, old=True).to_csv(folder / "CCLE_expression.csv", index=False)
    by_model((COPY_NUMBER + 1).apply(np.log2), old=True).to_csv(folder / "CCLE_gene_cn.csv", index=False)
    calls(old=True).to_csv(folder / "CCLE_mutations.csv", index=False)


COMPOUNDS = """DRUG_ID,SCREENING_SITE,DRUG_NAME,SYNONYMS,TARGET,TARGET_PATHWAY
7,SANGER,Inventib,"INV-7, Inventinib",GENE1,Signals
8,MGH,Fictimab,,GENE2,Signals
1011,SANGER,Novelate,,GENE5,DNA
1012,SANGER,Madeupine,MDP,GENE6,Other
"""
SMILES = """drug_id,name,PubChem,SMILES
GDSC1:8,,,CC(=O)Oc1ccccc1C(=O)O
,invent inib,,CN1C=NC2=C1C(=O)N(C(=O)N2C)C
1011,,,C1CCCCC1
,Madeupine,,
"""
