"""What all sites agree on before they train."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Self

from pipelines.errors import UserError

STRATEGIES = ("fedavg", "fedprox")


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """How a federation trains; it goes to every site with every request."""

    task: str
    architecture: str
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    strategy: str = "fedavg"  # McMahan et al., 2017; or ``fedprox``, Li et al., 2020
    proximal: float = 0.01  # of fedprox: half the penalty on the squared distance from the common weights
    rounds: int = 20
    epochs: int = 2  # of each site in a round
    sites: int = 2  # that agree on lists and sums
    fewest: int = 2  # sites that a round needs
    seconds: float = 3600.0  # that a site may take to answer
    secure: bool = False  # whether the coordinator sees sums over the sites alone, see `training.federated.secure`
    # Differential privacy of a site's groups, see `training.federated.private`; 0 for none.
    noise: float = 0.0  # standard deviation, in units of ``clip``
    clip: float = 1.0  # largest norm of a group's gradient
    share: float = 0.1  # of the groups, drawn for a step
    delta: float = 1e-4
    left_out: Sequence[str] = ()  # hashes of what the coordinator holds out: no site trains on it
    classes: Sequence[str] = ()  # the coordinator's, in the order of its probabilities; rows of others are left out
    metric: str = ""  # of the sites' validation rows; else that of their params.yaml

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise UserError(f"strategy: {self.strategy!r} is none of {', '.join(STRATEGIES)}")
        for name in ("rounds", "epochs", "sites", "fewest", "seconds", "clip"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name}: {getattr(self, name)} must be above 0")
        for name, most in (("share", 1.0), ("delta", 0.5)):
            if not 0 < getattr(self, name) <= most:
                raise UserError(f"{name}: {getattr(self, name)} must be above 0 and at most {most:g}")
        for name in ("proximal", "noise"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}: {getattr(self, name)} must not be below 0")

    @property
    def private(self) -> bool:
        """Whether gradients are clipped and noised."""
        return self.noise > 0

    def text(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    @lru_cache(maxsize=8)
    def read(cls, text: str) -> Self:
        """Return the plan of a `text`, the same object each time."""
        return cls(**json.loads(text))
