"""A site: its own folder, split by its own groups. It answers lists, sums and weights, and nothing else."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from pipelines.datasets import prepare
from pipelines.errors import UserError
from pipelines.groups import sample_identities
from pipelines.params import Params, read_params
from pipelines.problems import get_problem
from training.architectures import get_architecture
from training.estimator import Estimator, FitContext
from training.federated.plan import Plan
from training.federated.private import epsilon, private_loop
from training.federated.records import from_bytes, from_record, to_record
from training.federated.secure import masked
from training.federated.statistics import Sums, agreeable, of_modality
from training.federated.weights import received, sent
from training.networks.loop import Trained, train_network

LISTS, SUMS, WEIGHTS = "lists", "sums", "weights"  # what a site is asked for
FEWEST_GROUPS = 6  # of a site: sums over fewer would tell of single ones


def hashed(samples: Any, mode: str) -> list[set[str]]:
    """Return for each sample the hashes of its id and of what must not be on two sides of a split."""
    columns = [samples.table["sample_id"], *sample_identities(samples, mode).values()]
    found: list[set[str]] = [set() for _ in range(len(samples))]
    for column in columns:
        made = {each: hashlib.sha256(str(each).encode()).hexdigest()[:32] for each in set(column.dropna())}
        for own, each in zip(found, column, strict=True):
            own.update([made[each]] if each in made else [])
    return found


class Site:
    """The rows of one folder that the coordinator does not hold out; ``name`` is for people."""

    def __init__(self, name: str, folder: Path, params: Params, plan: Plan) -> None:
        self.name, self.params, self.task = name, params, params.task(plan.task)
        kept = self.task.read(folder, classes=plan.classes)
        held_out = set(plan.left_out)
        free = np.array([not (own & held_out) for own in hashed(kept.samples, self.task.split.mode)], dtype=bool)
        self.left_out = int((~free).sum())
        if not free.any():
            raise UserError(f"{folder}: the coordinator holds out all samples; give the site others")
        prepared = prepare(replace(kept, samples=kept.samples.take(free)), self.task, params.seed)
        rows = prepared.rows("train", "test")  # what is tested lies at the coordinator
        self.groups = prepared.table["group"].to_numpy()[rows]
        if len(np.unique(self.groups)) < FEWEST_GROUPS:
            raise UserError(
                f"{folder}: fewer than {FEWEST_GROUPS} groups to train on; sums over them would tell of each"
            )
        self.train, self.validation = prepared.samples.take(rows), prepared.side("validation")

    def estimator(self, plan: Plan, round_number: int = 1) -> Estimator:
        """Return the unfitted estimator of a round."""
        return built(plan, self.params, round_number)

    def lists(self) -> dict[str, Any]:
        """Return names, see `training.federated.statistics`."""
        found: dict[str, Any] = of_modality(self.task.modality).lists(self.train)
        return found

    def sums(self, plan: Plan, step: str, agreed: dict[str, Any]) -> Sums:
        """Return the sums of a step."""
        found: Sums = of_modality(self.task.modality).sums(step, self.train, agreed, self.estimator(plan))
        return found

    def weights(self, plan: Plan, round_number: int, start: dict[str, Any]) -> tuple[Sums, dict[str, float]]:
        """Return the weights after the local epochs of a round, and what was measured."""
        loop: Callable[..., Trained] | None = None
        if plan.private:
            loop = private_loop(plan, self.groups)
        elif plan.strategy == "fedprox":
            loop = proximal_loop(plan.proximal)
        estimator = self.estimator(plan, round_number)
        estimator.fit(self.train, None, FitContext(start=start, loop=loop))
        found: dict[str, float] = {"num-examples": len(self.train), "groups": len(np.unique(self.groups))}
        if plan.private:  # what is not noised is not told
            found["epsilon"] = epsilon(plan, len(np.unique(self.groups)), round_number)
        else:
            found["train_loss"] = vars(estimator)["trained_"].history[-1]["train_loss"]
        return sent(estimator.state()["weights"], estimator.still), found

    def score(self, plan: Plan, start: dict[str, Any]) -> dict[str, float]:
        """Return the task's metric of the common weights on the site's own validation rows."""
        outputs = self.estimator(plan).restore(start).outputs(self.validation)
        metric = plan.metric or self.task.tune.metric
        value = get_problem(self.task.problem).score(metric, self.validation.target, outputs)
        return {"num-examples": len(self.validation), "score": value}


def built(plan: Plan, params: Params, round_number: int = 1) -> Estimator:
    """Return the unfitted estimator of a round; without privacy its learning rate falls along a cosine over the rounds.

    `UserError` where the architecture cannot go on from common weights.
    """
    task = params.task(plan.task)
    architecture = get_architecture(plan.architecture, task.modality, task.problem)
    if not architecture.estimator.starts:
        raise UserError(f"{plan.architecture} cannot be federated: it learns more than weights from its rows")
    chosen = agreeable(architecture, plan.hyperparameters)
    settings = {**vars(task.tune), "epochs": plan.epochs, "seed": params.seed + round_number - 1}
    settings["device"] = params.device
    made = architecture.build(chosen, **{name: value for name, value in settings.items() if name not in chosen})
    if not plan.private:
        fallen = 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (round_number - 1) / plan.rounds))
        made.set_params(learning_rate=made.get_params()["learning_rate"] * fallen)
    return made


def proximal_loop(strength: float) -> Callable[..., Trained]:
    """Return a loop that draws the weights to those that it starts from (Li et al., 2020)."""

    def train(network: nn.Module, loss: Callable[[Tensor], Tensor], n_rows: int, monitor: Any, **how: Any) -> Trained:
        own = [each for each in network.parameters() if each.requires_grad]
        common = [each.detach().clone() for each in own]

        def pulled(rows: Tensor) -> Tensor:
            apart = torch.stack([(mine - start).square().sum() for mine, start in zip(own, common, strict=True)])
            return loss(rows) + strength / 2 * apart.sum()

        return train_network(network, pulled, n_rows, monitor, **how)

    return train


@lru_cache(maxsize=32)
def _site(name: str, folder: str, plan: Plan) -> Site:
    return Site(name, Path(folder), read_params(), plan)


app = ClientApp(mods=[masked])


@app.train()
def answer(message: Message, context: Context) -> Message:
    """Answer a request for lists, sums or weights."""
    config, site, plan = _asked(message, context)
    if config["asks"] == LISTS:
        about = {"site": site.name, "lists": json.dumps(site.lists()), "left_out": site.left_out}
        return Message(RecordDict({"about": ConfigRecord(about)}), reply_to=message)
    agreed = from_bytes(config["agreed"])
    if config["asks"] == SUMS:
        record = to_record(site.sums(plan, str(config["step"]), agreed))
        return Message(RecordDict({"arrays": record}), reply_to=message)
    weights, found = site.weights(plan, int(config["server-round"]), _start(agreed, message))
    content = {"arrays": to_record(weights), "metrics": MetricRecord(found), "about": ConfigRecord({"site": site.name})}
    return Message(RecordDict(content), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer how good the common weights are on the site's validation rows."""
    config, site, plan = _asked(message, context)
    start = _start(from_bytes(config["agreed"]), message)
    content = {"metrics": MetricRecord(site.score(plan, start)), "about": ConfigRecord({"site": site.name})}
    return Message(RecordDict(content), reply_to=message)


def _start(agreed: dict[str, Any], message: Message) -> dict[str, Any]:
    """Return the state that a request brings: weights that do not move are among what was agreed."""
    return agreed | {"weights": agreed["weights"] | received(from_record(message.content["arrays"]))}


def _asked(message: Message, context: Context) -> tuple[Any, Site, Plan]:
    config, given = message.content["config"], context.node_config
    if "data" not in given:
        raise UserError("""the site has no folder; start it with --node-config 'data="DIR"'""")
    folder, plan = str(given["data"]), Plan.read(str(config["plan"]))
    return config, _site(str(given.get("name", Path(folder).name)), folder, plan), plan
