"""The commands ``sources`` and ``adapt``."""

from contextlib import nullcontext

import click
from rich.console import Console

from adapters import options
from registry.commands.shell import Column, Shell, command, show_record, show_table
from registry.extras import ADAPT


@command("sources", needs=(ADAPT,), short_help="List the sources to transfer from.")
@click.option(
    "--provider",
    metavar="SCHEME",
    help="Only sources of this provider: bundled, torchvision, timm, hf, vectors, registry.",
)
@click.option("--at-hand", is_flag=True, help="Only sources whose weights are on this machine.")
def sources(shell: Shell, provider: str | None, at_hand: bool) -> None:
    """List every source: its task, feature dimension, cut points, and whether its weights are on this machine."""
    from adapters.sources.providers import REGISTRY, offered
    from registry.registry import Registry

    with Registry.open(shell.settings) if provider == REGISTRY else nullcontext() as registry:
        offers = offered(provider, registry)
        found = [source for source in offers if not at_hand or source.weights_at_hand()]
    document = {
        "sources": [
            {
                "spec": source.spec,
                "task": source.task,
                "modality": source.modality,
                "dimension": source.dimension,
                "cuts": list(source.cuts),
                "labels": len(source.labels),
                "licence": source.licence,
                "at_hand": source.weights_at_hand(),
            }
            for source in found
        ]
    }

    def show(out: Console) -> None:
        columns: list[Column | str] = [
            Column("source", wrap=False),
            "task",
            Column("dimension", right=True),
            "cut points",
            "weights",
        ]
        rows = (
            (
                source.spec,
                source.task or "-",
                str(source.dimension),
                " ".join(source.cuts),
                "at hand" if source.weights_at_hand() else "-",
            )
            for source in found
        )
        show_table(out, columns, rows)

    shell.emit(document, show)


@command("adapt", needs=(ADAPT,), short_help="Adapt a source to a dataset's task and register the version.")
@click.argument("data")
@click.option(
    "--source", required=True, metavar="SPEC", help="The source to start from; 'cultivar sources' lists them."
)
@click.option("--target", required=True, metavar="TASK", help="The target task to register under.")
@click.option(
    "--technique",
    required=True,
    metavar="NAME",
    help="as-is, features, frozen, layers, partial, full, lp-ft, lora, contrastive, scratch; or auto.",
)
@click.option("--test", metavar="DATA", help="Test data; by default about a fifth of DATA is held out.")
@options.min_count
@click.option("--depth", type=click.IntRange(1), help="Stages to retrain, from the top (partial, lora).")
@click.option("--epochs", type=click.IntRange(1), help="Most epochs to train for.")
@click.option("--label-map", metavar="FILE", help="JSON or TOML: target label to source labels (as-is).")
@click.option("--labels", metavar="FILE", help="The source's labels, one per line, if it has none (as-is).")
@options.seed
@click.option(
    "--config", metavar="FILE", help="TOML file with the technique's hyper-parameters; options override it."
)
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="A hyper-parameter, its value in TOML syntax; repeatable.",
)
@click.option("--source-task", metavar="TASK", help="The source task, if the source does not declare one.")
@click.option("--promote", metavar="STAGE", help="Promote the version to this stage at the end.")
@click.option(
    "--prefer",
    type=click.Choice(["cost", "accuracy"]),
    help="What auto prefers if a more accurate technique takes longer.  [default: cost]",
)
def adapt(
    shell: Shell,
    data: str,
    source: str,
    target: str,
    technique: str,
    test: str | None,
    min_count: int | None,
    depth: int | None,
    epochs: int | None,
    label_map: str | None,
    labels: str | None,
    seed: int,
    config: str | None,
    assignments: tuple[str, ...],
    source_task: str | None,
    promote: str | None,
    prefer: str | None,
) -> None:
    """Adapt a source to the task of DATA, check the export, evaluate it, and register the version.

    DATA is a folder of class folders, optionally inside train/, val/ and test/; a .csv, .jsonl or .parquet
    file with the columns image or text (and text_pair), label (or labels) and optionally group; or
    example:digits.
    """
    from adapters.adaptation import Order
    from adapters.adaptation import adapt as run
    from adapters.advise.decision import Preference
    from adapters.configuration import assigned, settings
    from adapters.sources.providers import find
    from adapters.sources.verifier import Verifier
    from registry.cache import DiskStore
    from registry.registry import Registry

    flags = {"depth": depth, "epochs": epochs, "label_map": label_map, "labels": labels}
    store = DiskStore(shell.settings.features, shell.settings.cache_bytes)
    with Registry.open(shell.settings) as registry:
        order = Order(
            data=data,
            source=find(source, registry),
            target=target,
            technique=technique,
            test=test,
            min_count=min_count or 0,
            settings=settings(config, assigned(assignments) | flags),
            source_task=source_task,
            seed=seed,
            promote=promote,
            prefer=None if prefer is None else Preference(prefer),
        )
        progress = shell.progress()
        adaptation = run(order, registry, progress, store, Verifier(shell.settings.verified, progress))
    if store.problem:
        shell.note(store.problem)
    document = adaptation.to_json()

    def show(out: Console) -> None:
        version, manifest = adaptation.version, adaptation.manifest
        fields = {"version": f"{version.ref}  {version.digest}  {', '.join(version.stages)}"}
        for name in ("accuracy", "balanced_accuracy", "ece"):
            if isinstance(figure := manifest.metrics.get(name), float):
                fields[name.replace("_", " ")] = (
                    f"{figure:.4f}  on {manifest.metrics['items']} held-out items"
                )
        parity = manifest.parity
        worst = max(parity.max_abs_difference.values())
        fields["parity"] = f"{worst:.2g} at most, on {sum(parity.inputs.values())} inputs"
        fields["segments"] = "  ".join(
            f"{each.name} ({each.role}, {each.bytes:,} B)" for each in manifest.segments
        )
        fields["seconds"] = "  ".join(f"{name} {spent:.1f}" for name, spent in adaptation.seconds.items())
        show_record(out, fields)

    shell.emit(document, show)
