"""Images in classes."""

from collections.abc import Collection
from dataclasses import dataclass

from pipelines.modalities.images import ImagesTask
from pipelines.params import AUTO
from pipelines.problems import WORST_STRESS, get_problem


@dataclass(frozen=True)
class ImageClassesTask(ImagesTask):
    """Images in classes, whose folders are those of the raw format."""

    @property
    def tunable(self) -> tuple[str, ...]:
        """Return what `tune.metric` may be: also ``auto``, see `tuned_by`."""
        return (*super().tunable, AUTO)

    def tuned_by(self, shortcuts: Collection[str]) -> tuple[str, str]:
        """Return what ``auto`` is: the worst stressed value of the leaderboard's metric where there is a shortcut.

        Else the area under the ROC curve if that is the leaderboard's metric, or the log loss.
        """
        if self.tune.metric != AUTO:
            return super().tuned_by(shortcuts)
        ranked = self.evaluate.metric
        if shortcuts:
            worst = ranked if ranked in get_problem(self.problem).tunable else "accuracy"
            return WORST_STRESS + worst, f"the audit finds a shortcut by {', '.join(shortcuts)}"
        return ("roc_auc" if ranked == "roc_auc" else "log_loss"), "the audit finds no shortcut"


TASK = ImageClassesTask
