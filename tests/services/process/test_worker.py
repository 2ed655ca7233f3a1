"""One server process, however it was started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.registry import Registry
from registry.settings import Settings
from services.deployment.rollout_barrier import FOLDER
from tests.contracts.http.running import prepare

SCRIPT = """
import asyncio
from registry.settings import Settings
from services.settings import ServeSettings
from services.process.worker import ServerWorker

async def trial():
    worker = ServerWorker(ServeSettings.read(), Settings.read())
    await worker.start()
    print(worker.ready)
    await worker.stop()

asyncio.run(trial())
"""


@pytest.mark.parametrize(
    "meets", [True, False], ids=["started by cultivar serve", "started by bentoml serve"]
)
def test_one_of_several_workers_takes_no_connections_before_it_is_ready(tmp_path: Path, meets: bool) -> None:
    settings = Settings.read(tmp_path / "home")
    with Registry.open(settings) as registry:
        prepare(registry)
    environment = os.environ | settings.to_environment()
    environment |= {"CULTIVAR_SERVE_WORKERS": "2", "CULTIVAR_SERVE_AUTH": "off", "CULTIVAR_SERVE_FLIP_S": "2"}
    if meets:  # the other one does not come, and is not waited for for ever
        environment[FOLDER] = str(tmp_path / "meeting")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "True\n"
