"""Accuracy by the number of labelled examples, settings chosen by trials: ``python -m benchmarks.shots``.

The protocol is that of ``adapters.few_shot``, and so are the grids; both are printed.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console

from adapters.few_shot import FewShotComparison, Protocol, measure
from registry.errors import CultivarError
from registry.progress import Bars

WANTED_LEAD = 0.04
AT_SHOTS = 10


def table(comparison: FewShotComparison) -> str:
    """Return mean and standard deviation of each technique's accuracy, in percent, as a Markdown table."""
    shots = comparison.protocol.shots
    lines = [f"| examples of each class | {' | '.join(map(str, shots))} |", "| --- " * (len(shots) + 1) + "|"]
    for contender in comparison.protocol.contenders:
        scores = [comparison.score(contender.technique, number) for number in shots]
        cells = " | ".join(f"{100 * score.mean:.1f} ± {100 * score.spread:.1f}" for score in scores)
        lines.append(f"| {contender.technique} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Compare, and print; exit 1 where frozen does not lead scratch by four points at ten shots."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="bundled:glyphs", metavar="SPEC", help="the source to adapt")
    parser.add_argument("--data", default="example:digits", metavar="DATA", help="the dataset")
    parser.add_argument("--seeds", type=int, default=5, help="draws of shots")
    parser.add_argument(
        "--augment", action="store_true", help="shift and light pictures at random in training"
    )
    parser.add_argument("--processes", type=int, help="fits at a time; by default one a core")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was seen")
    arguments = parser.parse_args()
    start = time.perf_counter()
    try:
        protocol = Protocol(
            arguments.source, arguments.data, seeds=arguments.seeds, augment=arguments.augment
        )
        comparison = measure(protocol, Bars(Console(stderr=True)), arguments.processes)
    except KeyboardInterrupt:
        sys.exit(130)
    except CultivarError as error:
        sys.exit(str(error))
    seconds = time.perf_counter() - start
    lead = comparison.lead("frozen", "scratch", AT_SHOTS)
    print(table(comparison), *comparison.lines(), sep="\n\n", end="\n\n")
    print(
        f"frozen leads scratch at {AT_SHOTS} shots by {100 * fmean(lead):.1f} ± {100 * stdev(lead):.1f} points; "
        f"{seconds:.0f} s"
    )
    if arguments.json:
        document = comparison.to_json() | {"seconds": seconds}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if fmean(lead) < WANTED_LEAD:
        sys.exit(1)


if __name__ == "__main__":
    main()
