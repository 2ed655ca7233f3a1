"""What a version adds to the store: ``python -m benchmarks.sharing``.

Three tasks on one source, each adapted by a ``cultivar adapt`` of its own: two ``frozen``, one
``partial`` with the last stage retrained. Printed is what each of them put into the store, and
what it found there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import command, handwriting
from benchmarks.contender import say
from benchmarks.experiment import Experiment
from registry.manifest import Manifest
from registry.registry import Registry
from registry.settings import Settings

PICTURES = 500
KINDS = ("segment", "recipe", "items", "predictions", "manifest")
STEPS = (
    ("digits", "frozen", ()),
    ("parity", "frozen", ()),
    ("tuned-digits", "partial", ("--depth", "1", "--epochs", "3")),
)


@dataclass(frozen=True, slots=True)
class Blob:
    """Something that a version is made of.

    Attributes:
        kind: what it is.
        name: the segment's name and role, or the kind.
        digest: of its bytes.
        bytes: how many.
        new: whether this version brought it into the store.
    """

    kind: str
    name: str
    digest: str
    bytes: int
    new: bool


def adapt(home: Path, source: str, target: str, technique: str, more: Sequence[str], seed: int) -> list[Blob]:
    """Carry the source over to a task in another process; return what the version is made of."""
    before = stored(home)
    labels = {"parity": lambda digit: "odd" if int(digit) % 2 else "even"}
    data = handwriting.write(home / f"data-{target}", PICTURES, seed, labels.get(target, str))
    arguments = ["--source", source, "--target", target, "--technique", technique, *more]
    version = command.run(home, "adapt", str(data), *arguments)
    after = stored(home)
    with Registry.open(Settings.read(home)) as registry:
        manifest = registry.manifest(registry.resolve(version["ref"]))
    parts = names(manifest) | {version["digest"].partition(":")[2]: ("manifest", "manifest")}
    if strays := after.keys() - before.keys() - parts.keys():
        raise command.CommandFailed(f"expected the version's blobs in the store, found also {sorted(strays)}")
    return [
        Blob(kind, name, digest, after[digest], digest not in before)
        for digest, (kind, name) in parts.items()
    ]


def stored(home: Path) -> Mapping[str, int]:
    """Return the size in bytes of every file in the store, by the digits of its digest."""
    root = home / "blobs" / "sha256"
    return {
        "".join(file.relative_to(root).parts): file.stat().st_size
        for file in root.rglob("*")
        if file.is_file()
    }


def names(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Return kind and name of every blob, by the digits of its digest, from the input on."""
    found = {s.digest.hex: ("segment", f"{s.name} ({s.role})") for s in manifest.segments}
    for kind, digest in manifest.blobs():
        found.setdefault(digest.hex, (kind, kind))
    return found


def table(versions: Mapping[str, Sequence[Blob]]) -> str:
    """Return the bytes that each version brought and found, by kind, as a Markdown table."""
    lines = [
        f"| version | brought or found | {' | '.join(KINDS)} | together |",
        "| --- " * (len(KINDS) + 3) + "|",
    ]
    for name, blobs in versions.items():
        for new, word in ((True, "brought"), (False, "found")):
            sizes = [sum(b.bytes for b in blobs if b.kind == kind and b.new is new) for kind in KINDS]
            cells = " | ".join(f"{size:,}" for size in (*sizes, sum(sizes)))
            lines.append(f"| {name} | {word} | {cells} |")
    return "\n".join(lines)


def segments(versions: Mapping[str, Sequence[Blob]]) -> str:
    """Return every version's segments from the input on, as a Markdown table."""
    lines = ["| version | segment | digest | bytes | |", "| --- | --- | --- | --- | --- |"]
    for name, blobs in versions.items():
        for blob in blobs:
            if blob.kind == "segment":
                word = "brought" if blob.new else "found"
                lines.append(f"| {name} | {blob.name} | {blob.digest[:12]} | {blob.bytes:,} | {word} |")
    return "\n".join(lines)


def verdicts(versions: Mapping[str, Sequence[Blob]]) -> dict[str, bool]:
    """Return what must hold, and whether it does."""
    below = {
        name: [blob for blob in blobs if blob.kind == "segment" and "(head)" not in blob.name]
        for name, blobs in versions.items()
    }
    first, second, third = below.values()
    return {
        "the second frozen version found its whole trunk in the store": not any(b.new for b in second),
        "both frozen versions have the same trunk": [b.digest for b in first] == [b.digest for b in second],
        "the partial version brought the one stage that it retrained": sum(b.new for b in third) == 1,
        "all its other stages are the first version's": sum(
            a.digest == b.digest for a, b in zip(first, third, strict=True)
        )
        == len(first) - 1,
    }


def measure(source: str, home: Path) -> dict[str, Any]:
    """Adapt three times and print what each version brought; return everything as JSON values."""
    versions: dict[str, Sequence[Blob]] = {}
    for seed, (target, technique, more) in enumerate(STEPS):
        say(f"adapting {source} to {target}, {technique}")
        versions[f"{target}, {technique}"] = adapt(home, source, target, technique, more, seed)
    found = verdicts(versions)
    print(table(versions), segments(versions), sep="\n\n", end="\n\n")
    for words, holds in found.items():
        print(f"{words}: {'yes' if holds else 'no'}")
    return {
        "reached": all(found.values()),
        "versions": {name: [asdict(blob) for blob in blobs] for name, blobs in versions.items()},
        "verdicts": found,
    }


def main() -> None:
    """Measure and print; exit 1 where a version brought too much."""
    experiment = Experiment("sharing", __doc__)
    experiment.parser.add_argument(
        "--source", default="bundled:glyphs", metavar="SPEC", help="the source to adapt"
    )
    given = experiment.arguments
    experiment.run(lambda home: measure(given.source, home))


if __name__ == "__main__":
    main()
