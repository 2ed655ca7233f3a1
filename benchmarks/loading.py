"""What a version's sessions take to load by themselves, in a process that has ONNX Runtime already.

Told in a process of its own, since a process loads for the first time once::

    python -m benchmarks.loading HOME TARGET
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from registry.manifest import FEATURES, Manifest
from registry.registry import Registry
from registry.runtime import Session, cpu_quota
from registry.segments import Detached, Node, merge_detached
from registry.settings import Settings
from services.settings import ServeSettings


def seconds(home: Path, target: str) -> float:
    """Return the seconds that the sessions of what is in production take, in a new process."""
    command = [sys.executable, "-m", "benchmarks.loading", str(home), target]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout))


def trunk(manifest: Manifest, registry: Registry) -> Detached:
    """Return a version's segments up to its features as one model, as a server joins them; heads are arrays there."""
    nodes = [
        Node(each.name, registry.blob(each.digest), {port: str(wire) for port, wire in each.inputs.items()})
        for each in manifest.segments
        if each.role != "head"
    ]
    return merge_detached(nodes, {FEATURES: str(manifest.features)})


def load(home: Path, target: str) -> float:
    """Open the sessions that a server of the defaults opens, and run each once; return the seconds of this alone."""
    with Registry.open(Settings.read(home)) as registry:
        manifest = registry.manifest(registry.resolve(target))
        recipe = registry.recipe(manifest)
        model = trunk(manifest, registry)
    fields = recipe.collate([recipe.blanks()[0]])
    cores = cpu_quota()
    several = {max(1, cores // ServeSettings().parallel_batches(cores, gpu=False)), cores}
    started = time.perf_counter()
    for threads in sorted(several):
        session = Session(model, threads=threads)
        session.run({port.name: fields[port.name] for port in session.inputs})
    return time.perf_counter() - started


def main() -> None:
    """Load and print the seconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("target")
    arguments = parser.parse_args()
    print(json.dumps(load(arguments.home, arguments.target)))


if __name__ == "__main__":
    main()
