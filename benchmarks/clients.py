"""Which refusals clients see that are still sending: ``python -m benchmarks.clients``.

A server that requires tokens and takes small bodies alone is sent long ones, by the HTTP clients that people use. It
refuses from the request's head, while the body is on its way: a client that does not look before it has sent everything
must still find the status. At 200 MiB the server may hang up instead; nobody may wait for ever.
"""

import asyncio
import http.client
import shutil
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import requests

from benchmarks import verdict, weightless
from benchmarks.contender import cultivar, say
from benchmarks.experiment import Experiment
from benchmarks.machine import describe
from benchmarks.spread import Spread
from benchmarks.table import table
from benchmarks.verdict import Verdict
from registry.registry import Registry
from registry.settings import Settings

PATIENCE_S = 60.0
HANGS = "hangs"
HUNG_UP = "hung up"
"""What a client is told where there is no status."""
SIZES_MIB = (1, 10, 40)
HUGE_MIB = 200
TIMES = 20
_TARGET = "weightless"
_LIMIT_BYTES = 512 << 10


@dataclass(frozen=True, slots=True)
class Upload:
    """A request that will be refused.

    Attributes:
        url: where to.
        method: of HTTP.
        headers: content type and token.
        file: holds the body.
    """

    url: str
    method: str
    headers: Mapping[str, str]
    file: Path


def by_urllib(upload: Upload) -> str:
    """Send with the standard library's ``urllib.request``."""
    request = urllib.request.Request(
        upload.url, upload.file.read_bytes(), dict(upload.headers), method=upload.method
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except urllib.error.URLError as error:
        if isinstance(error.reason, OSError):
            raise error.reason from error
        raise


def by_http_client(upload: Upload) -> str:
    """Send with the standard library's ``http.client``, on a connection that is kept alive."""
    parts = urlsplit(upload.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=PATIENCE_S)
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(upload.method, path, upload.file.read_bytes(), dict(upload.headers))
        return str(connection.getresponse().status)
    finally:
        connection.close()


def by_requests(upload: Upload) -> str:
    """Send with requests."""
    with upload.file.open("rb") as file, requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.request(
                upload.method, upload.url, data=file, headers=dict(upload.headers), timeout=PATIENCE_S
            )
        except requests.Timeout as error:
            raise TimeoutError from error
        except requests.ConnectionError as error:
            raise ConnectionError from error
    return str(answer.status_code)


def by_httpx(upload: Upload) -> str:
    """Send with httpx."""
    return _by_httpx(upload, upload.file.read_bytes())


def by_httpx_in_chunks(upload: Upload) -> str:
    """Send with httpx, in chunks of unknown number."""
    with upload.file.open("rb") as file:
        return _by_httpx(upload, iter(lambda: file.read(1 << 16), b""))


def _by_httpx(upload: Upload, content: bytes | Iterator[bytes]) -> str:
    try:
        answer = httpx.request(
            upload.method,
            upload.url,
            content=content,
            headers=dict(upload.headers),
            timeout=PATIENCE_S,
            trust_env=False,
        )
    except httpx.TimeoutException as error:
        raise TimeoutError from error
    except httpx.TransportError as error:
        raise ConnectionError from error
    return str(answer.status_code)


def by_aiohttp(upload: Upload) -> str:
    """Send with aiohttp."""

    async def ask() -> str:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        with upload.file.open("rb") as file:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(upload.method, upload.url, data=file, headers=upload.headers) as answer,
            ):
                status = str(answer.status)
        # Its connections are closed in the loop's next round.
        await asyncio.sleep(0.05)
        return status

    try:
        return asyncio.run(ask())
    except aiohttp.ClientConnectionError as error:
        raise ConnectionError from error


def by_curl(upload: Upload) -> str:
    """Send with curl, which asks first."""
    return _curl(upload)


def by_curl_at_once(upload: Upload) -> str:
    """Send with curl, told not to ask first."""
    return _curl(upload, "-H", "Expect:")


def _curl(upload: Upload, *options: str) -> str:
    headers = [option for name, value in upload.headers.items() for option in ("-H", f"{name}: {value}")]
    command = ["curl", "-s", "-m", f"{PATIENCE_S:g}", "-o", "/dev/null", "-w", "%{http_code}"]
    command += ["-X", upload.method, "--data-binary", f"@{upload.file}", *headers, *options, upload.url]
    status = subprocess.run(command, capture_output=True, text=True).stdout
    if status == "000":
        raise ConnectionError
    return status


CLIENTS: Mapping[str, Callable[[Upload], str]] = {
    "urllib": by_urllib,
    "http.client": by_http_client,
    "requests": by_requests,
    "httpx": by_httpx,
    "httpx, chunked": by_httpx_in_chunks,
    "aiohttp": by_aiohttp,
    "curl": by_curl,
    "curl, without Expect": by_curl_at_once,
}


