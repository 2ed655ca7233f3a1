"""Processes that work on a registry at the same time, or are killed while they do.

One Python is started, and forks before it opens anything: what it imports takes longer than
what it does.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta

import click

from registry.errors import StaleExpectation
from registry.names import PRODUCTION
from registry.registry import Registry
from registry.settings import Settings
from tests.builders import publish, tiny


def start(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    """Start ``crash TRIP``, or ``together JOB…`` where each job is a word and its arguments."""
    command = [
        sys.executable,
        "-m",
        "tests.registry.worker",
        str(settings.home),
        settings.catalog,
        *arguments,
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def together(settings: Settings, *jobs: str) -> list[list[str]]:
    """Do jobs in as many processes at the same time; return the words that each wrote."""
    process = start(settings, "together", *jobs)
    output, _ = process.communicate()
    assert process.returncode == 0
    return [line.split() for line in output.splitlines()]


def fork(job: Callable[[Callable[[object], None]], None]) -> tuple[int, int]:
    """Do a job in a child, which tells words through a pipe; return the child and the pipe's end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            job(functools.partial(_tell, writing))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    return child, reading


def _tell(pipe: int, word: object) -> None:
    os.write(pipe, f"{word}\n".encode())


def join(child: int, reading: int) -> tuple[int, list[str]]:
    """Wait for a child; return its wait status and what it told."""
    with os.fdopen(reading) as pipe:
        words = pipe.read().split()
    return os.waitpid(child, 0)[1], words


def register(settings: Settings, tell: Callable[[object], None], first: str, count: str) -> None:
    """Register so many versions of one line."""
    with Registry.open(settings) as registry:
        for seed in range(int(first), int(first) + int(count)):
            tell(publish(registry, tiny(seed=seed)).number)


def promote(settings: Settings, tell: Callable[[object], None], expect: str, ref: str) -> None:
    """Promote to production, and say whether the race was won."""
    with Registry.open(settings) as registry:
        try:
            registry.promote(ref, PRODUCTION, expect=int(expect))
            tell("won")
        except StaleExpectation:
            tell("lost")


def churn(settings: Settings, tell: Callable[[object], None], first: str, rounds: str) -> None:
    """Publish versions that share a trunk, found where it was exported before, and delete them again."""
    with Registry.open(settings) as registry:
        for seed in range(int(first), int(first) + int(rounds)):
            made = tiny(seed=seed)
            trunk, trunk_bytes = made.manifest.segments[0], made.blobs[3][1]
            with registry.publication() as publication:
                if publication.find_export(trunk.weights) is None:
                    publication.remember_export(trunk.weights, publication.store("segment", trunk_bytes))
                for kind, data in made.blobs:
                    if data != trunk_bytes:
                        publication.store(kind, data)
                version = publication.register(made.manifest)
            registry.blob(trunk.digest)
            if seed % 3:
                registry.delete(version.ref, "churn")
            tell(version.number)


def collect(settings: Settings, tell: Callable[[object], None], until: str) -> None:
    """Collect without any grace, over and over, until so many versions were registered."""
    with Registry.open(settings) as registry:
        while registry.position() < int(until):
            registry.collect(grace=timedelta(0))


JOBS: dict[str, Callable[..., None]] = {
    "register": register,
    "promote": promote,
    "churn": churn,
    "collect": collect,
}


def crash(settings: Settings, trip: str) -> None:
    """For each number given, do the trip in a child that is killed at its step of that number; say how far it got."""
    for line in sys.stdin:
        status, words = join(*fork(functools.partial(_trip, settings, trip, int(line))))
        click.echo(json.dumps({"killed": os.WIFSIGNALED(status), "words": words}))


def _trip(settings: Settings, trip: str, fatal: int, tell: Callable[[object], None]) -> None:
    steps = 0

    def announce(step: str) -> None:
        nonlocal steps
        tell(step)
        if steps == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    registry = Registry.open(settings, announce=announce)
    if trip == "publication":
        tell(publish(registry, tiny(seed=fatal, trunk_seed=fatal, labels=None)).ref)
    else:
        newest = registry.versions(limit=1).versions[0]
        tell(registry.promote(newest.ref, PRODUCTION).ref)


def _job(settings: Settings, words: list[str], tell: Callable[[object], None]) -> None:
    JOBS[words[0]](settings, tell, *words[1:])


def main() -> None:
    """Do what ``start`` asks for."""
    home, catalog, what, *arguments = sys.argv[1:]
    settings = Settings.read(home, catalog, actor=f"worker-{os.getpid()}", environment={})
    if what == "crash":
        crash(settings, *arguments)
        return
    children = [fork(functools.partial(_job, settings, each.split())) for each in arguments]
    answers = [join(*child) for child in children]
    for _, words in answers:
        click.echo(" ".join(words))
    sys.exit(any(status for status, _ in answers))


if __name__ == "__main__":
    main()
