"""Who may ask: what a server that requires tokens answers, whichever application stands in front."""

import secrets
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from registry import instants
from registry.registry import Registry
from registry.tokens import EVERYTHING, Grant
from tests.builders import picture
from tests.contracts.http.asking import PNG, Asking, base64_of, metrics, refused, wait_for
from tests.contracts.http.running import Running, connection_to, memory_bytes

DOCUMENT = {"target": "digits", "images": [base64_of(picture())]}
OTHERS = ("shapes", "moods", "meanings", "vectors")
"""The targets beyond ``digits``."""
UNKNOWN = f"cvt_{'0' * 12}_{'a' * 43}"


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


class TokenContract(Asking):
    """Inherit, and provide the fixture ``running``: a server that requires tokens."""

    @pytest.fixture(scope="class")
    @classmethod
    def registry(cls, running: Running) -> Iterator[Registry]:
        with Registry.open(running.registry) as registry:
            yield registry

    @pytest.fixture(scope="class")
    @classmethod
    def texts(cls, registry: Registry, client: httpx.Client) -> dict[str, str]:
        """Tokens of every sort, by name, once the server knows them."""
        grants = {
            "wide": EVERYTHING,
            "digits": Grant.of(["digits", "ghost"]),
            "embedding": Grant.of(operations=["embed"]),
            "revoked": EVERYTHING,
        }
        texts = {name: registry.add_token(name, grant)[1] for name, grant in grants.items()}
        soon = instants.now() + timedelta(seconds=0.2)
        texts["expired"] = registry.add_token("expired", expires=soon)[1]
        registry.revoke_token("revoked")
        _, last = registry.add_token("last")
        wait_for(lambda: client.get("/v1/targets", headers=bearer(last)).status_code == 200)
        wait_for(lambda: instants.now() > soon)
        return texts

    # Nobody

    @pytest.mark.parametrize("path", ["/v1/classify/digits", "/v1/embed/vectors", "/v1/classify/nothing"])
    def test_a_request_without_a_token_is_refused(self, client: httpx.Client, path: str) -> None:
        answer = client.post(path, content=picture(), headers=PNG)
        refused(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == 'Bearer realm="cultivar"'

    @pytest.mark.parametrize("name", ["unknown", "expired", "revoked"])
    def test_a_token_that_is_good_no_more_is_refused(
        self, client: httpx.Client, texts: dict[str, str], name: str
    ) -> None:
        token = bearer(texts.get(name, UNKNOWN))
        for answer in (
            client.post("/v1/classify/digits", content=picture(), headers=PNG | token),
            client.get("/v1/targets", headers=token),
            client.post("/classify", json=DOCUMENT, headers=token),
        ):
            refused(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]

    def test_the_right_id_with_another_secret_is_refused(
        self, client: httpx.Client, texts: dict[str, str]
    ) -> None:
        wide = texts["wide"]
        last = "Q" if wide[-1] == "A" else "A"
        for wrong in (wide[:-1] + last, wide[:17] + "a" * 43, wide[:-1], wide + "A"):
            answer = client.get("/v1/targets", headers=bearer(wrong))
            refused(answer, 401, "unauthorized")

    def test_a_header_in_another_form_is_refused(self, client: httpx.Client, texts: dict[str, str]) -> None:
        wide = texts["wide"]
        wrong = [
            b"", b"Bearer", b"Basic " + wide.encode(), wide.encode(), b"Bearer " + b"a" * 10_000,
            b"Bearer \xff\xfe", f"Bearer {wide} {wide}".encode(), f"Bearer {wide}, Bearer {wide}".encode(),
        ]  # fmt: skip
        for header in wrong:
            answer = client.get("/v1/targets", headers=[(b"authorization", header)])
            refused(answer, 401, "unauthorized")
        twice = [(b"authorization", f"Bearer {wide}".encode())] * 2
        refused(client.get("/v1/targets", headers=twice), 401, "unauthorized")

    def test_the_scheme_is_read_in_either_case(self, client: httpx.Client, texts: dict[str, str]) -> None:
        answer = client.get("/v1/targets", headers={"authorization": f"bearer {texts['wide']}"})
        assert answer.status_code == 200

    @pytest.mark.parametrize("path", ["/v1/classify/digits", "/classify"])
    def test_nobody_is_refused_before_the_body_is_read(self, running: Running, path: str) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
        )
        with connection_to(running) as sock:
            sock.sendall(head.encode())
            assert sock.recv(1000).startswith(b"HTTP/1.1 401 ")

    def test_bentomls_own_operations_are_no_way_round(
        self, client: httpx.Client, texts: dict[str, str]
    ) -> None:
        paths = client.get("/docs.json", headers=bearer(texts["wide"])).json()["paths"]
        operations = [path for path, methods in paths.items() if "post" in methods]
        assert {"/classify", "/embed"} <= {*operations}
        for path in {*operations, "/classify/", "//classify", "/embed/"} - {"/metrics"}:
            answer = client.post(path, json=DOCUMENT, follow_redirects=True)
            assert answer.status_code in (401, 404, 405), (path, answer.text)
            assert "embeddings" not in answer.text
            assert "labels" not in answer.text
        assert client.post("/classify", json=DOCUMENT, headers=bearer(texts["digits"])).status_code == 200
        assert client.post("/embed", json=DOCUMENT, headers=bearer(texts["embedding"])).status_code == 200

    @pytest.mark.parametrize("path", ["/", "/docs.json"])
    def test_pages_are_closed_too(self, client: httpx.Client, texts: dict[str, str], path: str) -> None:
        refused(client.get(path), 401, "unauthorized")
        assert client.get(path, headers=bearer(texts["digits"])).status_code == 200

    # Somebody

    def test_a_token_without_scope_is_good_for_everything(
        self, client: httpx.Client, texts: dict[str, str]
    ) -> None:
        token = bearer(texts["wide"])
        for path in ("/v1/classify/digits", "/v1/embed/vectors", "/v1/embed/shapes"):
            assert client.post(path, content=picture(), headers=PNG | token).status_code == 200
        refused(
            client.post("/v1/classify/nothing", content=picture(), headers=PNG | token), 404, "unknown_target"
        )

    def test_a_target_out_of_scope_is_refused_whether_it_exists_or_not(
        self, client: httpx.Client, texts: dict[str, str]
    ) -> None:
        token = bearer(texts["digits"])
        assert client.post("/v1/classify/digits", content=picture(), headers=PNG | token).status_code == 200
        answers = {
            name: client.post(f"/v1/classify/{name}", content=picture(), headers=PNG | token)
            for name in ("shapes", "nowhere")
        }
        for answer in answers.values():
            refused(answer, 403, "forbidden")
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        assert answers["shapes"].text.replace("shapes", "nowhere") == answers["nowhere"].text
        theirs = [
            client.post("/classify", json=DOCUMENT | {"target": name}, headers=token)
            for name in ("shapes", "nowhere")
        ]
        assert [answer.status_code for answer in theirs] == [403, 403]

    def test_of_several_targets_all_have_to_be_in_scope(
        self, client: httpx.Client, texts: dict[str, str]
    ) -> None:
        def ask(targets: str, token: str) -> httpx.Response:
            headers = PNG | bearer(texts[token])
            return client.post(f"/v1/classify?targets={targets}", content=picture(), headers=headers)

        refused(
            client.post("/v1/classify?targets=digits", content=picture(), headers=PNG), 401, "unauthorized"
        )
        assert ask("digits", "digits").status_code == ask("digits,shapes", "wide").status_code == 200
        refused(ask("digits,shapes", "digits"), 403, "forbidden")
        refused(ask("digits", "embedding"), 403, "forbidden")
        answer = ask("digits,ghost", "digits")
        refused(answer, 404, "unknown_target")
        assert not any(name in answer.text for name in OTHERS)

    def test_errors_name_no_target_out_of_scope(self, client: httpx.Client, texts: dict[str, str]) -> None:
        token = bearer(texts["digits"])
        answer = client.post("/v1/classify/ghost", content=picture(), headers=PNG | token)
        assert "digits" in refused(answer, 404, "unknown_target")["message"]
        theirs = client.post("/classify", json=DOCUMENT | {"target": "ghost"}, headers=token)
        assert theirs.status_code == 404
        for text in (answer.text, theirs.text):
            assert not any(name in text for name in OTHERS)

    def test_an_operation_out_of_scope_is_refused(self, client: httpx.Client, texts: dict[str, str]) -> None:
        token = bearer(texts["embedding"])
        assert client.post("/v1/embed/digits", content=picture(), headers=PNG | token).status_code == 200
        for path in ("/v1/classify/digits", "/v1/classify/nothing"):
            refused(client.post(path, content=picture(), headers=PNG | token), 403, "forbidden")
        refused(client.post("/classify", json=DOCUMENT, headers=token), 403, "forbidden")

    def test_targets_are_listed_as_far_as_the_token_goes(
        self, client: httpx.Client, texts: dict[str, str]
    ) -> None:
        def names(token: str) -> set[str]:
            entries = client.get("/v1/targets", headers=bearer(texts[token])).json()["targets"]
            return {entry["target"] for entry in entries}

        assert names("digits") == {"digits"}
        listed = client.get("/v1/targets", headers=bearer(texts["digits"])).text
        assert not any(name in listed for name in OTHERS)
        assert names("wide") == names("embedding") == {"digits", "shapes", "vectors", "moods", "meanings"}

    # What operators see

    def test_health_and_metrics_are_open(self, client: httpx.Client) -> None:
        for path in ("/livez", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200

    def test_tokens_added_and_revoked_are_followed(self, client: httpx.Client, registry: Registry) -> None:
        _, text = registry.add_token("passing")
        wait_for(lambda: client.get("/v1/targets", headers=bearer(text)).status_code == 200, 5)
        registry.revoke_token("passing")
        wait_for(lambda: client.get("/v1/targets", headers=bearer(text)).status_code == 401, 5)

    def test_refusals_are_counted_under_no_target(self, client: httpx.Client, texts: dict[str, str]) -> None:
        before = metrics(client)
        client.post("/v1/classify/digits", content=picture(), headers=PNG)
        client.post("/v1/classify/shapes", content=picture(), headers=PNG | bearer(texts["digits"]))
        after = metrics(client)

        def grown(name: str) -> float:
            return after[name] - before.get(name, 0)

        assert grown('cultivar_rejected_total{reason="unauthorized"}') == 1
        assert grown('cultivar_rejected_total{reason="forbidden"}') == 1
        labels = '{operation="classify",outcome="client_error",target="unknown"}'
        assert grown(f"cultivar_requests_total{labels}") == 2

    def test_attempts_that_fail_leave_no_memory_behind(self, client: httpx.Client, running: Running) -> None:
        def guess(times: int) -> None:
            for _ in range(times):
                text = f"cvt_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
                assert client.get("/v1/targets", headers=bearer(text)).status_code == 401

        guess(200)
        before = memory_bytes(running)
        guess(1000)
        assert memory_bytes(running) - before < 4 << 20

    def test_no_token_is_in_any_log_or_metric(
        self, client: httpx.Client, running: Running, texts: dict[str, str]
    ) -> None:
        written = running.log.read_text() + client.get("/metrics").text
        assert "cvt_" not in written
        assert not any(text[17:] in written for text in texts.values())
        assert "a request failed" not in written
