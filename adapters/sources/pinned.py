"""Cut points as they are pinned: data of a provider, never computed where a network is used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a provider's file of cut points holds about a network.

    Attributes:
        cuts: names of the stages, from the input on.
        head: module path of the output layer.
        dimension: length of a feature vector.
        smallest: side in pixels of the smallest square input worth running.
    """

    cuts: tuple[str, ...]
    head: str
    dimension: int
    smallest: int


def read_pinned(name: str) -> Mapping[str, Pinned]:
    """Return the pinned cuts of every network, by its name, from a file beside this one."""
    data = json.loads(resources.files("adapters.sources").joinpath(name).read_text())
    return {network: Pinned(**entry | {"cuts": tuple(entry["cuts"])}) for network, entry in data.items()}


def write_pinned(entries: Mapping[str, Pinned]) -> str:
    """Return the text of such a file: a line for each network, in alphabetical order."""
    lines = (
        f"  {json.dumps(name)}: "
        + json.dumps(
            {
                "cuts": list(entry.cuts),
                "head": entry.head,
                "dimension": entry.dimension,
                "smallest": entry.smallest,
            }
        )
        for name, entry in sorted(entries.items())
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"
