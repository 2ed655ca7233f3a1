"""The command ``doctor``: checks a registry."""

from collections.abc import Sequence

import click
from rich.console import Console

from registry.commands.shell import Shell, command
from registry.examination import FAILURE, Check, examine


@command("doctor")
def doctor(shell: Shell) -> None:
    """Check the registry and explain how to fix problems; exits with 1 if a check fails.

    Checks that the catalog and the blob store respond and are writable, that gc can run, that the bytes that
    versions need exist (verify also reads them), file modes, and disk space. Warnings alone exit with 0.
    """
    checks = list(examine(shell.settings))
    ok = all(check.outcome != FAILURE for check in checks)
    document = {"ok": ok, "checks": [check.to_json() for check in checks]}
    shell.emit(document, lambda out: _show_checks(out, checks))
    if not ok:
        click.get_current_context().exit(1)


def _show_checks(out: Console, checks: Sequence[Check]) -> None:
    for check in checks:
        line = f"{check.outcome:<9}{check.name}: {check.message}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)
