"""The registry's commands: ``list show history lineage compare promote rollback delete verify gc``."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import click
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from registry import instants
from registry.collection import GRACE
from registry.comparison import Comparison
from registry.errors import InvalidValue
from registry.lifecycle import Event
from registry.lineage import Generation, Lineage
from registry.manifest import Json, Manifest
from registry.names import Ref
from registry.promotion import Promotion
from registry.quoting import quoted
from registry.registry import MAX_LIMIT, Registry
from registry.shell import Column, Shell, command, show_record, show_table
from registry.statistics import Interval
from registry.verification import Report
from registry.versions import Page, Version


class Time(click.ParamType[datetime]):
    """A moment, RFC 3339."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read a moment such as ``2026-05-03T14:00:00Z``."""
        try:
            return value if isinstance(value, datetime) else instants.parse(str(value))
        except InvalidValue as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType[timedelta]):
    """A length of time: seconds, or a number with ``s``, ``m``, ``h`` or ``d``."""

    name = "duration"
    _UNITS: Mapping[str, str] = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read a length of time such as ``0``, ``90s`` or ``1h``."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,6})([smhd]?)", str(value))
        if match is None:
            self.fail(
                f"expected a number of seconds, or like 15m, 1h, 7d; got {quoted(value, 50)}", param, ctx
            )
        return timedelta(**{self._UNITS[match[2] or "s"]: int(match[1])})


@command("list")
@click.option("--target", metavar="TASK", help="Only versions for this target task.")
@click.option("--source", metavar="TASK", help="Only versions carried over from this source task.")
@click.option("--stage", metavar="STAGE", help="Only versions in this stage, candidate and retired included.")
@click.option("--technique", metavar="NAME", help="Only versions that were carried over like this.")
@click.option(
    "--limit", type=click.IntRange(1, MAX_LIMIT), default=100, show_default=True, help="How many at most."
)
@click.option("--cursor", metavar="NEXT", help="Go on where another page ended.")
def list_versions(
    shell: Shell,
    target: str | None,
    source: str | None,
    stage: str | None,
    technique: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List versions, the last registered first."""
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
    """Show one version and what it is made of.

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
    "--at", type=Time(), metavar="TIME", help="What was in each stage then, like 2026-05-03T14:00:00Z."
)
def history(shell: Shell, target: str, at: datetime | None) -> None:
    """Show what happened to a target's versions, or what was in its stages at a time."""
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
    """Show where a version comes from, and which segments each generation shares with the one before.

    REF is [SOURCE/]TARGET[@STAGE or @NUMBER or @sha256:PREFIX]; a bare target means production.
    """
    with Registry.open(shell.settings) as registry:
        found = registry.lineage(ref)
    shell.emit(found.to_json(), lambda out: _show_lineage(out, found))


@command("compare")
@click.argument("first")
@click.argument("second")
def compare(shell: Shell, first: str, second: str) -> None:
    """Set two versions side by side: figures, labels, spaces, segments, and their answers to the same items.

    FIRST and SECOND are refs. Items that either version, or an ancestor of it, learnt from are left out of
    the paired test (McNemar, exact) and counted.
    """
    with Registry.open(shell.settings) as registry:
        found = registry.compare(first, second)
    shell.emit(found.to_json(), lambda out: _show_comparison(out, found))


@command("promote")
@click.argument("ref")
@click.argument("stage")
@click.option(
    "--expect", type=click.IntRange(0), metavar="EVENT", help="Only if this is the last stage event."
)
@click.option("--force", is_flag=True, help="Promote whatever the gates say; needs --reason.")
@click.option("--reason", metavar="TEXT", help="Why; kept in the history.")
def promote(shell: Shell, ref: str, stage: str, expect: int | None, force: bool, reason: str | None) -> None:
    """Move a version to a stage; whatever was there retires.

    STAGE is staging, production or a name of your own. Promoting to retired takes a version out of every
    stage and out of what a rollback can return to.
    """
    if force and not reason:
        raise click.UsageError("--force needs --reason TEXT")
    with Registry.open(shell.settings) as registry:
        promotion = registry.promote(ref, stage, expect=expect, force=force, reason=reason)
    shell.emit(promotion.to_json(), lambda out: _show_promotion(out, promotion))


