"""The command ``serve``. It stays small, as its process waits for as long as the server runs."""

import json
import urllib.request
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import click
from rich.console import Console

from registry.commands.shell import Shell, command
from registry.errors import RuntimeFailure
from registry.extras import SERVE
from registry.modes import may_write
from registry.settings import Settings
from services.commands.deployed_versions import DeployedVersionsProcess
from services.deployment.states import READY, UNAVAILABLE
from services.process.server import Server, stopped_by_signals
from services.settings import AUTHS, REQUIRED, ServeSettings, split_names


@command("serve", needs=(SERVE,))
@click.option(
    "--host", metavar="HOST", help="Address or name to listen on (CULTIVAR_SERVE_HOST, else 127.0.0.1)."
)
@click.option("--port", type=click.IntRange(1, 65_535), help="Port (CULTIVAR_SERVE_PORT, else 3000).")
@click.option(
    "--workers", type=click.IntRange(1, 256), help="Server processes, each with its own models; default 1."
)
@click.option(
    "--stage", "stages", metavar="STAGE", multiple=True, help="A stage to serve besides production."
)
@click.option("--targets", metavar="A,B", help="The targets to serve; default all.")
@click.option(
    "--auth", type=click.Choice(AUTHS),
    help="Whether requests need a token; auto, the default: unless on a loopback address.",
)  # fmt: skip
@click.option(
    "--strict-ready", is_flag=True, default=None, help="Not ready while any target cannot be served."
)
@click.option(
    "--drain-seconds",
    "drain_s",
    type=click.FloatRange(0, 3600),
    help="On SIGTERM, seconds of 503 on /readyz before it stops listening (CULTIVAR_SERVE_DRAIN_S, else 0).",
)
def serve(
    shell: Shell,
    host: str | None,
    port: int | None,
    workers: int | None,
    stages: tuple[str, ...],
    targets: str | None,
    auth: str | None,
    strict_ready: bool | None,
    drain_s: float | None,
) -> None:
    """Serve what is in production over HTTP, and follow promotions."""
    settings = ServeSettings.read(
        host=host,
        port=port,
        workers=workers,
        stages=tuple(stage for text in stages for stage in split_names(text)) or None,
        targets=None if targets is None else split_names(targets),
        auth=auth,
        strict_ready=strict_ready,
        drain_s=drain_s,
    ).decided()
    if settings.auth == REQUIRED:
        shell.note("requests need a token; 'cultivar tokens add NAME' makes one")
    elif not settings.loopback:
        shell.note(f"warning: tokens are off, anybody who can reach {settings.host} can send requests")
    server, deployed = (
        Server(settings, shell.settings),
        DeployedVersionsProcess(shell.settings, settings.served_stages),
    )
    with stopped_by_signals(server, deployed):
        try:
            _serve(shell, server, deployed)
        except RuntimeFailure:
            if not server.stopping:  # if it is stopping, the failure follows from that
                raise


def _serve(shell: Shell, server: Server, deployed: DeployedVersionsProcess) -> None:
    """Run a server until it ends, and show what it serves."""
    with deployed:
        if not _opens(shell.settings):
            deployed.check()
        with server:
            deployed.check()
            with shell.progress(passing=True).step("loading what is served"):
                if not server.wait_until_ready(timeout_s=None):
                    return
            document = _served(server, deployed.read())
            shell.emit(document, lambda console: _show_served(console, document))
            server.wait()


def _opens(registry: Settings) -> bool:
    """Return, at no cost, whether a registry can probably be opened; a database is checked while the server starts."""
    file = registry.catalog_file
    return file is None or (may_write(file) and may_write(file.parent))


def _served(server: Server, deployed: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return what a server that just became ready serves; it has no token, so it uses the registry and readiness."""
    with urllib.request.urlopen(f"{server.url}/readyz", timeout=10) as answer:
        refused = {(each["target"], each["stage"]) for each in json.load(answer)["refused"]}
    wanted = server.settings.targets
    targets = [
        {**each, "state": UNAVAILABLE if (each["target"], each["stage"]) in refused else READY}
        for each in deployed
        if not wanted or each["target"] in wanted
    ]
    return {
        "url": server.url,
        "pid": server.pid,
        "targets": sorted(targets, key=itemgetter("target", "stage")),
    }


def _show_served(console: Console, document: dict[str, Any]) -> None:
    names = ", ".join(f"{entry['target']}@{entry['stage']}" for entry in document["targets"])
    console.print(f"ready on {document['url']}: {names or 'no target yet'}", highlight=False, soft_wrap=True)
