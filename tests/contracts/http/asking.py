"""What clients send, and how an answer is read."""

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from registry.registry import Registry
from services.commands.offline import OfflineModel
from tests.builders import SIDE
from tests.contracts.http.running import Running

PNG = {"content-type": "image/png"}
NPY = {"content-type": "application/x-npy"}
JSON = {"content-type": "application/json"}
ROOT = str(Path(__file__).parents[3])
"""Where the program lies: no client hears of it."""


class Asking:
    """A part of the contract: what its tests ask with."""

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, running: Running) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=running.url, timeout=20) as client:
            yield client

    @pytest.fixture(scope="class")
    @classmethod
    def offline(cls, running: Running) -> OfflineModel:
        with Registry.open(running.registry) as registry:
            return OfflineModel(registry, "letters/digits@1")


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def pixels(rows: int = 1, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 256, (rows, side, side, 3), dtype=np.uint8)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def labels_of(answer: httpx.Response) -> list[list[tuple[str, float]]]:
    return [
        [(each["label"], each["score"]) for each in result["labels"]] for result in answer.json()["results"]
    ]


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["hint"]
    assert ROOT not in answer.text
    assert "Traceback" not in answer.text
    return error


def metrics(client: httpx.Client) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("cultivar_")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def metric(url: str, name: str) -> float:
    """Return one of a server's figures, 0 where it has none of that name."""
    with httpx.Client(base_url=url) as client:
        return metrics(client).get(name, 0)


def entry_of(client: httpx.Client, name: str) -> dict[str, Any]:
    entries = client.get("/v1/targets").json()["targets"]
    found: dict[str, Any] = next((entry for entry in entries if entry["target"] == name), {"state": None})
    return found


def wait_for(condition: Any, limit_s: float = 20) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the server did not follow the registry"
        time.sleep(0.02)


def alike(one: object, other: object) -> bool:
    """Whether two documents are the same, numbers up to the last bits: those of float32 depend on the batch."""
    match one, other:
        case (dict(), dict()):
            return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
        case (list(), list()):
            return len(one) == len(other) and all(map(alike, one, other))
        case (float(), float()):
            return abs(one - other) <= 1e-5 * max(1.0, abs(one))
    return one == other
