"""The commands ``classify``, ``embed`` and ``targets``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from registry.cache import DiskStore
from registry.commands.shell import Column, Shell, command, show_table
from registry.names import PRODUCTION
from registry.registry import Registry
from services.commands.input_files import Input, PictureFile, inputs_of, other_columns
from services.commands.offline import OfflineModel
from services.commands.vector_files import VectorTable, check_columns, check_output, write_vectors
from services.deployment.identity import head_of, require_features
from services.deployment.sharing import sharing, tree
from services.inference.ranking import Ranking, results_of
from services.settings import DEFAULT_TOP_K, split_names

_SHOWN_COMPONENTS = 6
_SHOWN_CHARACTERS = 60


_INPUTS = click.argument(
    "paths",
    metavar="INPUT...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, allow_dash=True, path_type=Path),
)


@command("targets")
@click.option("--stage", "stages", metavar="STAGE", multiple=True, help="A stage to show besides production.")
def targets(shell: Shell, stages: tuple[str, ...]) -> None:
    """Show what would be served, which segments are shared, and how many bytes that saves.

    A line is a run of segments, loaded once and run once for everything below it.
    """
    named = [PRODUCTION, *(name for text in stages for name in split_names(text) if name != PRODUCTION)]
    with Registry.open(shell.settings) as registry:
        found = [(stage, version) for stage in named for version in registry.deployed(stage)]
        shared = sharing(
            (f"{version.target}@{stage}", version.digest, registry.manifest(version))
            for stage, version in found
        )
    entries = [
        {
            "target": version.target,
            "stage": stage,
            "ref": str(version.ref),
            "version": version.number,
            "digest": version.digest,
            "kind": version.kind,
        }
        for stage, version in found
    ]
    shell.emit(
        {"targets": entries, "sharing": shared}, lambda console: _show_targets(console, entries, shared)
    )


def _show_targets(console: Console, entries: list[dict[str, Any]], shared: dict[str, Any]) -> None:
    if not console.is_terminal:
        show_table(console, ["target", "stage", "version", "kind", "digest", "runs"], _rows(entries, shared))
        return
    lines = list(tree(shared)) or ["nothing is in production yet: cultivar promote REF production"]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _rows(entries: list[dict[str, Any]], shared: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each target, with its runs; runs named by two targets are shared."""
    for entry in entries:
        name = f"{entry['target']}@{entry['stage']}"
        runs = " ".join(run["id"] for run in shared["runs"] if name in run["serves"])
        yield entry["target"], entry["stage"], entry["ref"], entry["kind"], entry["digest"], runs


@command("classify")
@click.argument("ref")
@_INPUTS
@click.option(
    "--top-k", type=click.IntRange(min=1), default=DEFAULT_TOP_K, show_default=True, help="Labels for each."
)
def classify(shell: Shell, ref: str, paths: tuple[Path, ...], top_k: int) -> None:
    """Classify pictures or texts without a server.

    For a model of pictures, INPUT is a file, or a folder with pictures inside. For a model of texts it is
    a .txt file with one text per line (- is standard input), or a .csv, .jsonl or .parquet file with the
    column text, and text_pair for pairs.
    """
    progress = shell.progress(passing=True)
    with Registry.open(shell.settings) as registry:
        version = registry.resolve(ref)
        manifest = registry.manifest(version)
        head_of(manifest)
        inputs = inputs_of(paths, manifest.modality, shell.note)
        with progress.step(f"opening {version.ref}"):
            offline = OfflineModel(registry, str(version.ref))
    with progress.step("classify", len(inputs)) as step:
        rankings = offline.classify(inputs, top_k, step.advance)
    results = [
        {"input": each.name} | result for each, result in zip(inputs, results_of(rankings), strict=True)
    ]
    identity = offline.identity
    document = {**identity.to_json(), "labels_digest": identity.labels_digest, "results": results}
    shell.emit(document, lambda console: _show_rankings(console, identity.ref, inputs, rankings))


def _show_rankings(console: Console, ref: str, inputs: list[Input], rankings: list[Ranking]) -> None:
    columns: list[Column | str] = [_naming(inputs), "label", Column("score", right=True), "then"]
    digits = ".3f" if console.is_terminal else ".6g"
    rows = (
        (
            _named(each),
            label,
            f"{score:{digits}}",
            ", ".join(f"{other} {value:{digits}}" for other, value in others),
        )
        for each, ((label, score), *others) in zip(inputs, rankings, strict=True)
    )
    show_table(console, columns, rows, title=ref)


@command("embed")
@click.argument("ref")
@_INPUTS
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="FILE.csv, FILE.npy or FILE.parquet to write the vectors to.",
)
def embed(shell: Shell, ref: str, paths: tuple[Path, ...], output: Path | None) -> None:
    """Turn pictures or texts into feature vectors without a server.

    For a model of pictures, INPUT is a file, or a folder with pictures inside. For a model of texts it is
    a .txt file with one text per line (- is standard input), or a .csv, .jsonl or .parquet file with the
    column text, and text_pair for pairs.
    """
    progress = shell.progress(passing=True)
    if output is not None:
        check_output(output, paths)
    with Registry.open(shell.settings) as registry:
        version = registry.resolve(ref)
        manifest = registry.manifest(version)
        require_features(manifest)
        inputs = inputs_of(paths, manifest.modality, shell.note)
        columns = () if output is None or output.suffix.lower() == ".npy" else other_columns(inputs)
        if output is not None:
            check_columns(output, columns)
        with progress.step(f"opening {version.ref}"):
            store = DiskStore(shell.settings.features, shell.settings.cache_bytes)
            offline = OfflineModel(registry, str(version.ref), store)
    identity, dimension = offline.identity, offline.dimension
    document: dict[str, object] = {**identity.to_json(), "dim": dimension}
    if output is not None:
        with progress.step("embed", len(inputs)) as step:
            table = VectorTable(identity, inputs, dimension, columns)
            write_vectors(output, table, offline.embed(inputs, step.advance))
        document |= {"rows": len(inputs), "output": str(output)}
        shell.emit(
            document,
            lambda console: console.print(
                f"{len(inputs):,} rows of {dimension} written to {output}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            ),
        )
        return
    with progress.step("embed", len(inputs)) as step:
        vectors = np.concatenate(list(offline.embed(inputs, step.advance)))
    document |= {"inputs": [each.name for each in inputs], "embeddings": vectors.tolist()}
    shell.emit(document, lambda console: _show_vectors(console, identity.ref, inputs, vectors))


def _show_vectors(console: Console, ref: str, inputs: list[Input], vectors: np.ndarray) -> None:
    if console.is_terminal:
        heading = f"the first of {vectors.shape[1]} components; -o FILE keeps all"
        shown = (" ".join(f"{value:.4g}" for value in row[:_SHOWN_COMPONENTS]) for row in vectors)
    else:
        heading = "embedding"
        shown = (" ".join(map(str, row)) for row in vectors)
    rows = ((_named(each), values) for each, values in zip(inputs, shown, strict=True))
    show_table(console, [_naming(inputs), heading], rows, title=ref)


def _naming(inputs: list[Input]) -> Column:
    """Return the column with the names of the inputs; a terminal shows only the beginning of texts."""
    return Column("input", shorten=None if isinstance(inputs[0], PictureFile) else _beginning)


def _named(each: Input) -> str:
    """Return the name of an input in a table: a path, or a text."""
    return each.name if isinstance(each.name, str) else " | ".join(each.name)


def _beginning(name: str) -> str:
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
