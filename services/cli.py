"""The ``cultivar`` command: the composition root, where the packages meet.

Commands are imported when they are asked for, so that ``cultivar list`` loads neither torch nor
BentoML, and a server without the training half still has all of its own.
"""

import importlib

import click

from registry.shell import registry_options

COMMANDS = {
    "sources": "adapters.cli:sources",
    "advise": "adapters.advise.command:advise",
    "adapt": "adapters.cli:adapt",
    "report": "adapters.report.command:report",
    "list": "registry.cli:list_versions",
    "show": "registry.cli:show",
    "history": "registry.cli:history",
    "lineage": "registry.cli:lineage",
    "compare": "registry.cli:compare",
    "promote": "registry.cli:promote",
    "rollback": "registry.cli:rollback",
    "delete": "registry.cli:delete",
    "verify": "registry.cli:verify",
    "gc": "registry.cli:gc",
    "registry": "registry.fork_command:registry",
    "tokens": "registry.tokens_command:tokens",
    "classify": "services.commands:classify",
    "embed": "services.commands:embed",
    "targets": "services.commands:targets",
    "serve": "services.serve_command:serve",
    "demo": "services.demo:demo",
}
"""Every command, in the order of a version's life, and where it is."""


class Commands(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command's name, in the order of a version's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found


@click.command("cultivar", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cultivar")
@registry_options
@click.pass_context
def main(context: click.Context, /, **registry: str | None) -> None:
    """Carry pretrained models over to new tasks, keep them, promote them on evidence, serve them."""
    context.obj = registry


if __name__ == "__main__":
    main()
