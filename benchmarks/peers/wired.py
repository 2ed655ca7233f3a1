"""This project's application on uvicorn, without BentoML: on connections of our own, or on uvicorn's.

What is left between the two is what a connection costs, and what it accepts::

    python -m benchmarks.peers.wired --port 3000 --connections own
    python -m benchmarks.peers.wired --port 3000 --connections uvicorn
"""

import argparse
import asyncio

import uvicorn
import uvloop

from benchmarks.connection import HOST
from registry.settings import Settings
from services.httpd.connection import stand_in
from services.process.worker import ServerWorker
from services.settings import OFF, ServeSettings

OWN, UVICORN = "own", "uvicorn"
_POLL_S = 0.01


async def serve(port: int, connections: str) -> None:
    """Answer for what the registry has in production, until a signal ends it."""
    settings = ServeSettings.read(auth=OFF, port=port)
    if connections == OWN:
        stand_in(settings.limits)
    worker = ServerWorker(settings, Settings.read())
    config = uvicorn.Config(
        worker.front(),
        host=HOST,
        port=port,
        loop="uvloop",
        http="auto" if connections == OWN else "httptools",
        lifespan="off",
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,
    )
    await worker.start()
    while not worker.ready:
        await asyncio.sleep(_POLL_S)
    try:
        await uvicorn.Server(config).serve()
    finally:
        await worker.stop()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", choices=(OWN, UVICORN), required=True)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.connections))


if __name__ == "__main__":
    main()
