"""What tests of the dashboard share, made once."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def dashboard_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Give a small platform whose models answer, see `tests.serving.dashboard_platform`."""
    from tests.serving.dashboard_platform import platform  # it fits models; other tests of the room need none of it

    with platform(tmp_path_factory.mktemp("dashboard")) as made:
        yield made
