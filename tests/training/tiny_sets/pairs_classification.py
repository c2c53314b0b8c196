"""The same responses, called sensitive or resistant."""

from functools import cached_property

import numpy as np
from scipy.special import expit
from sklearn.metrics import log_loss

from pipelines.datasets import Prepared, prepare
from pipelines.samples.response import Kept, ResponseSamples
from pipelines.tasks.pairs_classification import Threshold
from tests.training.tiny import response_task, sensitivity_task, tiny_params
from tests.training.tiny_sets import pairs_regression


class Tiny(pairs_regression.Tiny):
    """The target is the call."""

    choices = 2
    miss = 0.1
    certain = False
    bounds = (1.0, 1.3)  # so few lines prove nothing of others, see `tests.end_to_end.test_new_tasks`

    @cached_property
    def prepared(self) -> Prepared:
        params, measured = tiny_params(), super().prepared
        task = sensitivity_task(response_task(params), Threshold("quantile", 2.0, 0.3))
        return prepare(Kept(measured.samples, measured.counts), task, params.seed)

    def odd(self, samples: ResponseSamples) -> ResponseSamples:
        return self.with_holes(samples)

    def error(self, outputs: np.ndarray, samples: ResponseSamples) -> float:
        return float(log_loss(samples.target, outputs, labels=[0, 1]))

    def naive(self, samples: ResponseSamples) -> float:
        sensitive = self.prepared.side("train").target.mean()
        return self.error(np.tile([1 - sensitive, sensitive], (len(samples), 1)), samples)

    def outputs_of(self, explained: np.ndarray) -> np.ndarray:
        np.testing.assert_allclose(explained[:, 0], -explained[:, 1], atol=1e-4)
        return expit(explained)
