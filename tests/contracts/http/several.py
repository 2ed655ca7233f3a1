"""Several targets on one input, and how pressing a request is."""

import httpx
import pytest

from tests.builders import picture
from tests.contracts.http.asking import PNG, Asking, alike, refused


class Several(Asking):
    """``POST /v1/classify?targets=``, and the headers on time and priority."""

    def test_each_target_answers_as_it_would_by_itself(self, client: httpx.Client) -> None:
        both = client.post("/v1/classify?targets=digits,shapes&top_k=2", content=picture(), headers=PNG)
        assert both.status_code == 200
        results = both.json()["results"]
        assert list(results) == ["digits", "shapes"]
        for target, result in results.items():
            alone = client.post(f"/v1/classify/{target}?top_k=2", content=picture(), headers=PNG).json()
            assert alike(result, alone)

    def test_several_texts_by_one_target_are_answered_in_order(self, client: httpx.Client) -> None:
        body = {"texts": ["a good day", "a bad night"]}
        several = client.post("/v1/classify?targets=moods", json=body).json()["results"]["moods"]
        alone = client.post("/v1/classify/moods", json=body).json()
        assert [each["labels"][0]["label"] for each in several["results"]] == [
            each["labels"][0]["label"] for each in alone["results"]
        ]

    @pytest.mark.parametrize(
        ("query", "status", "code"),
        [
            ("", 400, "malformed_request"),
            ("?targets=", 400, "malformed_request"),
            ("?targets=,", 400, "malformed_request"),
            ("?targets=digits&targets=shapes", 400, "malformed_request"),
            ("?targets=" + ",".join(f"t{number}" for number in range(257)), 400, "malformed_request"),
            ("?targets=digits,nothing", 404, "unknown_target"),
            ("?targets=digits,vectors", 409, "missing_output"),
            ("?targets=digits,moods", 415, "wrong_modality"),
            ("?targets=digits,shapes&stage=staging", 404, "unknown_version"),
        ],
    )
    def test_nobody_answers_where_one_cannot(
        self, client: httpx.Client, query: str, status: int, code: str
    ) -> None:
        refused(client.post(f"/v1/classify{query}", content=picture(), headers=PNG), status, code)

    def test_a_broken_item_is_named(self, client: httpx.Client) -> None:
        answer = client.post("/v1/classify?targets=digits,shapes", content=b"no picture", headers=PNG)
        assert refused(answer, 422, "undecodable_input")["index"] == 0

    def test_a_client_may_wait_for_less_time_but_not_for_none(self, client: httpx.Client) -> None:
        def ask(**headers: str) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.post("/v1/classify/digits", content=picture(), headers=PNG | named)

        assert ask(x_cultivar_timeout="2.5", x_cultivar_priority="low").status_code == 200
        for wrong in ("0", "-1", "soon", "1e3", "inf", "."):
            refused(ask(x_cultivar_timeout=wrong), 400, "malformed_request")
        refused(ask(x_cultivar_priority="highest"), 400, "malformed_request")

    def test_the_tree_says_what_is_shared(self, client: httpx.Client) -> None:
        document = client.get("/v1/targets").json()
        sharing = document["sharing"]
        served = {name for run in sharing["runs"] for name in run["serves"]}
        assert served == {f"{each['target']}@{each['stage']}" for each in document["targets"]}
        assert sharing["bytes"] < sharing["unshared_bytes"]
