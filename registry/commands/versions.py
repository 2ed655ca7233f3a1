"""The commands that show versions: ``list``, ``show``, ``history``, ``lineage`` and ``compare``."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import click
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from registry import instants
from registry.commands.parameters import Time
from registry.commands.shell import Column, Shell, command, show_record, show_table
from registry.comparison import Comparison
from registry.errors import InvalidValue
from registry.lifecycle import Event
from registry.lineage import Generation, Lineage
from registry.manifest import Json, Manifest
from registry.names import Ref
from registry.registry import MAX_LIMIT, Registry
from registry.statistics import Interval
from registry.versions import Page, Version


@command("list")
@click.option("--target", metavar="TASK", help="Only versions for this target task.")
@click.option("--source", metavar="TASK", help="Only versions transferred from this source task.")
@click.option("--stage", metavar="STAGE", help="Only versions in this stage; may be candidate or retired.")
@click.option("--technique", metavar="NAME", help="Only versions adapted with this technique.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LIMIT),
    default=100,
    show_default=True,
    help="Most versions to list.",
)
@click.option("--cursor", metavar="NEXT", help="Continue after the previous page.")
def list_versions(
    shell: Shell,
    target: str | None,
    source: str | None,
    stage: str | None,
    technique: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List versions, newest first."""
    with Registry.open(shell.settings) as registry:
        page = registry.versions(
            target=target, source=source, stage=stage, technique=technique, limit=limit, cursor=cursor
        )
    document = {"versions": [version.to_json() for version in page.versions], "next": page.next}
    shell.emit(document, lambda out: _show_page(out, page))
    if page.next is not None and not shell.as_json:
        shell.note(f"more: --cursor {page.next}")


@command("show")
@click.argument("ref")
def show(shell: Shell, ref: str) -> None:
    """Show one version and its manifest.

    REF is [SOURCE/]TARGET[@STAGE or @NUMBER or @sha256:PREFIX]; a bare target means production.
    """
    with Registry.open(shell.settings) as registry:
        version = registry.resolve(ref)
        manifest = registry.manifest(version)
    document = {**version.to_json(), "manifest": manifest.to_json()}
    shell.emit(document, lambda out: _show_version(out, version, manifest))


@command("history")
@click.argument("target")
@click.option(
    "--at", type=Time(), metavar="TIME", help="Show the stages at this time, such as 2026-05-03T14:00:00Z."
)
def history(shell: Shell, target: str, at: datetime | None) -> None:
    """Show a target's events, or its stages at a given time."""
    with Registry.open(shell.settings) as registry:
        if at is None:
            events = registry.history(target)
            passed = [event.to_json() for event in events]
            shell.emit({"target": target, "events": passed}, lambda out: _show_events(out, events))
        else:
            stages = registry.stages_at(target, at)
            then = {stage: str(ref) for stage, ref in stages.items()}
            moment = instants.to_text(at)
            shell.emit(
                {"target": target, "at": moment, "stages": then},
                lambda out: _show_stages(out, target, moment, stages),
            )


@command("lineage")
@click.argument("ref")
def lineage(shell: Shell, ref: str) -> None:
    """Show a version's ancestors, and which segments each one shares with its parent.

    REF is [SOURCE/]TARGET[@STAGE or @NUMBER or @sha256:PREFIX]; a bare target means production.
    """
    with Registry.open(shell.settings) as registry:
        found = registry.lineage(ref)
    shell.emit(found.to_json(), lambda out: _show_lineage(out, found))


@command("compare")
@click.argument("first")
@click.argument("second")
def compare(shell: Shell, first: str, second: str) -> None:
    """Compare two versions: metrics, labels, spaces, segments, and predictions on the same examples.

    FIRST and SECOND are refs. The paired test (exact McNemar) excludes and counts the examples that either
    version, or one of its ancestors, was trained on.
    """
    with Registry.open(shell.settings) as registry:
        found = registry.compare(first, second)
    shell.emit(found.to_json(), lambda out: _show_comparison(out, found))


