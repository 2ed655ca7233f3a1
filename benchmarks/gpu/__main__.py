"""What serving is worth on an NVIDIA GPU: ``python -m benchmarks.gpu``.

Five parts: what is there and whether it computes the same, sessions by the size of a batch, shared
trunks, the engine beside ONNX Runtime alone, and float16. A part that fails says why, and the others go
on. ``--provider cpu`` is a rehearsal on the CPU provider: it shows that every part runs, and its
figures say nothing. What each figure means is in ``benchmarks/README.md``.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.sources.providers import find
from benchmarks.contender import say
from benchmarks.gpu import alone, device, together
from benchmarks.gpu.network import Network, pictures
from benchmarks.gpu.pace import Pace
from services.engine.batch_sizes import SIZES

SOURCES = ("torchvision:resnet50", "torchvision:vit_b_16")
USUAL = Pace()
QUICK = Pace(rounds=1, window_s=0.1, warm_s=0.1, buckets=(1, 8), heads=4, clients=8)
PARTS: Mapping[str, tuple[str, Callable[[Sequence[Network], Pace, int], alone.Part]]] = {
    "there": ("What is there", alone.what_is_there),
    "buckets": ("Sizes of batches", alone.buckets),
    "sharing": ("Shared trunks", together.shared_trunk),
    "engine": ("The engine", together.engine),
    "float16": ("float16", alone.half_precision),
}
REHEARSAL = "**A rehearsal on the CPU provider: every part runs; no figure here says anything of a GPU.**"
NO_DEVICE = 3


def run(
    specs: Sequence[str],
    parts: Sequence[str],
    pace: Pace,
    seed: int,
    *,
    trained: bool,
    keep: Callable[[Mapping[str, Any]], None],
) -> bool:
    """Measure part after part and print its tables.

    Args:
        specs: the networks; sharing is measured on the first.
        parts: which.
        pace: how long.
        seed: of weights, pictures and order.
        trained: the networks' own weights instead of random ones.
        keep: takes everything that was seen so far, after each part.

    Returns:
        Whether every part could be measured.
    """
    document: dict[str, Any] = {"rehearsal": not device.on_gpu(), "machine": device.describe(), "parts": {}}
    if document["rehearsal"]:
        print(f"{REHEARSAL}\n")
    print("".join(f"- {name}: {value}\n" for name, value in document["machine"].items()))
    networks = []
    for source in map(find, specs):
        say(f"exporting {source.spec}")
        pixels = pictures(source, pace.buckets[-1], seed)
        networks.append(Network.of(source, pixels, None if trained else seed))
    for name in parts:
        title, part = PARTS[name]
        say(title)
        try:
            text, seen = part(networks, pace, seed)
        # A machine with a GPU may be had for once: what one part meets must not cost the others.
        except Exception as error:
            traceback.print_exc()
            text, seen = f"Failed: {error}\n", {"failed": str(error)}
        print(f"## {title}\n\n{text}", flush=True)
        document["parts"][name] = seen
        keep(document)
    return not any("failed" in seen for seen in document["parts"].values())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; exit 1 where a part failed, 3 where there is no GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal")
    parser.add_argument("--source", action="append", metavar="SPEC", help="a network; may be given again")
    parser.add_argument(
        "--trained", action="store_true", help="the networks' own weights, which must be at hand"
    )
    parser.add_argument("--only", action="append", choices=tuple(PARTS), help="one part; may be given again")
    parser.add_argument(
        "--largest", type=int, choices=SIZES, default=SIZES[-1], help="rows of the largest batch"
    )
    parser.add_argument("--heads", type=int, metavar="N", help="targets on one trunk")
    parser.add_argument("--rounds", type=int, metavar="N", help="repeats of every measurement")
    parser.add_argument("--window", type=float, metavar="S", help="seconds of every measurement")
    parser.add_argument("--quick", action="store_true", help="too short for figures")
    parser.add_argument("--seed", type=int, default=0, help="of weights, pictures and order")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    given = parser.parse_args(arguments)
    pace = QUICK if given.quick else USUAL
    pace = replace(
        pace,
        buckets=tuple(size for size in pace.buckets if size <= given.largest),
        heads=given.heads or pace.heads,
        rounds=given.rounds or pace.rounds,
        window_s=given.window or pace.window_s,
        warm_s=min(given.window or pace.warm_s, pace.warm_s),
    )
    if given.provider == "cpu":
        device.hide()
    else:
        device.number_as_nvidia_smi()
        if not device.on_gpu():
            say(f"no session gets a GPU here: {device.obstacle()}. --provider cpu rehearses without one.")
            sys.exit(NO_DEVICE)

    def keep(document: Mapping[str, Any]) -> None:
        if given.json:
            given.json.write_text(json.dumps(document, indent=1) + "\n")

    started = time.perf_counter()
    specs, parts = given.source or SOURCES, given.only or tuple(PARTS)
    whole = run(specs, parts, pace, given.seed, trained=given.trained, keep=keep)
    say(f"{time.perf_counter() - started:.0f} s")
    if not whole:
        sys.exit(1)


if __name__ == "__main__":
    main()
