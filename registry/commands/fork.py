"""The commands ``registry …``: which registry a catalog is."""

import click

from registry.commands.shell import Shell, command
from registry.registry import Registry


@command("fork")
def fork(shell: Shell) -> None:
    """Make a catalog that was copied a registry of its own, with a new id.

    Run it on one of two copies that use the same blobs. Both can go on adding versions; gc stops in blobs that
    several registries use, until 'cultivar gc --adopt' is run for the one that is left.
    """
    with Registry.open(shell.settings) as registry:
        identity = registry.fork()
    document = {"registry": identity.id, "epoch": identity.epoch}
    shell.emit(document, lambda out: out.print(f"this catalog is registry {identity.id}", highlight=False))


registry = click.Group("registry", commands=[fork], help="Which registry a catalog is.")