def installed() -> list[str]:
    """Return the clients that this machine has."""
    return [name for name in CLIENTS if not name.startswith("curl") or shutil.which("curl")]


def seen(client: str, upload: Upload) -> str:
    """Return what a client sees of an upload's refusal: the status, or that there was none."""
    try:
        return CLIENTS[client](upload)
    except TimeoutError:
        return HANGS
    except (OSError, http.client.HTTPException):
        return HUNG_UP


def refusals(url: str, target: str, token: str) -> dict[str, tuple[str, str, str | None]]:
    """Return what a server refuses from the head alone: method, URL and token, by status.

    Args:
        url: of a server that requires tokens, and whose limit on bodies all bodies exceed.
        target: one that it serves.
        token: good for everything.
    """
    path = f"{url}/v1/classify/{target}"
    return {
        "413": ("POST", path, token),
        "404": ("POST", f"{url}/v1/classify/nothing", token),
        "405": ("PUT", path, token),
        "401": ("POST", path, None),
        "400": ("POST", f"{path}?top_k=0", token),
    }


def uploads(url: str, target: str, token: str, file: Path) -> dict[str, Upload]:
    """Return an upload of a file for each status."""
    return {
        status: Upload(
            to,
            method,
            {"Content-Type": "image/png"} | ({} if bearer is None else {"Authorization": f"Bearer {bearer}"}),
            file,
        )
        for status, (method, to, bearer) in refusals(url, target, token).items()
    }


def body(folder: Path, mebibytes: int) -> Path:
    """Write a body; return its file."""
    file = folder / f"{mebibytes}.bin"
    if not file.exists():
        file.write_bytes(bytes(mebibytes << 20))
    return file


def measure(times: int, sizes: Sequence[int], home: Path) -> dict[str, Any]:
    """Let every client be refused, print the table; return everything as JSON values."""
    with Registry.open(Settings.read(home)) as registry:
        weightless.put_into_production(registry, _TARGET)
        _, token = registry.add_token("clients")
    found: dict[str, dict[str, Counter[str]]] = {}
    with cultivar(home, {}, auth="required", max_body_bytes=_LIMIT_BYTES) as contender:
        url = f"http://127.0.0.1:{contender.port}"
        for client in installed():
            found[client] = {}
            for mebibytes in sizes:
                file = body(home, mebibytes)
                for status, upload in uploads(url, _TARGET, token, file).items():
                    asked = times if mebibytes < HUGE_MIB else max(1, times // 4)
                    found[client][f"{status} at {mebibytes} MiB"] = Counter(
                        seen(client, upload) for _ in range(asked)
                    )
            say(f"  {client}: {found[client]}")
    rows = {client: [_share(counts, mebibytes) for mebibytes in sizes] for client, counts in found.items()}
    print(table("client", [f"{mebibytes} MiB" for mebibytes in sizes], rows))
    missed = [
        float(sum(counted.values()) - counted[case.partition(" ")[0]])
        for counts in found.values()
        for case, counted in counts.items()
        if f" {HUGE_MIB} MiB" not in case
    ]
    hung = [float(counted[HANGS]) for counts in found.values() for counted in counts.values()]
    verdicts = [
        Verdict("statuses that a client missed", Spread.of([sum(missed)]), 0, at_least=False),
        Verdict("clients that hang", Spread.of([sum(hung)]), 0, at_least=False),
    ]
    return {
        "reached": verdict.show(verdicts),
        "machine": describe(),
        "seen": found,
        "verdicts": [each.to_json() for each in verdicts],
    }


def _share(counts: Mapping[str, Counter[str]], mebibytes: int) -> str:
    """Say how many statuses were seen at a size, and what else."""
    asked: Counter[str] = Counter()
    for case, counted in counts.items():
        status, _, size = case.partition(" at ")
        if size == f"{mebibytes} MiB":
            for what, count in counted.items():
                asked["seen" if what == status else what] += count
    others = "".join(f", {count} {what}" for what, count in asked.items() if what != "seen")
    return f"{asked['seen']} of {sum(asked.values())}{others}"


def main() -> None:
    """Measure and print; exit 1 where a client missed a status."""
    experiment = Experiment("clients", __doc__, quick="each once, up to 10 MiB")
    given = experiment.arguments
    times, sizes = (1, SIZES_MIB[:2]) if given.quick else (TIMES, (*SIZES_MIB, HUGE_MIB))
    experiment.run(lambda home: measure(times, sizes, home))


if __name__ == "__main__":
    main()
