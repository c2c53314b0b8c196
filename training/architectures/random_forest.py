"""Random Forest (Breiman, 2001), grown in XGBoost: see `training.trees.responses` for why."""

from dataclasses import dataclass
from typing import Any, ClassVar

from training.architectures import Range, architecture, joined, ranges
from training.features.cell_line import cell_line_space
from training.features.expression_profile import combat_space
from training.features.mechanism import mechanism_space
from training.trees.images import ImageTrees, feature_space
from training.trees.profiles import TREE_SELECTIONS, GeneTargetTrees, ProfileLabelTrees
from training.trees.responses import PairTrees, Start


@dataclass(eq=False, repr=False, kw_only=True)
class _Forest:
    """Hyperparameters of trees on random rows and, at every split, random columns, whose answers are averaged."""

    depth: int = 12
    row_share: float = 0.7
    column_share: float = 0.1
    min_child_weight: float = 0.3
    trees: int = 200
    seed: int = 0
    device: str = "auto"
    l2: ClassVar[float] = 0.1
    rounds: ClassVar[int] = 1
    patience: ClassVar[int | None] = None

    def _booster_params(self) -> dict[str, Any]:
        return {
            "eta": 1.0,
            "max_depth": self.depth,
            "subsample": self.row_share,
            "colsample_bynode": self.column_share,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.l2,
            "num_parallel_tree": self.trees,
        }


SPACE = joined(
    ranges(
        depth=Range(8, 14),
        row_share=Range(0.3, 0.9),
        column_share=Range(0.1, 0.7),
        min_child_weight=Range(1.0, 50.0, log=True),
        components=[32, 64],
    ),
    cell_line_space,
    ranges(identity=["profile", "none"], center=[True, False]),
    mechanism_space,
)


@architecture("pairs", "regression", space=SPACE, role="simple")
class RandomForest(_Forest, PairTrees):
    """A forest on pair features."""

    row_share: float = 0.6
    column_share: float = 0.3
    min_child_weight: float = 10.0
    components: int = 64
    identity: str = "profile"
    profile_components: int = 16
    bits: int = 256
    mechanism: bool = False
    center: bool = True
    trees: int = 100
    l2 = 0.0

    @property
    def start(self) -> Start:
        """Return what the trees are added to."""
        return "drug_mean" if self.center else "none"


IMAGE_SPACE = joined(
    feature_space,
    ranges(
        depth=Range(6, 16),
        row_share=Range(0.4, 0.9),
        column_share=Range(0.02, 0.4, log=True),
        min_child_weight=Range(0.05, 10.0, log=True),
        balanced=[True, False],
    ),
)


@architecture("images", "classification", space=IMAGE_SPACE, role="simple")
class ImageRandomForest(_Forest, ImageTrees):
    """The same forest on features of images."""

    features: str = "descriptors"
    isolation: str = "none"
    exchange: str = "none"
    color: str = "as_is"
    balanced: bool = True


PROFILE_SPACE = joined(
    ranges(
        selection=TREE_SELECTIONS,
        depth=Range(6, 14),
        row_share=Range(0.4, 0.9),
        column_share=Range(0.03, 0.25, log=True),
        min_child_weight=Range(0.02, 2.0, log=True),
        balanced=[True, False],
    ),
    combat_space,
)


@architecture("profiles", "classification", space=PROFILE_SPACE, role="simple")
class ProfileRandomForest(_Forest, ProfileLabelTrees):
    """The same forest on expression profiles."""

    min_child_weight: float = 0.05
    selection: str = "all"
    combat: str = "none"
    balanced: bool = False
    trees: int = 100


GENE_SPACE = ranges(
    selection=TREE_SELECTIONS,
    depth=Range(5, 10),
    row_share=Range(0.4, 0.9),
    column_share=Range(0.05, 0.4, log=True),
    min_child_weight=Range(2.0, 15.0, log=True),
)


@architecture("profiles", "multi_target", space=GENE_SPACE, role="simple")
class GeneRandomForest(_Forest, GeneTargetTrees):
    """The same forest for each target gene."""

    depth: int = 8
    column_share: float = 0.2
    min_child_weight: float = 5.0
    selection: str = "all"
    trees: int = 100
