"""What every way of serving answers over HTTP, whichever application stands in front.

A subclass provides the fixture ``running``: a server on a registry of its own, with the limits in
``LIMITS``, in which ``prepare`` has put its targets.
"""

from tests.contracts.http.asking import PNG, metric
from tests.contracts.http.choosing import Choosing
from tests.contracts.http.connections import Connections
from tests.contracts.http.operating import Operating
from tests.contracts.http.pictures import Pictures
from tests.contracts.http.promotions import Promotions
from tests.contracts.http.refusals import Refusals
from tests.contracts.http.running import Running, serving, worker_pids
from tests.contracts.http.several import Several
from tests.contracts.http.texts import Texts

__all__ = ["PNG", "HttpContract", "Running", "metric", "serving", "worker_pids"]


# Tests run from the last base to the first: promotions come when nobody asks any more for what was there before.
class HttpContract(Promotions, Operating, Connections, Refusals, Several, Choosing, Texts, Pictures):
    """The outside interface, as clients see it."""

    def test_no_request_failed_unexpectedly(self, running: Running) -> None:
        assert "a request failed" not in running.log.read_text()
