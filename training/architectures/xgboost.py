"""Gradient-boosted trees (Chen and Guestrin, 2016)."""

from training.architectures import Range, architecture, joined, ranges
from training.features.cell_line import cell_line_space
from training.features.expression_profile import combat_space
from training.features.mechanism import mechanism_space
from training.trees.boosters import BoostingChoices
from training.trees.images import ImageTrees, feature_space
from training.trees.profiles import TREE_SELECTIONS, GeneTargetTrees, ProfileLabelTrees
from training.trees.responses import PairTrees, Start

TITLE = "XGBoost"

SPACE = joined(
    ranges(
        learning_rate=Range(0.01, 0.2, log=True),
        depth=Range(3, 9),
        row_share=Range(0.5, 1.0),
        column_share=Range(0.05, 0.7),
        min_child_weight=Range(1.0, 1000.0, log=True),
        l2=Range(0.1, 200.0, log=True),
        components=[0, 64],
    ),
    cell_line_space,
    ranges(identity=["profile", "none"], start=["bilinear", "drug_mean", "none"]),
    mechanism_space,
)


@architecture("pairs", "regression", space=SPACE, role="simple")
class XGBoost(BoostingChoices, PairTrees):
    """Boosted trees on pair features, stopped early on the validation rows."""

    learning_rate: float = 0.03
    depth: int = 6
    row_share: float = 0.7
    min_child_weight: float = 50.0
    l2: float = 20.0
    components: int = 64
    identity: str = "profile"
    profile_components: int = 16
    bits: int = 256
    mechanism: bool = False
    start: Start = "bilinear"
    rounds: int = 1500


IMAGE_SPACE = joined(
    feature_space,
    ranges(
        learning_rate=Range(0.03, 0.3, log=True),
        depth=Range(2, 7),
        row_share=Range(0.5, 1.0),
        column_share=Range(0.05, 0.7, log=True),
        min_child_weight=Range(0.1, 20.0, log=True),
        l2=Range(0.1, 30.0, log=True),
        balanced=[True, False],
    ),
)


@architecture("images", "classification", space=IMAGE_SPACE, role="simple")
class ImageXGBoost(BoostingChoices, ImageTrees):
    """Boosted trees on features of images, stopped early on the validation rows."""

    features: str = "descriptors"
    isolation: str = "none"
    exchange: str = "none"
    color: str = "as_is"
    balanced: bool = True


PROFILE_SPACE = joined(
    ranges(
        selection=TREE_SELECTIONS,
        learning_rate=Range(0.08, 0.3, log=True),
        depth=Range(2, 4),
        row_share=Range(0.5, 1.0),
        column_share=Range(0.05, 0.3, log=True),
        min_child_weight=Range(0.1, 5.0, log=True),
        l2=Range(0.1, 10.0, log=True),
        balanced=[True, False],
    ),
    combat_space,
)


@architecture("profiles", "classification", space=PROFILE_SPACE, role="simple")
class ProfileXGBoost(BoostingChoices, ProfileLabelTrees):
    """Boosted trees on expression profiles, stopped early on the validation rows."""

    selection: str = "all"
    combat: str = "none"
    learning_rate: float = 0.15
    depth: int = 3
    column_share: float = 0.1
    balanced: bool = True
    rounds: int = 400
    patience: int = 15


GENE_SPACE = ranges(
    selection=TREE_SELECTIONS,
    learning_rate=Range(0.05, 0.2, log=True),
    depth=Range(2, 4),
    row_share=Range(0.5, 1.0),
    column_share=Range(0.03, 0.3, log=True),
    min_child_weight=Range(1.0, 20.0, log=True),
    l2=Range(0.1, 10.0, log=True),
)


@architecture("profiles", "multi_target", space=GENE_SPACE, role="simple")
class GeneXGBoost(BoostingChoices, GeneTargetTrees):
    """Boosted trees for each target gene, stopped early on the validation rows."""

    selection: str = "all"
    learning_rate: float = 0.08
    depth: int = 3
    row_share: float = 0.7
    column_share: float = 0.1
    min_child_weight: float = 3.0
    rounds: int = 300
    patience: int = 15
