"""Refused requests leave nothing that only the garbage collector finds: it runs seldom, and bodies are large."""

import os
import subprocess
import sys
from pathlib import Path

from registry.registry import Registry
from registry.settings import Settings
from services.process.server import ROOT
from tests.contracts.http.running import prepare

SCRIPT = """
import asyncio, base64, gc, json
from registry.settings import Settings
from services.process.worker import ServerWorker
from services.settings import ServeSettings

BROKEN = base64.b64encode(bytes(300_000)).decode()
BODIES = [
    ("image/png", bytes(5_000_000)),
    ("application/json", json.dumps({"images": [BROKEN]}).encode()),
    ("application/json", json.dumps({"images": ["!" * 300_000]}).encode()),
    ("application/json", json.dumps({"texts": ["a" * 300_000]}).encode()),
    ("application/json", b"[" * 300_000),
    ("multipart/form-data; boundary=B", b"--B\\r\\n" + bytes(300_000)),
    ("application/x-npy", bytes(300_000)),
    ("text/plain", bytes(300_000)),
]

async def ask(application, content_type, body):
    messages = []
    received = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        for message in received:
            return message
        await asyncio.sleep(3600)

    async def send(message):
        messages.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/classify/digits", "query_string": b"", "extensions": {},
        "headers": [(b"content-type", content_type.encode())],
    }
    await application(scope, receive, send)
    return messages[0]["status"]

async def trial():
    worker = ServerWorker(ServeSettings.read(), Settings.read())
    await worker.start()
    while not worker.ready:
        await asyncio.sleep(0.05)
    application = worker.front()
    for content_type, body in BODIES:  # what is made once, such as caches
        await ask(application, content_type, body)
    await asyncio.sleep(1.5)
    gc.collect()
    gc.disable()
    statuses = [await ask(application, content_type, body) for content_type, body in BODIES]
    await asyncio.sleep(1.5)
    print(json.dumps([statuses, gc.collect()]))
    await worker.stop()

asyncio.run(trial())
"""


def test_refused_requests_leave_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    settings = Settings.read(tmp_path / "home")
    with Registry.open(settings) as registry:
        prepare(registry)
    environment = os.environ | settings.to_environment() | {"CULTIVAR_SERVE_AUTH": "off"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[[422, 422, 422, 415, 400, 400, 422, 415], 0]"