@command("rollback")
@click.argument("target")
@click.option(
    "--expect", type=click.IntRange(0), metavar="EVENT", help="Only if this is the last stage event."
)
@click.option("--reason", metavar="TEXT", help="Why; kept in the history.")
def rollback(shell: Shell, target: str, expect: int | None, reason: str | None) -> None:
    """Return a target's production to the version before; repeated, further back."""
    with Registry.open(shell.settings) as registry:
        promotion = registry.rollback(target, expect=expect, reason=reason)
    shell.emit(promotion.to_json(), lambda out: _show_promotion(out, promotion))


@command("delete")
@click.argument("ref")
@click.option("--reason", metavar="TEXT", required=True, help="Why; kept in the history.")
def delete(shell: Shell, ref: str, reason: str) -> None:
    """Delete a version that no stage, rollback or child needs; gc then frees its bytes."""
    with Registry.open(shell.settings) as registry:
        event = registry.delete(ref, reason)
    shell.emit(event.to_json(), lambda out: out.print(f"{event.ref} deleted", highlight=False))


@command("verify")
@click.argument("ref", required=False)
def verify(shell: Shell, ref: str | None) -> None:
    """Read every byte that versions need, and check it; ends with 1 if anything is damaged."""
    with Registry.open(shell.settings) as registry:
        report = registry.verify(ref, shell.progress(passing=True))
    shell.emit(report.to_json(), lambda out: _show_report(out, report))
    if not report.ok:
        click.get_current_context().exit(1)


@command("gc")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted now.")
@click.option(
    "--grace", type=Duration(), default=GRACE, show_default="1h", metavar="TIME",
    help="How long condemned bytes stay for readers; 0 deletes at once.",
)  # fmt: skip
@click.option(
    "--adopt", is_flag=True,
    help="Take the blob store over, unknown bytes included, and delete nothing in this run.",
)  # fmt: skip
def gc(shell: Shell, dry_run: bool, grace: timedelta, adopt: bool) -> None:
    """Delete bytes that no version needs: condemned by one run, deleted by one after the grace period.

    It stops, and deletes nothing, where it is not certain that this catalog alone decides over the bytes: another
    catalog uses them, this one is older than they are, or it does not know some of them. With --adopt this catalog
    takes them over: bytes that it does not know are condemned as of now, and a later run deletes them.
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
            out.print(f"{collection.condemned} more wait for their grace period to end", highlight=False)

    shell.emit(collection.to_json(), render)


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
            _figure(version.metrics["accuracy"]) if "accuracy" in version.metrics else "",
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
            f"{name} {_figure(value)}"
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
    """Yield a row for each generation, the oldest first, and for each child of the last."""
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
        (name, *("" if value is None else _figure(value) for value in values))
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
    """Yield rows of what both have in common; what is said of both at once stands in the first's column."""
    yield "labels", _equality(found.labels_equal), ""
    yield "space", _equality(found.space_equal), ""
    yield "shared", ", ".join(f"{segment.name} {segment.digest}" for segment in found.shared), ""
    yield "shared bytes", str(found.shared_bytes), ""
    yield "own bytes", str(found.own_bytes[0]), str(found.own_bytes[1])
    yield "paired", _paired(found), ""


def _equality(equal: bool | None) -> str:
    return "not on both sides" if equal is None else "equal" if equal else "different"


def _paired(found: Comparison) -> str:
    """Say in a sentence what the paired test found."""
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
    """Say how many groups an interval rests on, where examples share any."""
    if interval.groups == interval.examples:
        return ""
    return f" over {interval.groups:,} groups, worth {interval.effective:,.0f} independent examples"


def _show_promotion(out: Console, promotion: Promotion) -> None:
    for gate in promotion.gates:
        out.print(f"{gate.name}: {gate.outcome}", highlight=False)
    before = f", before {promotion.previous}" if promotion.previous not in (None, promotion.ref) else ""
    out.print(
        f"{promotion.target}@{promotion.stage} is {promotion.ref}{before} (event {promotion.event})",
        highlight=False,
    )


def _show_report(out: Console, report: Report) -> None:
    for damage in report.damaged:
        refs = ", ".join(str(ref) for ref in damage.refs) or "no version"
        out.print(f"damaged {damage.kind} {escape(damage.id)}: {refs}", highlight=False, soft_wrap=True)
    found = "all sound" if report.ok else f"{len(report.damaged)} damaged"
    out.print(f"{report.checked} checked, {found}", highlight=False)


def _figure(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
