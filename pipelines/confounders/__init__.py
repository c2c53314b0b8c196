"""What should not tell the label, by kind of samples: the features that `pipelines.probes` looks at."""

from __future__ import annotations

import pandas as pd

MOST_LEVELS = 20  # a column with more is a name, not a confounder

# What a column says of the biology, or who the sample is, is no confounder.
_BIOLOGY = frozenset(
    [
        *("tissue", "histology", "tcga_code", "disease", "subtype", "cancer_type", "primary_site", "lineage"),
        *("label", "target", "class", "sample_type", "smiles", "name"),
        *("subject_id", "patient_id", "sample_id", "cell_line_id", "digest"),
    ]
)


def metadata(table: pd.DataFrame) -> pd.DataFrame:
    """Return the other columns of a table of samples: numbers as they are, few-valued text one-hot."""
    columns = [column for column in table.columns if column.casefold() not in _BIOLOGY]
    parts = [pd.DataFrame(index=table.index)]
    for column in columns:
        if pd.api.types.is_numeric_dtype(table[column]):
            parts.append(table[[column]].astype(float))
        elif 2 <= table[column].nunique(dropna=False) <= MOST_LEVELS:
            parts.append(pd.get_dummies(table[column].fillna("missing"), prefix=column, dtype=float))
    return pd.concat(parts, axis=1)
