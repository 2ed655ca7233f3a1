"""Reads the deployed versions of a registry in a separate process.

The catalog's libraries take most of a second to import and hold some fifty megabytes. A command that shows one line
and then waits beside a server for days need not hold them, or delay the server's start by importing them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from registry.errors import (
    CultivarError,
    MissingCatalog,
    ReadOnlyRegistry,
    RuntimeFailure,
    StorageFailure,
)
from registry.settings import Settings
from services.process.server import ROOT

_MODULE = "services.commands.deployed_versions"
_NICENESS = 10
"""Niceness of the process, so that the server, which starts at the same time, has priority."""


class DeployedVersionsProcess:
    """A process that opens the registry and reads it once, as a context manager.

    Args:
        settings: the registry's settings.
        stages: the stages to read.
    """

    def __init__(self, settings: Settings, stages: Sequence[str]) -> None:
        self._settings = settings
        self._stages = stages
        self._process: subprocess.Popen[str] | None = None
        self._checked = False

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

    def stop(self) -> None:
        """End the process; a caller that waits for it fails at once."""
        if self._process is not None:
            self._process.kill()

    def check(self) -> None:
        """Wait until the registry was opened, or failed with an error that may pass, such as an unreachable database.

        Raises:
            RuntimeFailure: it cannot be opened, and waiting does not help.
        """
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the process was not started")
        if not self._checked:
            self._checked = True
            _parsed(self._process.stdout.readline())

    def read(self) -> list[dict[str, str]]:
        """Return an entry for each version that is deployed: ``target``, ``stage`` and ``ref``.

        Raises:
            RuntimeFailure: the registry cannot be read.
        """
        self.check()
        assert self._process is not None, "it was checked"
        told, _ = self._process.communicate("\n")
        entries: list[dict[str, str]] = _parsed(told)["deployed"]
        return entries


def _parsed(line: str) -> dict[str, Any]:
    """Return the document that the process wrote.

    Raises:
        RuntimeFailure: it reported an error, or wrote nothing.
    """
    if not line:
        raise RuntimeFailure("expected to read the registry, but the process that reads it ended")
    document: dict[str, Any] = json.loads(line)
    if "error" in document:
        raise RuntimeFailure(document["error"])
    return document


def main() -> None:
    """Write whether the registry opens; then, after a line on stdin, write what is deployed; without a line, end."""
    os.nice(_NICENESS)
    from registry.registry import Registry

    try:
        Registry.open(Settings.read(), anew=False).close()
    except CultivarError as error:
        # An unreachable database may come back: the server retries.
        if isinstance(error, (ReadOnlyRegistry, MissingCatalog)) or not isinstance(error, StorageFailure):
            _tell({"error": str(error)})
            return
    _tell({"opened": True})
    if not sys.stdin.readline():
        return
    try:
        with Registry.open(Settings.read(), anew=False) as registry:
            entries = [
                {"target": version.target, "stage": stage, "ref": str(version.ref)}
                for stage in sys.argv[1:]
                for version in registry.deployed(stage)
            ]
    except CultivarError as error:
        _tell({"error": str(error)})
    else:
        _tell({"deployed": entries})


def _tell(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
