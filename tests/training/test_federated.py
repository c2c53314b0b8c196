"""What would let rows leave their site, or make a federated model another than it says it is."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("flwr")

from flwr.app import Message

from pipelines.datasets import prepare
from pipelines.errors import UserError
from pipelines.samples.response import ResponseSamples, make_samples
from tests.training.profile_samples import gene_samples, with_values
from tests.training.site_folders import NAMES, SMALL, made_sites, site_params
from tests.training.tiny import NAME
from training.architectures import get_architecture
from training.estimator import FitContext
from training.federated import profiles, site
from training.federated.final import told
from training.federated.local_grid import LocalGrid
from training.federated.plan import Plan
from training.federated.private import epsilon, private_loop
from training.federated.records import from_record
from training.federated.secure import from_digits, to_digits
from training.federated.server import agree, federate
from training.federated.site import Site, app, built, hashed
from training.networks.loop import TrainingChoices

PARAMS = site_params()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return made_sites(tmp_path_factory.mktemp("sites"))


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "read_params", lambda: PARAMS)


def planned(**given: Any) -> Plan:
    return Plan(**{"task": NAME, "architecture": "mlp", "hyperparameters": SMALL, "sites": 3, "rounds": 2, **given})


def together(folders: list[Path], plan: Plan) -> ResponseSamples:
    each = [Site(folder.name, folder, PARAMS, plan).train.alone() for folder in folders]
    omics = {name: pd.concat([one.omics[name] for one in each]) for name in each[0].omics}
    pairs, lines = (pd.concat([getattr(one, name) for one in each]) for name in ("pairs", "cell_lines"))
    return make_samples(pairs, lines, each[0].drugs, omics)


class Tapped(LocalGrid):
    """Keeps all that sites send."""

    def __init__(self, folders: list[Path]) -> None:
        super().__init__(app, folders)
        self.sent: list[Message] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = list(super().send_and_receive(messages, timeout=timeout))
        self.sent += replies
        return replies


@pytest.mark.parametrize(("architecture", "omics"), [("mlp", "all"), ("gnn", "expression"), ("multi_omics", "all")])
def test_sites_agree_on_what_a_fit_on_all_rows_learns(folders: list[Path], architecture: str, omics: str) -> None:
    components = {"components": 8} if architecture == "mlp" else {}
    plan = planned(architecture=architecture, hyperparameters={"units": 16, "omics": omics, **components})
    agreed, _ = agree(LocalGrid(app, folders), [1, 2, 3], plan, PARAMS)
    rows = together(folders, plan)
    pooled = built(plan, PARAMS).fit(rows, None, FitContext(loop=lambda *given, **more: None))
    ours, theirs = (vars(each)["features_"].transform(rows) for each in (agreed, pooled))
    for name in ("cells", "drugs", "offset"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-4, atol=1e-5)
    for name in ("scale_", "cell_scale_", "drug_center_", "drug_scale_"):
        np.testing.assert_allclose(getattr(agreed, name), getattr(pooled, name), rtol=1e-6, atol=1e-9)
    for name, weight in pooled.state()["weights"].items():  # the same start: the same seed, the same shapes
        np.testing.assert_array_equal(agreed.state()["weights"][name], weight)


def test_no_site_trains_on_what_the_coordinator_holds_out(folders: list[Path]) -> None:
    task = PARAMS.task(NAME)
    prepared = prepare(task.read(folders[0].parent / "data" / NAME), task, PARAMS.seed)
    mode = task.split.mode
    hidden = told(prepared, task)["left_out"]
    tested = set(prepared.side("validation", "test").pairs["cell_line_id"])
    for folder in folders:
        own = Site(folder.name, folder, PARAMS, planned(left_out=hidden))
        assert own.left_out > 0
        for side in (own.train, own.validation):
            assert not set(side.pairs["cell_line_id"]) & tested
            assert not set().union(*hashed(side, mode)) & set(hidden)  # nor on a copy under another name
        assert not set(own.train.pairs["cell_line_id"]) & set(own.validation.pairs["cell_line_id"])


def test_with_secure_aggregation_only_sums_can_be_read(folders: list[Path]) -> None:
    found, grids = {}, {}
    for secure in (False, True):
        grids[secure] = Tapped(folders)
        found[secure] = federate(grids[secure], planned(secure=secure), PARAMS)
    for name, weight in found[False].estimator.state()["weights"].items():
        np.testing.assert_allclose(found[True].estimator.state()["weights"][name], weight, atol=1e-3)
    plain = [reply for reply in grids[False].sent if "arrays" in reply.content]
    assert plain and all(np.size(value) for reply in plain for value in from_record(reply.content["arrays"]).values())
    for reply in grids[True].sent:  # masks are integers of 32 bits, added to what is nowhere sent as it is
        assert not [name for name, record in reply.content.array_records.items() if record]


def test_digits_add_up_exactly_and_what_cannot_be_added_is_refused() -> None:
    numbers = np.random.default_rng(0).normal(0, 1000, (5, 7))
    digits = [to_digits(row) for row in numbers]
    summed = [np.sum(each, axis=0) for each in zip(*digits, strict=True)]
    np.testing.assert_allclose(from_digits(summed, (7,)), numbers.sum(axis=0), atol=1e-6)
    for bad in (np.nan, np.inf, 1e12):
        with pytest.raises(UserError, match="securely"):
            to_digits(np.array([bad]))


def test_a_strong_pull_keeps_the_weights_where_they_were(folders: list[Path]) -> None:
    moved = {}
    for strategy, strength in (("fedavg", 0.0), ("fedprox", 1e4)):
        plan = planned(strategy=strategy, proximal=strength, epochs=4)
        begun, _ = agree(LocalGrid(app, folders), [1, 2, 3], plan, PARAMS)
        state = begun.state()
        weights, _ = Site("north", folders[0], PARAMS, plan).weights(plan, 1, state)
        moved[strategy] = sum(float(np.abs(weights[name] - start).sum()) for name, start in state["weights"].items())
    assert 0 < moved["fedprox"] < 0.5 * moved["fedavg"]


def test_no_group_moves_the_weights_further_than_the_clip_and_only_noise_is_left(folders: list[Path]) -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    seen: list[float] = []

    class Recorded(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            seen.append(float(network.weight.grad))  # type: ignore[arg-type]

    settings = TrainingChoices(epochs=3, patience=1, batch_size=2, learning_rate=0.1, weight_decay=0.0)
    plan = planned(noise=1e-9, clip=0.5, share=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.federated.private.optimizer_of", lambda network, *_: Recorded(network.parameters()))
        loop = private_loop(plan, np.array(["a", "a", "b"]))
        how: dict[str, Any] = {"settings": settings, "context": FitContext()}
        loop(network, lambda rows: (1e6 * network.weight * (1 + rows)).sum(), 3, None, **how)
    assert len(seen) == 3 and all(abs(each) == pytest.approx(0.5, rel=1e-3) for each in seen)  # of two groups, the mean


def test_the_privacy_spent_grows_with_rounds_and_falls_with_noise_and_nothing_without_noise_is_told(
    folders: list[Path],
) -> None:
    spent = {(noise, rounds): epsilon(planned(noise=noise), 100, rounds) for noise in (1.0, 4.0) for rounds in (1, 10)}
    assert 0 < spent[4.0, 1] < spent[4.0, 10] < spent[1.0, 10] and spent[1.0, 1] < spent[1.0, 10]
    found = federate(LocalGrid(app, folders), planned(noise=2.0), PARAMS)
    assert found.about()["privacy"]["epsilon"] == max(one["epsilon"] for one in found.sites) > 0
    assert {key for rounds in found.rounds for row in rounds for key in row} == {
        "site", "num-examples", "groups", "epsilon"
    }  # fmt: skip
    assert found.best_round == 2  # chosen by nothing


def test_profiles_agree_too() -> None:
    whole = gene_samples(60)
    values = whole.values.copy()
    values[3, 9] = np.nan  # a gap is filled with the mean of all sites
    whole = with_values(whole, values)
    parts = [whole.take(np.arange(start, 60, 3)) for start in range(3)]
    of = get_architecture("dnn", "profiles", "multi_target")
    estimator = of.build(of.known(profiles.CHOICES), epochs=1, device="cpu")
    agreed = profiles.agree([profiles.lists(part) for part in parts])
    for step in profiles.STEPS:
        each = [profiles.sums(step, part, agreed, estimator) for part in parts]
        agreed[step] = {name: np.sum([one[name] for one in each], axis=0) for name in each[0]}
    begun = profiles.begin(estimator, agreed)
    pooled = type(estimator)(**estimator.get_params()).fit(whole, None, FitContext(loop=lambda *given, **more: None))
    np.testing.assert_allclose(begun.features_.transform(whole), pooled.features_.transform(whole), atol=1e-4)
    np.testing.assert_allclose(begun.mean_, pooled.mean_, rtol=1e-6)
    np.testing.assert_allclose(begun.scale_, pooled.scale_, rtol=1e-6)


def test_a_site_says_what_it_cannot_do(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be federated"):
        federate(LocalGrid(app, folders), planned(architecture="cnn1d", hyperparameters={}), PARAMS)
    task = PARAMS.task(NAME)
    everything = sorted(set().union(*hashed(task.read(folders[0]).samples, task.split.mode)))
    with pytest.raises(UserError, match="holds out all samples"):
        federate(LocalGrid(app, folders[:2]), planned(sites=2, left_out=everything), PARAMS)
    with pytest.raises(UserError, match="1 of 3 sites came"):
        federate(LocalGrid(app, folders[:1]), replace(planned(), seconds=0.1), PARAMS)


def test_dealing_a_folder_loses_and_doubles_no_row(folders: list[Path]) -> None:
    whole = pd.read_parquet(folders[0].parent / "data" / NAME / "response.parquet")
    each = [pd.read_parquet(folder / "response.parquet") for folder in folders]
    assert sum(map(len, each)) == len(whole) and [folder.name for folder in folders] == list(NAMES)
    lines = [set(part["cell_line_id"]) for part in each]
    assert not (lines[0] & lines[1] or lines[0] & lines[2] or lines[1] & lines[2])
