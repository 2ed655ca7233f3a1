"""An encoder of texts, from a checkpoint to answers over HTTP: the same as without a server."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner

from adapters.adaptation import Order, adapt
from registry.registry import Registry
from registry.settings import Settings
from services.cli import main
from tests.adapters.families import Families
from tests.contracts.http import Running, serving

TEXTS = ["w1 w2 w3 w4", "w20 w21", "w30 w31 w32 w33 w34 w35 w36 unheard", "w5"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that answers, beside what is always there, with a version that stands on a tiny BERT."""
    folder = tmp_path_factory.mktemp("live")
    settings = Settings.read(folder / "home", actor="ada", environment={})
    with pytest.MonkeyPatch.context() as patch, Registry.open(settings) as registry:
        families = Families(tmp_path_factory.mktemp("families"), patch)
        order = Order(
            data=families.data("hf, texts"),
            source=families.source("hf, texts"),
            target="tempers",
            technique="frozen",
            source_task="words",
            promote="production",
        )
        adapt(order, registry)
    with serving(folder) as running:
        yield running


def online(running: Running, operation: str) -> Any:
    answer = httpx.post(f"{running.url}/v1/{operation}/tempers", json={"texts": TEXTS}, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


def offline(running: Running, operation: str) -> Any:
    result = CliRunner().invoke(
        main,
        ["--home", str(running.registry.home), operation, "tempers", "-", "--json"],
        input="".join(f"{text}\n" for text in TEXTS),
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_an_adapted_encoder_classifies_as_offline(running: Running) -> None:
    answers, expected = online(running, "classify")["results"], offline(running, "classify")["results"]
    assert len(answers) == len(expected) == len(TEXTS)
    for found, wanted in zip(answers, expected, strict=True):
        got, want = ({each["label"]: each["score"] for each in one["labels"]} for one in (found, wanted))
        assert got == pytest.approx(want, abs=1e-4)
    assert len({answer["labels"][0]["label"] for answer in answers}) > 1


def test_an_adapted_encoder_embeds_as_offline(running: Running) -> None:
    answer, expected = online(running, "embed"), offline(running, "embed")
    assert answer["space_id"] == expected["space_id"]
    np.testing.assert_allclose(answer["embeddings"], expected["embeddings"], rtol=0, atol=1e-4)