def _show_page(out: Console, page: Page) -> None:
    columns: list[Column | str] = [
        Column("version", wrap=False),
        "technique",
        "stages",
        "accuracy",
        Column("registered", wrap=False),
    ]
    rows = (
        (
            str(version.ref),
            version.technique,
            " ".join(version.stages),
            _formatted(version.metrics["accuracy"]) if "accuracy" in version.metrics else "",
            _clock(version.created_at),
        )
        for version in page.versions
    )
    show_table(out, columns, rows, empty="no versions")


def _show_version(out: Console, version: Version, manifest: Manifest) -> None:
    fields = {
        "version": str(version.ref),
        "digest": version.digest,
        "stages": " ".join(version.stages),
        "technique": version.technique,
        "source": f"{manifest.origin.spec} ({manifest.origin.licence or 'licence unknown'})",
        "parent": version.parent or "none",
        "space": version.space_id or "none",
        "labels": "; ".join(f"{head.name}: {len(head.labels)}" for head in manifest.heads) or "none",
        "data": ", ".join(f"{part.count:,} {name}" for name, part in manifest.parts.items()),
        "metrics": ", ".join(
            f"{name} {_formatted(value)}"
            for name, value in version.metrics.items()
            if not isinstance(value, dict | list)
        ),
        "parity": ", ".join(
            f"{name} within {value:.1e}" for name, value in manifest.parity.max_abs_difference.items()
        ),
        "registered": _clock(version.created_at),
    }
    if not out.is_terminal:
        pieces = (
            (each.name, f"{each.role}, {each.bytes:,} bytes, {each.digest}") for each in manifest.segments
        )
        show_record(out, fields | {f"segment {name}": value for name, value in pieces})
        return
    show_record(out, fields)
    columns: list[Column | str] = [
        "segment",
        "role",
        Column("bytes", right=True),
        Column("digest", wrap=False),
    ]
    show_table(
        out,
        columns,
        ((each.name, each.role, f"{each.bytes:,}", each.digest.short) for each in manifest.segments),
    )


def _show_events(out: Console, events: Sequence[Event]) -> None:
    columns: list[Column | str] = [
        "event",
        Column("at", wrap=False),
        "actor",
        "action",
        Column("version", wrap=False),
        "stage",
        "reason",
    ]
    rows = (
        (
            str(event.id), _clock(event.at), event.actor, event.action, str(event.ref), event.stage or "",
            f"{'forced: ' if event.forced else ''}{event.reason or ''}",
        )
        for event in events
    )  # fmt: skip
    show_table(out, columns, rows)


def _show_stages(out: Console, target: str, moment: str, stages: Mapping[str, Ref]) -> None:
    rows = ((stage, str(ref)) for stage, ref in sorted(stages.items()))
    show_table(out, ["stage", "version"], rows, empty=f"{target} had no version in a stage at {moment}")


def _show_lineage(out: Console, found: Lineage) -> None:
    if not out.is_terminal:
        columns: list[Column | str] = [
            "version",
            "digest",
            "technique",
            "source",
            "stages",
            "shared",
            "own",
            "bytes saved",
            "deleted",
        ]
        show_table(out, columns, _generations(found))
        return
    tree = branch = Tree(escape(found.generations[0].source or "a source that is not known"))
    for generation in found.generations:
        name = str(generation.ref or generation.digest)
        shown = f"[bold]{escape(name)}[/]"
        if generation.gone:
            branch = branch.add(f"{shown}  {escape(_gone(generation))}")
            continue
        about = f"{generation.technique}  {' '.join(generation.stages)}  {generation.digest.short}"
        branch = branch.add(f"{shown}  {escape(about)}")
        own = "segments" if generation.parent is None else "its own"
        for shared, what in ((True, "shared"), (False, own)):
            pieces = [each.segment for each in generation.segments if each.shared == shared]
            if pieces:
                listed = ", ".join(f"{piece.name} {piece.digest.short}" for piece in pieces)
                saved = f" ({generation.bytes_saved:,} bytes saved)" if shared else ""
                branch.add(f"[dim]{what}: {escape(listed)}{saved}[/]")
    for child in found.children:
        branch.add(escape(str(child)))
    out.print(tree, highlight=False)


