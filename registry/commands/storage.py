"""The commands that delete and check what is stored: ``delete``, ``verify`` and ``gc``."""

from datetime import timedelta

import click
from rich.console import Console
from rich.markup import escape

from registry.collection import GRACE
from registry.commands.parameters import Duration
from registry.commands.shell import Shell, command
from registry.registry import Registry
from registry.verification import Report


@command("delete")
@click.argument("ref")
@click.option("--reason", metavar="TEXT", required=True, help="Why; kept in the history.")
def delete(shell: Shell, ref: str, reason: str) -> None:
    """Delete a version that no stage, rollback or child version needs; gc then frees its bytes."""
    with Registry.open(shell.settings) as registry:
        event = registry.delete(ref, reason)
    shell.emit(event.to_json(), lambda out: out.print(f"{event.ref} deleted", highlight=False))


@command("verify")
@click.argument("ref", required=False)
def verify(shell: Shell, ref: str | None) -> None:
    """Read and check every byte that versions need; exits with 1 if anything is damaged."""
    with Registry.open(shell.settings) as registry:
        report = registry.verify(ref, shell.progress(passing=True))
    shell.emit(report.to_json(), lambda out: _show_report(out, report))
    if not report.ok:
        click.get_current_context().exit(1)


@command("gc")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted now.")
@click.option(
    "--grace", type=Duration(), default=GRACE, show_default="1h", metavar="TIME",
    help="How long condemned bytes are kept for readers; 0 deletes at once.",
)  # fmt: skip
@click.option(
    "--adopt", is_flag=True,
    help="Take over the blob store, including unknown bytes; this run deletes nothing.",
)  # fmt: skip
def gc(shell: Shell, dry_run: bool, grace: timedelta, adopt: bool) -> None:
    """Delete bytes that no version needs: one run condemns them, a run after the grace period deletes them.

    gc stops and deletes nothing if this catalog may not be the only owner of the bytes: another catalog uses
    them, this catalog is older than they are, or it does not know some of them. With --adopt this catalog
    takes them over: unknown bytes are condemned now, and a later run deletes them.
    """
    if adopt:
        with Registry.open(shell.settings) as registry:
            adoption = registry.adopt(dry_run=dry_run)
        done = "would adopt" if dry_run else "adopted"
        shell.emit(
            adoption.to_json(),
            lambda out: out.print(
                f"{done} {len(adoption.adopted)}, {adoption.bytes:,} bytes; a run after the grace period deletes them",
                highlight=False,
                soft_wrap=True,
            ),
        )
        return
    with Registry.open(shell.settings) as registry:
        collection = registry.collect(dry_run=dry_run, grace=grace, progress=shell.progress(passing=True))
    verb = "would remove" if dry_run else "removed"

    def render(out: Console) -> None:
        for name in collection.removed:
            out.print(name, highlight=False)
        out.print(f"{verb} {len(collection.removed)}, {collection.bytes:,} bytes", highlight=False)
        if collection.condemned:
            out.print(f"{collection.condemned} more wait for the end of their grace period", highlight=False)

    shell.emit(collection.to_json(), render)


def _show_report(out: Console, report: Report) -> None:
    for damage in report.damaged:
        refs = ", ".join(str(ref) for ref in damage.refs) or "no version"
        out.print(f"damaged {damage.kind} {escape(damage.id)}: {refs}", highlight=False, soft_wrap=True)
    found = "all sound" if report.ok else f"{len(report.damaged)} damaged"
    out.print(f"{report.checked} checked, {found}", highlight=False)
