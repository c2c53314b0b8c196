"""Secure aggregation: the coordinator learns sums over the sites, and nothing of a single one.

The protocol is Flower's SecAgg+ (Bell et al., 2020, CCS), which adds integers in a range. Numbers become fixed-point
integers, cut into digits that fit, so that sums are exact; weights come as their products with the number of rows.
"""

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.server import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.serverapp import Grid

from pipelines.errors import UserError
from training.federated.records import from_record, to_record

ROWS = "num-examples"
_UNIT = 2.0**-24  # of fixed-point numbers
_DIGIT = 20  # bits; three of them make a number, the first with its sign
_RANGE = 2**27  # of the protocol's integers: a digit is 64 of them, and 31 sites fit into 32 bits
_DIGITS = (2 * _DIGIT, _DIGIT, 0)


def to_digits(values: np.ndarray) -> list[np.ndarray]:
    """Return numbers as three arrays of digits; UserError where a number is too large or not finite."""
    whole = np.rint(np.asarray(values, np.float64) / _UNIT)
    if not (np.abs(whole) < 2.0 ** (3 * _DIGIT - 1)).all():
        raise UserError(f"a number above {2.0 ** (3 * _DIGIT - 1) * _UNIT:.2g}, or no number, cannot be added securely")
    integers = whole.astype(np.int64)
    low = [(integers >> shift & (2**_DIGIT - 1)) for shift in _DIGITS[1:]]
    return [np.atleast_1d(each.astype(np.float64)) for each in (integers >> _DIGITS[0], *low)]


def from_digits(digits: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return the numbers of sums of digits."""
    parts = (np.rint(each).astype(np.int64) << shift for each, shift in zip(digits, _DIGITS, strict=True))
    return (sum(parts) * _UNIT).reshape(shape)


def masked(message: Message, context: Context, call_next: Any) -> Message:
    """Let a site answer a request of `SecureGrid` with masked sums; others pass."""
    if RECORD_KEY_CONFIGS not in message.content.config_records:
        return call_next(message, context)

    def summed(message: Message, context: Context) -> Message:
        reply = call_next(message, context)
        arrays = from_record(reply.content["arrays"])
        metrics = dict(reply.content.metric_records.get("metrics", {}))
        rows = float(cast(float, metrics.get(ROWS, 1)))
        numbers = {name: value * rows for name, value in arrays.items()} | {ROWS: np.array([rows])}
        digits = [digit for value in numbers.values() for digit in to_digits(value)]
        status = Status(Code.OK, "")
        content = fitres_to_recorddict(FitRes(status, ndarrays_to_parameters(digits), 1, {}), keep_input=False)
        shapes = {name: value.shape for name, value in numbers.items()}
        content["shapes"] = ConfigRecord({"json": json.dumps(shapes)})
        content["about"] = reply.content.config_records.get("about", ConfigRecord())
        content["metrics"] = MetricRecord(metrics)
        return Message(content, reply_to=message)

    return secaggplus_mod(message, context, summed)


class _Workflow(SecAggPlusWorkflow):
    """Flower's protocol on our own requests, by node."""

    def __init__(self, requests: dict[int, Message], timeout: float | None) -> None:
        # A lost site is made up for by the shares of the others: all but one of them have to be there.
        threshold = max(2, len(requests) - 1)
        super().__init__(
            1.0,
            threshold / len(requests),
            max_weight=1.0,
            clipping_range=float(2**_DIGIT),
            quantization_range=_RANGE,
            timeout=timeout,
        )
        self.requests, self.replies = requests, list[RecordDict]()
        self.total: list[np.ndarray] | None = None

    def setup_stage(self, grid: Grid, context: LegacyContext, state: Any) -> bool:
        """Ask as Flower does, and send our requests with its keys later on: in records of each node's own."""
        done = super().setup_stage(grid, context, state)
        state.nid_to_fitins = {node: RecordDict({**message.content}) for node, message in self.requests.items()}
        return done

    def collect_masked_vectors_stage(self, grid: Grid, context: LegacyContext, state: Any) -> bool:
        """Keep what comes beside the masked numbers."""
        heard = _Heard(grid)
        done = super().collect_masked_vectors_stage(cast(Grid, heard), context, state)
        self.replies = [each.content for each in heard.messages if not each.has_error()]
        return done

    # The two methods of Flower's older strategies that the protocol calls.

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: Any) -> list[Any]:
        """Return the nodes; what they are asked comes from `setup_stage`."""
        nothing = FitIns(Parameters([], ""), {})
        return [(SimpleNamespace(node_id=node), nothing) for node in self.requests]

    def aggregate_fit(self, server_round: int, results: list[Any], failures: list[Any]) -> tuple[None, dict[str, Any]]:
        """Keep the mean of the numbers over the sites that answered."""
        self.total = [each * len(results) for each in parameters_to_ndarrays(results[0][1].parameters)]
        return None, {}


class _Heard:
    """A grid that keeps the replies."""

    def __init__(self, grid: Grid) -> None:
        self.grid, self.messages = grid, list[Message]()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        self.messages = list(self.grid.send_and_receive(messages, timeout=timeout))
        return self.messages


def secure_sum(grid: Grid, messages: list[Message], timeout: float | None) -> tuple[dict[str, np.ndarray], list[Any]]:
    """Return the sums over the sites of their arrays, weighted by rows, and the records that come beside them.

    Both are empty where too few sites were there to the end.
    """
    workflow = _Workflow({message.metadata.dst_node_id: message for message in messages}, timeout)
    context = LegacyContext(
        _empty_context(), strategy=cast(Any, workflow), client_manager=cast(Any, _Counted(messages))
    )
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord()
    workflow(grid, context)
    if workflow.total is None or not workflow.replies:
        return {}, []
    shapes, digits = json.loads(str(workflow.replies[0]["shapes"]["json"])), iter(workflow.total)
    found = {name: from_digits([next(digits) for _ in _DIGITS], tuple(shape)) for name, shape in shapes.items()}
    return found, workflow.replies


class _Counted:
    """How many sites there are, which the protocol logs."""

    def __init__(self, messages: list[Message]) -> None:
        self._count = len(messages)

    def num_available(self) -> int:
        return self._count


def _empty_context() -> Context:
    return Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={})


class SecureGrid:
    """A grid on which every request for arrays is answered by a mean over the sites.

    Strategies take a mean of replies: here all of them bear the same arrays, and one row each.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def __getattr__(self, name: str) -> Any:
        return getattr(self.grid, name)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Return a reply a site; none where too few sites were there to the end."""
        messages = list(messages)
        if not messages or messages[0].metadata.message_type != "train":
            return self.grid.send_and_receive(messages, timeout=timeout)
        total, beside = secure_sum(self.grid, messages, timeout)
        if not total:
            return []
        rows = total.pop(ROWS).item()
        record = to_record({name: value / rows for name, value in total.items()})
        replies = []
        for content, message in zip(beside, messages, strict=False):
            own = {"arrays": record, "metrics": content["metrics"], "about": content["about"]}
            replies.append(Message(RecordDict(own), reply_to=message))
        return replies
