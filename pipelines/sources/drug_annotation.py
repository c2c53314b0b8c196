"""Drugs of a response table with what is known of them: names, targets, PubChem ids, and structures as SMILES."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from pipelines.samples import molecules
from pipelines.sources.cell_line_names import stripped
from pipelines.sources.tables import Layout, read_official, whole
from pipelines.text_values import is_unknown

KEYS = ("drug_id", "pubchem_id", "name")
"""By which a structure is found, in this order."""
_ROTATION = re.compile(r"\(\s*([-+±]|\+/-)\s*\)")
_GREEK = re.compile(r"[\u0391-\u03a9\u03b1-\u03c9]")
_SMILES = Layout(
    "table of SMILES",
    {
        "smiles": ("smiles", "canonical_smiles", "isomeric_smiles"),
        "drug_id": ("drug_id",),
        "pubchem_id": ("pubchem_id", "pubchem", "pubchem_cid", "cid"),
        "name": ("drug_name", "name", "compound_name"),
    },
    needed=("smiles",),
    only=True,
)


def read_smiles(path: Path, notes: list[str] | None = None) -> pd.DataFrame:
    """Return ``smiles`` and all of `KEYS`, without rows that have no structure."""
    table = read_official(path, _SMILES, notes)
    if not any(key in table.written for key in KEYS):
        raise table.fault("column_exists", "drug_id", [], f"one of {', '.join(KEYS)} must name the drug")
    if unread := [at for at, smiles in enumerate(table.frame["smiles"]) if smiles and molecules.parse(smiles) is None]:
        message = "RDKit cannot parse the SMILES; correct it, or leave the cell empty"
        raise table.fault("smiles_parses", "smiles", unread, message)
    frame = pd.DataFrame({column: table.frame[column].map(whole) for column in ("smiles", *KEYS)})
    frame["pubchem_id"] = [_pubchem(value) for value in frame["pubchem_id"]]
    return frame[frame["smiles"] != ""]


def annotate(
    response: pd.DataFrame, compounds: pd.DataFrame | None, smiles: pd.DataFrame | None
) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Return a row a drug, and for each reason the drugs that something is not known of.

    A key of two molecules finds neither; of one molecule the SMILES with the most stereochemistry is taken.
    """
    drugs = response.drop_duplicates("drug_id").set_index("drug_id")
    drugs = drugs[["gdsc_drug_id", "drug_name", "putative_target", "pathway_name"]]
    drugs.columns = pd.Index(["gdsc_drug_id", "name", "target", "pathway"])
    unknown: dict[str, list[str]] = {}
    if compounds is None:
        compounds = pd.DataFrame(columns=["name", "synonyms", "target", "pathway", "pubchem_id"], dtype="str")
    else:
        unknown["not among the screened compounds"] = drugs.index[~drugs["gdsc_drug_id"].isin(compounds.index)].tolist()
    known = compounds.reindex(drugs["gdsc_drug_id"]).fillna("").set_index(drugs.index)
    drugs[["synonyms", "pubchem_id"]] = known[["synonyms", "pubchem_id"]]
    for column in ("target", "pathway"):
        drugs[column] = drugs[column].where(drugs[column] != "", known[column])
    drugs["smiles"] = ""
    if smiles is not None:
        found, several = _structures(smiles)
        pairs = {drug: list(_keys(str(drug), row)) for drug, row in drugs.iterrows()}
        drugs["smiles"] = [next((found[key] for key in keys if key in found), "") for keys in pairs.values()]
        unknown["several structures in the table of SMILES"] = [
            str(drug) for drug, keys in pairs.items() if not drugs.at[drug, "smiles"] and several & set(keys)
        ]
    unknown["no SMILES"] = drugs.index[drugs["smiles"] == ""].tolist()
    columns = ["name", "synonyms", "pubchem_id", "smiles", "target", "pathway"]
    return drugs[columns].reset_index(), {why: names for why, names in unknown.items() if names}


def _structures(table: pd.DataFrame) -> tuple[dict[tuple[str, str], str], set[tuple[str, str]]]:
    """Return the SMILES of each key of one molecule, and the other keys."""
    of: dict[tuple[str, str], dict[str, list[str]]] = {}
    for _, row in table.iterrows():
        form = molecules.parent(row["smiles"]) or ""
        for key in KEYS:
            value = next(iter(drug_keys(row[key])), "") if key == "name" else row[key]
            if value:
                of.setdefault((key, value), {}).setdefault(form, []).append(row["smiles"])
    several = {key for key, forms in of.items() if len(forms) > 1}
    alone = {key: next(iter(forms.values())) for key, forms in of.items() if key not in several}
    stereochemistry = re.compile(r"@+|[/\\]")
    return {key: max(of, key=lambda each: len(stereochemistry.findall(each))) for key, of in alone.items()}, several


def drug_keys(name: str) -> list[str]:
    """Return a drug's name without case, accents, blanks and punctuation, after one with the sign of its rotation."""
    if is_unknown(name):
        return []
    text = unicodedata.normalize("NFKC", name).replace("\N{MINUS SIGN}", "-").replace("\N{EN DASH}", "-")
    bare = stripped(_GREEK.sub(_spelt, _ROTATION.sub("", text)))
    signs = "".join(sign.replace("+/-", "±") for sign in _ROTATION.findall(text))
    return [f"{bare}({signs})", bare] if signs else [bare]


def _spelt(letter: re.Match[str]) -> str:
    """Return a Greek letter as it is spelt where only ASCII is: ``beta``."""
    return unicodedata.name(letter[0]).removesuffix(" SYMBOL").split()[-1].replace("LAMDA", "LAMBDA")


def _pubchem(value: str) -> str:
    """Return a PubChem id as digits, also of a float or in scientific notation; "" for any other text."""
    try:
        number = float(value)
    except ValueError:
        return ""
    return str(int(number)) if number.is_integer() and number > 0 else ""


def _keys(drug_id: str, drug: pd.Series) -> Iterable[tuple[str, str]]:
    yield "drug_id", drug_id
    yield "drug_id", drug["gdsc_drug_id"]
    yield "pubchem_id", _pubchem(drug["pubchem_id"])
    for name in (drug["name"], *drug["synonyms"].split(",")):
        yield from (("name", key) for key in drug_keys(name))