def _generations(found: Lineage) -> Iterator[tuple[str, ...]]:
    """Yield one row per generation, oldest first, then one per child of the last generation."""
    for each in found.generations:
        shared, own = (
            ", ".join(
                f"{piece.segment.name} {piece.segment.digest}"
                for piece in each.segments
                if piece.shared == side
            )
            for side in (True, False)
        )
        yield (
            str(each.ref or ""), each.digest, each.technique or "", each.source or "", " ".join(each.stages), shared,
            own, str(each.bytes_saved), _gone(each) if each.gone else "",
        )  # fmt: skip
    for child in found.children:
        yield (str(child), "", "", str(found.generations[-1].ref or ""), "", "", "", "", "")


def _gone(generation: Generation) -> str:
    event = generation.deleted
    return f"deleted {_clock(event.at)} by {event.actor}: {event.reason}" if event else "not known here"


def _show_comparison(out: Console, found: Comparison) -> None:
    names = [str(side.version.ref) for side in (found.first, found.second)]
    metrics = [
        (name, *("" if value is None else _formatted(value) for value in values))
        for name, values in found.metrics.items()
    ]
    if not out.is_terminal:
        show_table(out, ["", *names], [*metrics, *_common(found)])
        return
    show_table(out, ["", *names], metrics)
    for name, equal in (("labels", found.labels_equal), ("space", found.space_equal)):
        out.print(f"{name:<10}{_equality(equal)}", highlight=False)
    pieces = ", ".join(f"{segment.name} {segment.digest.short}" for segment in found.shared) or "none"
    out.print(
        f"{'shared':<10}{escape(pieces)}; {found.shared_bytes:,} bytes", highlight=False, soft_wrap=True
    )
    out.print(f"{'own':<10}{found.own_bytes[0]:,} and {found.own_bytes[1]:,} bytes", highlight=False)
    out.print(f"{'paired':<10}{escape(_paired(found))}", highlight=False, soft_wrap=True)


def _common(found: Comparison) -> Iterator[tuple[str, str, str]]:
    """Yield the rows about both versions; a value for both is in the first version's column."""
    yield "labels", _equality(found.labels_equal), ""
    yield "space", _equality(found.space_equal), ""
    yield "shared", ", ".join(f"{segment.name} {segment.digest}" for segment in found.shared), ""
    yield "shared bytes", str(found.shared_bytes), ""
    yield "own bytes", str(found.own_bytes[0]), str(found.own_bytes[1])
    yield "paired", _paired(found), ""


def _equality(equal: bool | None) -> str:
    return "not on both sides" if equal is None else "equal" if equal else "different"


def _paired(found: Comparison) -> str:
    """Describe the result of the paired test in one sentence."""
    try:
        pairing = found.paired()
        difference = pairing.difference
    except InvalidValue as error:
        return f"no test: {error}"
    left_out = f"left out: {pairing.learnt} learnt from, {pairing.relabelled} labelled otherwise"
    return (
        f"{pairing.items} items both answered, {pairing.right[0]} and {pairing.right[1]} right; difference "
        f"{difference.value:+.4f} ({difference.low:+.4f} to {difference.high:+.4f} by {difference.method.title()}'s "
        f"interval{_grouped(difference)}), p {pairing.p:.3g}; {left_out}"
    )


def _grouped(interval: Interval) -> str:
    """Return the number of groups behind an interval, or nothing if no two examples share a group."""
    if interval.groups == interval.examples:
        return ""
    return f" over {interval.groups:,} groups, worth {interval.effective:,.0f} independent examples"


def _formatted(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
