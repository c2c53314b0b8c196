"""The coordinator: it brings the sites to agree on features, and averages their weights by Flower's strategies."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedProx

from pipelines.errors import UserError
from pipelines.params import Params
from pipelines.problems import higher_is_better
from training.estimator import Estimator
from training.federated.plan import Plan
from training.federated.records import from_record, to_bytes, to_record
from training.federated.secure import ROWS, SecureGrid, secure_sum
from training.federated.site import LISTS, SUMS, WEIGHTS, built
from training.federated.statistics import Sums, of_modality
from training.federated.weights import received, sent

OnRound = Callable[[int, list[dict[str, Any]]], None]
_WAIT = 2.0  # seconds between looks for sites


@dataclass
class Federated:
    """The result of a federation."""

    estimator: Estimator
    plan: Plan
    sites: list[dict[str, Any]]  # name, rows, groups, rows that were left out, and with privacy ``epsilon``
    rounds: list[list[dict[str, Any]]] = field(default_factory=list)  # of each round what each site measured
    best_round: int = 0

    def about(self) -> dict[str, Any]:
        """Return what receipt, evidence and model card keep."""
        plan = self.plan
        spent = [site["epsilon"] for site in self.sites if "epsilon" in site]
        private = (
            {"epsilon": max(spent), "delta": plan.delta, "noise": plan.noise, "clip": plan.clip} if spent else None
        )
        how = {"strategy": plan.strategy, "rounds": plan.rounds, "local_epochs": plan.epochs, "secure": plan.secure}
        return {"sites": self.sites, **how, "best_round": self.best_round, "privacy": private}


def federate(grid: Grid, plan: Plan, params: Params, on_round: OnRound | None = None) -> Federated:
    """Train at the sites of ``grid``; ``on_round`` gets the number of a round and what each site measured in it.

    Without privacy the weights of the round are kept that is best on the sites' validation rows, else the last.
    """
    nodes = _present(grid, plan)
    begun, sites = agree(grid, nodes, plan, params)
    state = begun.state()
    moved = sent(state["weights"], begun.still)
    state["weights"] = {name: value for name, value in state["weights"].items() if name not in moved}
    agreed = to_bytes(state)
    metric = plan.metric or params.task(plan.task).tune.metric
    sign = 1.0 if higher_is_better(metric) else -1.0
    found = Federated(begun, plan, sites)
    heard: dict[str, dict[str, Any]] = {}
    best: tuple[float, dict[str, np.ndarray]] = (-np.inf, moved)

    def trained(contents: list[RecordDict], key: str) -> MetricRecord:
        for content in contents:
            heard.setdefault(name := str(content["about"]["site"]), {"site": name}).update(content["metrics"])
        return MetricRecord()

    def scored(contents: list[RecordDict], key: str) -> MetricRecord:
        for content in contents:
            heard.setdefault(name := str(content["about"]["site"]), {"site": name}).update(
                score=content["metrics"]["score"], validation_rows=content["metrics"][ROWS]
            )
        return MetricRecord()

    def after(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        nonlocal best
        if number == 0:
            return None
        if not heard:
            raise UserError(f"round {number}: fewer than {plan.fewest} sites answered; see their logs")
        rounds = [heard.pop(name) for name in sorted(heard)]
        scores = [(row["score"], row["validation_rows"]) for row in rounds if np.isfinite(row.get("score", np.nan))]
        value = sign * weighted(scores) if scores else float(number)
        if value > best[0]:
            best, found.best_round = (value, from_record(arrays)), number
        found.rounds.append(rounds)
        if on_round is not None:
            on_round(number, rounds)
        return None

    nothing = 0.0 if plan.private else 1.0
    how: dict[str, Any] = {"fraction_evaluate": nothing, "min_evaluate_nodes": plan.fewest}
    how |= {"min_train_nodes": plan.fewest, "min_available_nodes": plan.fewest}
    how |= {"train_metrics_aggr_fn": trained, "evaluate_metrics_aggr_fn": scored}
    strategy = FedProx(**how, proximal_mu=plan.proximal) if plan.strategy == "fedprox" else FedAvg(**how)
    request = {"asks": WEIGHTS, "plan": plan.text(), "agreed": agreed}
    strategy.start(
        cast(Grid, SecureGrid(grid)) if plan.secure else grid,
        to_record(moved),
        plan.rounds,
        timeout=plan.seconds,
        train_config=ConfigRecord(dict(request)),
        evaluate_config=ConfigRecord(dict(request)),
        evaluate_fn=after,
    )
    for site in found.sites:
        own = [row for rounds in found.rounds for row in rounds if row["site"] == site["site"] and ROWS in row]
        site |= {key: own[-1][key] for key in (ROWS, "groups", "epsilon") if own and key in own[-1]}
    begun.restore(state | {"weights": state["weights"] | received(best[1])})
    return found


def weighted(values: list[tuple[float, float]]) -> float:
    """Return the mean of values with their weights."""
    return float(np.average([value for value, _ in values], weights=[weight for _, weight in values]))


def agree(grid: Grid, nodes: list[int], plan: Plan, params: Params) -> tuple[Any, list[dict[str, Any]]]:
    """Return the estimator as it is before training, and the sites; UserError where one does not answer."""
    of = of_modality(params.task(plan.task).modality)
    found = [reply["about"] for reply in _replies(grid, _requests(nodes, plan, asks=LISTS), plan)]
    agreed: dict[str, Any] = of.agree([json.loads(str(about["lists"])) for about in found])
    estimator = built(plan, params)
    for step in of.STEPS:
        agreed[step] = _total(grid, _requests(nodes, plan, asks=SUMS, step=step, agreed=to_bytes(agreed)), plan)
    sites = [{"site": str(about["site"]), "left_out": about["left_out"]} for about in found]
    return of.begin(estimator, agreed), sorted(sites, key=lambda site: site["site"])


def _present(grid: Grid, plan: Plan) -> list[int]:
    """Return the nodes, when there are as many as planned; UserError where they do not come."""
    end = time.monotonic() + plan.seconds
    while len(nodes := sorted(grid.get_node_ids())) < plan.sites:
        if time.monotonic() > end:
            raise UserError(f"{len(nodes)} of {plan.sites} sites came within {plan.seconds:.0f} s; start the others")
        time.sleep(_WAIT)
    return nodes


def _requests(nodes: Iterable[int], plan: Plan, **config: Any) -> list[Message]:
    content = RecordDict({"config": ConfigRecord({"plan": plan.text(), **config})})
    return [Message(content, node, "train") for node in nodes]


def _replies(grid: Grid, requests: list[Message], plan: Plan) -> list[RecordDict]:
    """Return what all sites answer."""
    replies = list(grid.send_and_receive(requests, timeout=plan.seconds))
    if failed := [str(reply.error.reason) for reply in replies if reply.has_error()]:
        raise UserError(f"{len(failed)} sites could not answer; see their logs: {failed[0]}")
    if len(replies) < len(requests):
        raise UserError(f"{len(replies)} of {len(requests)} sites answered within {plan.seconds:.0f} s")
    return [reply.content for reply in replies]


def _total(grid: Grid, requests: list[Message], plan: Plan) -> Sums:
    """Return the sums over all sites."""
    if not plan.secure:
        each = [from_record(content["arrays"]) for content in _replies(grid, requests, plan)]
        return {name: np.sum([sums[name] for sums in each], axis=0) for name in each[0]}
    total, replies = secure_sum(grid, requests, plan.seconds)
    if len(replies) < len(requests):
        raise UserError(f"{len(replies)} of {len(requests)} sites answered; see the logs of the others")
    return {name: value for name, value in total.items() if name != ROWS}
