"""The least that BentoML can serve, as its documentation writes a first service: what BentoML itself takes to start."""

# BentoML is not typed for strict checking.
# mypy: disable-error-code="misc, untyped-decorator"

import bentoml


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Echo:
    """Says what it was told."""

    @bentoml.api
    def echo(self, text: str) -> str:
        """Return the text."""
        return text
