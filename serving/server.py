"""uvicorn on a socket that `serving.following` opened: ``python -m serving.server DESCRIPTOR WORKERS``.

Imports nothing of the platform: the model's own code must be found first, see `serving.app`.
"""

import socket
import sys
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess

APPLICATION = "serving.app:app"
LOG_CONFIG = Path(__file__).with_name("log_config.json")


def main() -> int:
    """Serve until a signal ends it."""
    descriptor, workers = map(int, sys.argv[1:])
    config = uvicorn.Config(APPLICATION, workers=workers, log_config=str(LOG_CONFIG), access_log=False)
    server = uvicorn.Server(config)
    with socket.socket(fileno=descriptor) as listener:
        if workers > 1:
            Multiprocess(config, [listener]).run()
            return 0
        server.run(sockets=[listener])
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
