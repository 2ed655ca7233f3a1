"""Options shared by several commands."""

import click

min_count = click.option(
    "--min-count",
    type=click.IntRange(1),
    metavar="N",
    default=None,
    help="Drop labels with fewer than N examples; by default all are kept.",
)

seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
