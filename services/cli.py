"""The ``cultivar`` command: the composition root of the packages.

Commands are imported on demand, so that ``cultivar list`` loads neither torch nor BentoML, and an installation
without the training packages has all other commands. The general help imports none.
"""

import importlib
from dataclasses import dataclass

import click

from registry.commands.shell import Root, registry_options


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """The location of a command.

    Attributes:
        path: ``module:name``.
        summary: its line in the general help.
    """

    path: str
    summary: str


COMMANDS = {
    "sources": CommandEntry("adapters.cli:sources", "List the sources to transfer from."),
    "advise": CommandEntry(
        "adapters.advise.command:advise", "Measure sources on a dataset and recommend a technique."
    ),
    "adapt": CommandEntry(
        "adapters.cli:adapt", "Adapt a source to a dataset's task and register the version."
    ),
    "report": CommandEntry(
        "adapters.report.command:report",
        "Write a report about a version: metrics, curves, mistakes, segments.",
    ),
    "list": CommandEntry("registry.commands.versions:list_versions", "List versions, newest first."),
    "show": CommandEntry("registry.commands.versions:show", "Show one version and its manifest."),
    "history": CommandEntry(
        "registry.commands.versions:history",
        "Show a target's events, or its stages at a given time.",
    ),
    "lineage": CommandEntry(
        "registry.commands.versions:lineage",
        "Show a version's ancestors, and which segments each one shares with its parent.",
    ),
    "compare": CommandEntry(
        "registry.commands.versions:compare",
        "Compare two versions: metrics, labels, spaces, segments, and predictions on the same examples.",
    ),
    "promote": CommandEntry(
        "registry.commands.stages:promote", "Move a version to a stage and retire the version that was there."
    ),
    "rollback": CommandEntry(
        "registry.commands.stages:rollback",
        "Return a target's production stage to the previous version; repeat to go further back.",
    ),
    "delete": CommandEntry(
        "registry.commands.storage:delete",
        "Delete a version that no stage, rollback or child version needs; gc then frees its bytes.",
    ),
    "verify": CommandEntry(
        "registry.commands.storage:verify",
        "Read and check every byte that versions need; exits with 1 if anything is damaged.",
    ),
    "gc": CommandEntry(
        "registry.commands.storage:gc",
        "Delete bytes that no version needs: one run condemns them, a run after the grace period deletes them.",
    ),
    "doctor": CommandEntry(
        "registry.commands.doctor:doctor",
        "Check the registry and explain how to fix problems; exits with 1 if a check fails.",
    ),
    "registry": CommandEntry("registry.commands.fork:registry", "The identity of a registry."),
    "tokens": CommandEntry("registry.commands.tokens:tokens", "Bearer tokens for servers."),
    "classify": CommandEntry(
        "services.commands.inference:classify", "Classify pictures or texts without a server."
    ),
    "embed": CommandEntry(
        "services.commands.inference:embed", "Turn pictures or texts into feature vectors without a server."
    ),
    "targets": CommandEntry(
        "services.commands.inference:targets",
        "Show what would be served, which segments are shared, and how many bytes that saves.",
    ),
    "serve": CommandEntry(
        "services.commands.serve:serve", "Serve what is in production over HTTP, and follow promotions."
    ),
    "demo": CommandEntry(
        "services.commands.demo:demo",
        "Run the whole workflow: compare techniques, adapt, promote, serve, send a request.",
    ),
}
"""Every command, in the order of a version's life."""


class Commands(Root):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command's name, in the order of a version's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].path.partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in COMMANDS.items()])


@click.command("cultivar", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cultivar")
@registry_options
@click.pass_context
def main(context: click.Context, /, **registry: str | None) -> None:
    """Adapt pretrained models to new tasks, register them, promote them on evidence, serve them."""
    context.obj = registry


if __name__ == "__main__":
    main()
