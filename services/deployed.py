"""What a registry has deployed, read by a process of its own.

The catalog's libraries take most of a second to import and hold some fifty megabytes. A command that
shows one line and then waits beside a server for days need not hold them, and need not keep
anybody waiting while it imports them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from registry.errors import CultivarError, RuntimeFailure
from registry.settings import Settings
from services.server import ROOT

_MODULE = "services.deployed"
_NICENESS = 10
"""The server that starts meanwhile goes first."""


class Deployed:
    """A process that gets ready to read the registry, as a context manager; it ends with the first reading.

    Args:
        settings: where the registry is.
        stages: the stages to look at.
    """

    def __init__(self, settings: Settings, stages: Sequence[str]) -> None:
        self._settings = settings
        self._stages = stages
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, *self._stages],
            env=os.environ | self._settings.to_environment(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def read(self) -> list[dict[str, str]]:
        """Return an entry for each version that is deployed: ``target``, ``stage`` and ``ref``.

        Raises:
            RuntimeFailure: the registry cannot be read.
        """
        if self._process is None:
            raise RuntimeError("the process was not started")
        told, _ = self._process.communicate("\n")
        if not told:
            raise RuntimeFailure("expected to read the registry, the process that does it ended")
        document = json.loads(told)
        if "error" in document:
            raise RuntimeFailure(document["error"])
        entries: list[dict[str, str]] = document["deployed"]
        return entries


def main() -> None:
    """Wait until a line comes, then read and tell; end where none comes."""
    os.nice(_NICENESS)
    from registry.registry import Registry

    if not sys.stdin.readline():
        return
    try:
        with Registry.open(Settings.read()) as registry:
            entries = [
                {"target": version.target, "stage": stage, "ref": str(version.ref)}
                for stage in sys.argv[1:]
                for version in registry.deployed(stage)
            ]
    except CultivarError as error:
        sys.stdout.write(json.dumps({"error": str(error)}))
    else:
        sys.stdout.write(json.dumps({"deployed": entries}))


if __name__ == "__main__":
    main()
