"""Sites that are simulated in this process, one after another, as Flower's grid."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import uuid4

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


class LocalGrid(Grid):
    """A grid whose nodes 1, 2, ... call ``app`` on the folders in turn; an error of a site ends the run."""

    def __init__(self, app: ClientApp, folders: Sequence[Path]) -> None:
        self._app, self._run = app, Run.create_empty(0)
        TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 0  # as Flower's own processes have it
        self._contexts = {
            node: Context(0, node, {"data": str(folder), "name": folder.name}, RecordDict(), {})
            for node, folder in enumerate(folders, start=1)
        }

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Return the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the numbers of the nodes."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Refuse: there is nobody to answer later."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Refuse, as `push_messages`."""
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Return the sites' replies."""
        replies = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            own = Message(_copied(message.content), metadata=message.metadata)
            reply = self._app(own, self._contexts[message.metadata.dst_node_id])
            replies.append(reply)
        return replies


def _copied(content: RecordDict) -> RecordDict:
    """Return the records in a new dictionary of each: sites take their part out of the configuration."""
    return RecordDict({name: type(record)(dict(record)) for name, record in content.items()})
