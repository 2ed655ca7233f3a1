"""Which version of a target answers."""

import httpx
import pytest

from tests.builders import picture
from tests.contracts.http.asking import PNG, Asking, alike, refused


class Choosing(Asking):
    """The query and the headers that choose a version."""

    @pytest.mark.parametrize(
        ("query", "ref"),
        [
            ("", "letters/digits@1"),
            ("?stage=production", "letters/digits@1"),
            ("?stage=staging", "letters/digits@2"),
            ("?version=2", "letters/digits@2"),
            ("?version=1&source=letters", "letters/digits@1"),
        ],
    )
    def test_the_query_chooses_among_deployed_versions(
        self, client: httpx.Client, query: str, ref: str
    ) -> None:
        answer = client.post(f"/v1/classify/digits{query}", content=picture(), headers=PNG)
        assert answer.json()["ref"] == answer.headers["x-cultivar-version"] == ref

    def test_a_version_is_chosen_by_the_beginning_of_its_digest(self, client: httpx.Client) -> None:
        staged = client.post("/v1/classify/digits?stage=staging", content=picture(), headers=PNG).json()
        query = f"?version={staged['digest'][:20]}"
        again = client.post(f"/v1/classify/digits{query}", content=picture(), headers=PNG).json()
        assert alike(again, staged)

    def test_a_client_that_expects_another_space_is_refused(self, client: httpx.Client) -> None:
        space = client.post("/v1/embed/vectors", content=picture(), headers=PNG).json()["space_id"]
        right = client.post("/v1/embed/vectors", content=picture(), headers=PNG | {"x-expect-space": space})
        wrong = client.post("/v1/embed/shapes", content=picture(), headers=PNG | {"x-expect-space": space})
        assert right.status_code == 200
        refused(wrong, 409, "space_differs")
