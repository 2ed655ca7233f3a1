"""From a folder of pictures to a live endpoint: ``python -m benchmarks.folder_to_live``.

A server runs, and the source's trunk is in the store since an earlier adaptation. Then the clock
starts: ``cultivar adapt FOLDER --technique frozen --promote production`` in a new process, until
the server answers for the new target.
"""

import http.client
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import command, handwriting
from benchmarks.experiment import Experiment
from benchmarks.machine import busy_seconds, describe
from benchmarks.spread import Spread
from registry.settings import Settings
from services.process.server import Server, free_port
from services.settings import ServeSettings

PICTURES = 500
AIM_S = 10.0
ASK_S = 0.01
"""Pause between two questions to the server."""
GIVE_UP_S = 120.0
"""After this the server must have answered, once the command has ended."""
BEGIN, SEEN, TOTAL = "interpreter and imports", "seen by the server", "together"


def live(home: Path, port: int, source: str, target: str, seed: int) -> Mapping[str, float]:
    """Adapt a folder that was not seen before, and wait for the server to answer; return seconds by phase."""
    data = handwriting.write(home / target, PICTURES, seed)
    picture = next(data.rglob("*.png")).read_bytes()
    arguments = ["--source", source, "--target", target, "--technique", "frozen", "--promote", "production"]
    started = time.time()
    with ThreadPoolExecutor(1) as pool:
        adapting = pool.submit(command.run, home, "adapt", str(data), *arguments)
        while not answers(port, target, picture):
            if adapting.done():
                adapting.result()
                if time.time() > started + GIVE_UP_S:
                    raise command.CommandFailed(f"no answer for {target} within {GIVE_UP_S:g} s")
            time.sleep(ASK_S)
        answered = time.time()
        phases = adapting.result()["phases"]
    promoted = promoted_at(home, target)
    begin = promoted - started - sum(phases.values())
    return {BEGIN: begin, **phases, SEEN: answered - promoted, TOTAL: answered - started}


def answers(port: int, target: str, picture: bytes) -> bool:
    """Ask the server once; return whether it answered for the target."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", f"/v1/classify/{target}", picture, {"Content-Type": "image/png"})
        return connection.getresponse().status == 200
    finally:
        connection.close()


def promoted_at(home: Path, target: str) -> float:
    """Return when a target's version went into production, in seconds since 1970."""
    events = command.run(home, "history", target)["events"]
    (moment,) = [event["at"] for event in events if event["stage"] == "production"]
    return datetime.fromisoformat(moment).timestamp()


def measure(source: str, repeats: int, home: Path) -> dict[str, list[float]]:
    """Put the trunk into the store, start a server, then go from folder to live several times."""
    first = handwriting.write(home / "first", PICTURES, repeats)
    command.run(home, "adapt", str(first), "--source", source, "--target", "first", "--technique", "frozen")
    found: dict[str, list[float]] = {}
    settings = ServeSettings.read(port=free_port())
    with (
        (home / "server.log").open("wb") as log,
        Server(settings, Settings.read(home), log.fileno()) as server,
    ):
        server.wait_until_ready()
        for number in range(repeats):
            seconds = live(home, settings.port, source, f"digits-{number}", number)
            for name, value in seconds.items():
                found.setdefault(name, []).append(value)
            print(f"  [{number + 1}/{repeats}] {seconds[TOTAL]:.1f} s", file=sys.stderr, flush=True)
    return found


def table(found: Mapping[str, Sequence[float]]) -> str:
    """Return seconds by phase as a Markdown table."""
    lines = ["| phase | seconds |", "| --- | --- |"]
    lines += [f"| {name} | {Spread.of(values).show()} |" for name, values in found.items()]
    return "\n".join(lines)


def judged(source: str, repeats: int, home: Path) -> dict[str, Any]:
    """Measure and print; return everything as JSON values."""
    began, busy = time.perf_counter(), busy_seconds()
    found = measure(source, repeats, home)
    print(table(found))
    print(f"\n{(busy_seconds() - busy) / (time.perf_counter() - began):.2f} cores were busy, this included.")
    total = Spread.of(found[TOTAL])
    reached = total.median <= AIM_S
    print(f"{total.median:.1f} s from folder to live, aim {AIM_S:g}: {'reached' if reached else 'missed'}")
    return {"reached": reached, "machine": describe(), "source": source, "seconds": found}


def main() -> None:
    """Measure and print; exit 1 where it takes longer than aimed at."""
    experiment = Experiment("live", __doc__)
    experiment.parser.add_argument(
        "--source", default="bundled:glyphs", metavar="SPEC", help="the source to adapt"
    )
    experiment.parser.add_argument("--repeats", type=int, default=5)
    given = experiment.arguments
    experiment.run(lambda home: judged(given.source, given.repeats, home))


if __name__ == "__main__":
    main()
