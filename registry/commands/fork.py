"""The commands ``registry …``: the identity of a registry."""

import click

from registry.commands.shell import Shell, command
from registry.registry import Registry


@command("fork")
def fork(shell: Shell) -> None:
    """Turn a copied catalog into a separate registry with a new id.

    Run it on one of two copies that share a blob store. Both can then add versions. gc stops in a blob store
    that several registries use, until 'cultivar gc --adopt' is run for the one that remains.
    """
    with Registry.open(shell.settings) as registry:
        identity = registry.fork()
    document = {"registry": identity.id, "epoch": identity.epoch}
    shell.emit(document, lambda out: out.print(f"this catalog is registry {identity.id}", highlight=False))


registry = click.Group("registry", commands=[fork], help="The identity of a registry.")
