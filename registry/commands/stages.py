"""The commands that move versions between stages: ``promote`` and ``rollback``."""

import click
from rich.console import Console

from registry.commands.shell import Shell, command
from registry.promotion import Promotion
from registry.registry import Registry


@command("promote")
@click.argument("ref")
@click.argument("stage")
@click.option(
    "--expect", type=click.IntRange(0), metavar="EVENT", help="Only if this is the last stage event."
)
@click.option("--force", is_flag=True, help="Promote even if a gate fails; needs --reason.")
@click.option("--reason", metavar="TEXT", help="Why; kept in the history.")
def promote(shell: Shell, ref: str, stage: str, expect: int | None, force: bool, reason: str | None) -> None:
    """Move a version to a stage and retire the version that was there.

    STAGE is staging, production or a name of your choice. Promoting to retired removes a version from every
    stage and from the versions that a rollback can return to.
    """
    if force and not reason:
        raise click.UsageError("--force needs --reason TEXT")
    with Registry.open(shell.settings) as registry:
        _warn_of_lag(shell, registry)
        promotion = registry.promote(ref, stage, expect=expect, force=force, reason=reason)
    shell.emit(promotion.to_json(), lambda out: _show_promotion(out, promotion))


@command("rollback")
@click.argument("target")
@click.option(
    "--expect", type=click.IntRange(0), metavar="EVENT", help="Only if this is the last stage event."
)
@click.option("--reason", metavar="TEXT", help="Why; kept in the history.")
def rollback(shell: Shell, target: str, expect: int | None, reason: str | None) -> None:
    """Return a target's production stage to the previous version; repeat to go further back."""
    with Registry.open(shell.settings) as registry:
        _warn_of_lag(shell, registry)
        promotion = registry.rollback(target, expect=expect, reason=reason)
    shell.emit(promotion.to_json(), lambda out: _show_promotion(out, promotion))


def _warn_of_lag(shell: Shell, registry: Registry) -> None:
    if lag := registry.lag():
        shell.note(f"warning: {lag}")


def _show_promotion(out: Console, promotion: Promotion) -> None:
    for gate in promotion.gates:
        out.print(f"{gate.name}: {gate.outcome}", highlight=False)
    before = f", before {promotion.previous}" if promotion.previous not in (None, promotion.ref) else ""
    out.print(
        f"{promotion.target}@{promotion.stage} is {promotion.ref}{before} (event {promotion.event})",
        highlight=False,
    )
