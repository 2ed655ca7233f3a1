"""``cultivar demo``: the whole workflow with the bundled source and real handwriting."""

import json
import shlex
import shutil
import subprocess
import urllib.request
from pathlib import Path

import click
from rich.console import Console

from registry.commands.shell import Shell, command
from registry.digests import Digest
from registry.extras import ADAPT, SERVE
from registry.manifest import Manifest
from registry.registry import Registry
from services.process.server import Server, check_port, free_port, stopped_by_signals
from services.settings import OFF, ServeSettings

SOURCE = "bundled:glyphs"
DATA = "example:digits"
TARGET = "digits"
TECHNIQUE = "frozen"
HOST = "127.0.0.1"
PORT = 3000


@command(
    "demo",
    needs=(ADAPT, SERVE),
    short_help="Run the whole workflow: compare techniques, adapt, promote, serve, send a request.",
)
@click.option("--port", type=click.IntRange(1, 65_535), help="Port to serve on; default 3000, or a free one.")
@click.option(
    "--exit", "leave", is_flag=True, help="End after the demonstration; by default the server keeps running."
)
@click.option("--skip-measuring", is_flag=True, help="Skip the comparison of techniques.")
def demo(shell: Shell, port: int | None, leave: bool, skip_measuring: bool) -> None:
    """Compare techniques, adapt, register, promote, serve, and send one HTTP request.

    The source is a small network that this project trained on printed letters; the task is
    scikit-learn's handwritten digits. Nothing is downloaded.
    """
    story: dict[str, object] = {}
    if not skip_measuring:
        story["shots"] = _measure(shell)
    with Registry.open(shell.settings) as registry:
        version, manifest = _carry_over(shell, registry)
        picture, label = _held_out_picture(registry, manifest)
    story["version"] = version
    file = shell.settings.home / f"handwritten-{label}.png"
    file.write_bytes(picture)
    settings = ServeSettings.read(host=HOST, port=port or _open_port(), auth=OFF)
    with (shell.settings.home / "demo-server.log").open("wb") as log:
        server = Server(settings, shell.settings, log.fileno())
        with stopped_by_signals(server), server:
            _run(shell, server, file, label, story, leave=leave)


def _run(
    shell: Shell, server: Server, file: Path, label: str, story: dict[str, object], *, leave: bool
) -> None:
    """Show a server's answer, and wait for the server to end."""
    _heading(shell, f"Serve what is in production at {server.url}")
    if not server.wait_until_ready():
        return
    story |= {"url": server.url, "answer": _ask(shell, server.url, file, label)}
    shell.emit(story, lambda out: _say_what_next(out, shell, server.url))
    if not leave:
        server.wait()


def _measure(shell: Shell) -> object:
    """Compare techniques by the number of labelled examples, and show the table."""
    from adapters.few_shot import Protocol, measure

    _heading(shell, "What are letters worth to handwritten digits? Held-out accuracy, in percent")
    comparison = measure(Protocol(source=SOURCE, data=DATA), shell.progress())
    shell.err.print(comparison)
    return comparison.to_json()


def _carry_over(shell: Shell, registry: Registry) -> tuple[dict[str, object], Manifest]:
    """Adapt, register and promote; return the version as JSON and its manifest."""
    from adapters.adaptation import Order, adapt
    from adapters.sources.providers import find

    _heading(shell, f"Adapt {SOURCE} to {DATA}, check the export, register, promote")
    order = Order(data=DATA, source=find(SOURCE), target=TARGET, technique=TECHNIQUE, promote="production")
    adaptation = adapt(order, registry, shell.progress())
    metrics, seconds = adaptation.manifest.metrics, sum(adaptation.seconds.values())
    shell.note(
        f"{adaptation.version.ref} is in production: {metrics['accuracy']:.1%} of {metrics['items']} "
        f"held-out digits right, in {seconds:.1f} s"
    )
    return adaptation.to_json(), adaptation.manifest


def _held_out_picture(registry: Registry, manifest: Manifest) -> tuple[bytes, str]:
    """Return the first picture of the test split, as a PNG file, and its label."""
    from adapters.datasets.examples import digits

    held_out = set(registry.blob(manifest.parts["test"].items).decode().split())
    for row in digits():
        if (
            isinstance(row.content, bytes)
            and isinstance(row.label, str)
            and Digest.of(row.content) in held_out
        ):
            return row.content, row.label
    raise LookupError("the test split contains none of the bundled digits")


def _open_port() -> int:
    """Return the usual port, or a free one if it is taken."""
    try:
        check_port(HOST, PORT)
    except ValueError:
        return free_port()
    return PORT


def _ask(shell: Shell, url: str, file: Path, label: str) -> object:
    """Send the picture as the printed command does, and show the answer."""
    address = f"{url}/v1/classify/{TARGET}?top_k=3"
    line = ["curl", "-s", "--data-binary", f"@{file}", "-H", "Content-Type: image/png", address]
    shell.err.print(f"\n  {shlex.join(line)}\n", markup=False, highlight=False, soft_wrap=True)
    if shutil.which("curl"):
        body = subprocess.run(line, check=True, capture_output=True, timeout=30).stdout
    else:
        request = urllib.request.Request(address, file.read_bytes(), {"Content-Type": "image/png"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
    document = json.loads(body)
    best = document["results"][0]["labels"][0]
    shell.note(
        f"a handwritten {label}, never seen in training: {best['label']} with score {best['score']:.3f}"
    )
    return document


def _heading(shell: Shell, text: str) -> None:
    shell.err.print(f"\n[bold]{text}[/]")


def _say_what_next(out: Console, shell: Shell, url: str) -> None:
    home = shlex.quote(str(shell.settings.home))
    lines = (
        f"server      {url}   (/v1/targets, /metrics, /readyz; Ctrl-C ends it)",
        f"versions    cultivar --home {home} list",
        f"history     cultivar --home {home} history {TARGET}",
        f"next task   cultivar --home {home} adapt DATA --source {SOURCE} --target TASK --technique frozen",
    )
    out.print("\n" + "\n".join(lines), markup=False, highlight=False, soft_wrap=True)
