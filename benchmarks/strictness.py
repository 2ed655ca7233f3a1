"""What our connections refuse that uvicorn's own accept: ``python -m benchmarks.strictness``.

The table of malformed, ambiguous and odd requests that the tests hold our connections to is sent to the
same application on ours and on uvicorn's. Both are on httptools, with uvicorn's defaults.
"""

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.connection import HOST
from benchmarks.experiment import Experiment
from benchmarks.table import table
from services.httpd.asgi import Application
from tests.services.httpd.clients import echo, served
from tests.services.httpd.conformance import REQUESTS

PATIENCE_S = 2.0
"""Silence after which a request has no answer: none of them is waited for longer by either, but for more of it."""

NONE = 0
"""The status of a request without an answer."""

ACCEPTED, ANOTHER, UNANSWERED, REFUSED = "accepted", "refused by another status", "no answer", "refused"


def statuses(port: int) -> dict[str, int]:
    """Return the first final status of each request, by name."""
    return {name: _status(port, data) for name, data, _ in REQUESTS}


def difference(ours: int, theirs: int) -> str | None:
    """Return how another server answers differently: one of the words above, or None where it does not."""
    if ours == theirs:
        return None
    if theirs == NONE:
        return UNANSWERED
    if ours < 400:
        return REFUSED
    return ACCEPTED if theirs < 400 else ANOTHER


def measure(application: Application) -> tuple[dict[str, int], dict[str, int]]:
    """Return the statuses of our connections and of uvicorn's."""
    with served(application) as (_, port):
        ours = statuses(port)
    with served(application, http="httptools") as (_, port):
        theirs = statuses(port)
    return ours, theirs


def show(ours: Mapping[str, int], theirs: Mapping[str, int]) -> str:
    """Return what is answered differently, as a Markdown table."""
    rows = {
        name: [str(status), str(theirs[name] or "none"), difference(status, theirs[name]) or ""]
        for name, status in ours.items()
        if difference(status, theirs[name])
    }
    return table("request", ("ours", "uvicorn's", "uvicorn's is"), rows)


def run(home: Path) -> dict[str, Any]:
    """Ask both, print what differs; return everything as JSON values."""
    ours, theirs = measure(echo)
    print(show(ours, theirs))
    differences = [difference(ours[name], theirs[name]) for name in ours]
    for word in (ACCEPTED, ANOTHER, UNANSWERED, REFUSED):
        print(f"{differences.count(word)} of {len(ours)} {word}")
    wrong = {name for name, _, status in REQUESTS if ours[name] != status}
    return {"reached": not wrong, "ours": ours, "uvicorn": theirs}


def _status(port: int, data: bytes) -> int:
    found = b""
    with socket.create_connection((HOST, port), timeout=PATIENCE_S) as connection, suppress(OSError):
        connection.sendall(data)
        while piece := connection.recv(1 << 16):
            found += piece
            if (final := _final(found)) != NONE:
                return final
    return _final(found)


def _final(answer: bytes) -> int:
    """Return the status of the first answer that is no announcement of another one."""
    while answer.startswith(b"HTTP/1.1 1"):
        answer = answer.partition(b"\r\n\r\n")[2]
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") and len(answer) >= 12 else NONE


def main() -> None:
    """Ask and print; exit 1 where ours differ from the table of the tests."""
    Experiment("strictness", __doc__).run(run)


if __name__ == "__main__":
    main()
