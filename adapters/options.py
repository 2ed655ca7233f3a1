"""Options that commands share."""

import click

min_count = click.option(
    "--min-count",
    type=click.IntRange(1),
    metavar="N",
    default=None,
    help="Drop labels that fewer than N examples have; else all are kept.",
)

seed = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of everything random."
)
