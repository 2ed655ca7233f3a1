"""The command ``report``."""

from pathlib import Path

import click

from registry.commands.shell import Shell, command
from registry.extras import ADAPT


@command(
    "report",
    needs=(ADAPT,),
    short_help="Write a report about a version: metrics, curves, mistakes, segments.",
)
@click.argument("ref")
@click.option(
    "-o", "--output", metavar="PLACE", help="FILE.html or a folder; default SOURCE-TARGET-NUMBER.html here."
)
def report(shell: Shell, ref: str, output: str | None) -> None:
    """Write a self-contained report about a version: no scripts, no requests, light and dark, printable.

    REF is [SOURCE/]TARGET[@STAGE or @NUMBER or @sha256:PREFIX]; a bare target means production. A folder gets
    index.html, every plot as .svg, metrics.json and predictions.csv.
    """
    from adapters.report.material import Material
    from adapters.report.writing import check_place
    from adapters.report.writing import report as write
    from registry.registry import Registry

    place = check_place(output or "./")
    with (
        Registry.open(shell.settings) as registry,
        shell.progress().step("reading the version"),
    ):
        material = Material.gather(registry, ref)
    version = material.version
    if output is None:
        place = Path(f"{version.source}-{version.target}-{version.number}.html")
    with shell.progress().step("drawing the report"):
        files = [str(path) for path in write(material, place)]
    shell.emit(
        {"ref": str(version.ref), "files": files},
        lambda out: out.print("\n".join(files), highlight=False, markup=False, soft_wrap=True),
    )
