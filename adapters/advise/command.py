"""The command ``advise``: recommends a technique for a source and a dataset."""

from typing import TYPE_CHECKING

import click

from adapters import options
from registry.commands.shell import Shell, command, show_table
from registry.extras import ADAPT

if TYPE_CHECKING:
    from rich.console import Console

    from adapters.advise.advice import Advice


@command("advise", needs=(ADAPT,), short_help="Measure sources on a dataset and recommend a technique.")
@click.argument("data")
@click.option(
    "--source",
    "sources",
    required=True,
    multiple=True,
    metavar="SPEC",
    help="The source to start from; repeat it to rank several sources.",
)
@click.option("--test", metavar="DATA", help="Test data, as in adapt; it is not used.")
@options.min_count
@options.seed
@click.option("--no-verify", is_flag=True, help="Skip the trials of the two best; use rules and costs only.")
@click.option(
    "--prefer",
    type=click.Choice(["cost", "accuracy"]),
    default="cost",
    show_default=True,
    help="Prefer a cheaper technique unless a costlier one is shown to be better (cost), or ignore costs (accuracy).",
)
def advise(
    shell: Shell,
    data: str,
    sources: tuple[str, ...],
    test: str | None,
    min_count: int | None,
    seed: int,
    no_verify: bool,
    prefer: str,
) -> None:
    """Measure each source on DATA, recommend a technique, and give the reasons with the measurements.

    Nothing is registered. Held-out examples are not used. DATA is the same as for adapt.
    """
    from adapters.advise.advice import adapt_command
    from adapters.advise.decision import Preference
    from adapters.advise.phrases import ends
    from adapters.advise.ranking import advise_all
    from adapters.sources.providers import find
    from adapters.sources.verifier import Verifier

    progress = shell.progress()
    ranked = advise_all(
        [find(spec) for spec in dict.fromkeys(sources)],
        data,
        test=test,
        seed=seed,
        tries=not no_verify,
        progress=progress,
        min_count=min_count or 0,
        verifier=Verifier(shell.settings.verified, progress),
        prefer=Preference(prefer),
    )
    best = ranked[0]
    next_, rest = adapt_command(best, data, test, min_count or 0)
    document = best.to_json() | {"command": next_, "sources": [_standing(each) for each in ranked]}

    def show(out: "Console") -> None:
        out.print(best.text(), highlight=False, markup=False)
        rows = (
            (
                str(candidate.proposal),
                "-" if (figure := candidate.accuracy) is None else f"{100 * figure.value:.1f} %",
                "" if figure is None else ends(figure),
                "" if (cost := candidate.cost) is None else cost.text(),
                "tried" if candidate.tried else "",
            )
            for candidate in best.candidates
        )
        out.print()
        show_table(out, ["candidate", "accuracy", "95 %", "would take", ""], rows)
        if len(ranked) > 1:
            out.print()
            standings = (
                (
                    each.source,
                    "-" if (last := each.measured.last) is None else f"{100 * last.accuracy.value:.1f} %",
                    "yes" if each.negative_transfer else "no",
                )
                for each in ranked
            )
            show_table(out, ["source", "head on its last cut", "negative transfer"], standings)
        out.print(
            f"\nNext ({best.seconds:.1f} s of measuring so far):\n\n  {next_}", highlight=False, markup=False
        )
        if rest:
            out.print(f"\nwith advice.toml:\n\n{_toml(rest)}", highlight=False, markup=False)

    shell.emit(document, show)


def _standing(advice: "Advice") -> dict[str, object]:
    """Return the JSON form of one source in a ranking."""
    last = advice.measured.last
    low, high = (None, None) if last is None or last.accuracy.ends is None else last.accuracy.ends
    return {
        "source": advice.source,
        "metric": None if last is None else round(last.accuracy.value, 4),
        "low": None if low is None else round(low, 4),
        "high": None if high is None else round(high, 4),
        "negative_transfer": advice.negative_transfer,
    }


def _toml(settings: "dict[str, object] | object") -> str:
    """Write flat settings as TOML; JSON scalars and lists of scalars are valid TOML."""
    import json

    assert isinstance(settings, dict)
    return "\n".join(f"  {name} = {json.dumps(value)}" for name, value in settings.items())
