"""The checks of ``cultivar doctor``; each result is one line with a remedy."""

import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from registry import instants
from registry.blobs import Blobs, open_blobs
from registry.catalog import Catalog, SqlCatalog
from registry.errors import CultivarError, ReadOnlyRegistry
from registry.modes import folder_mode
from registry.ownership import Ownership
from registry.settings import Settings
from registry.verification import history_fits

OK = "ok"
WARNING = "warning"
FAILURE = "failure"

_LOW_BYTES = 1 << 30
_LOW_SHARE = 0.05
"""Below either limit a disk is nearly full: one version of a large network takes a gigabyte."""
_ANYBODY = 0o077
"""Mode bits that a private file must not have."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its result.

    Attributes:
        name: the check's name.
        outcome: ``ok``, ``warning`` or ``failure``.
        message: the finding and the remedy, in one line.
    """

    name: str
    outcome: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"name": self.name, "outcome": self.outcome, "message": self.message}


def examine(settings: Settings) -> Iterator[Check]:
    """Run all checks of a registry; problems are yielded, not raised.

    A catalog of an older program is migrated, as by any command; nothing else is changed or created.

    Args:
        settings: the registry's location.
    """
    file = settings.catalog_file
    if file is not None and not file.parent.exists():
        yield Check("catalog", WARNING, f"there is no registry at {file.parent} yet; adapt creates one")
        return
    if file is not None and file.parent.is_dir() and not file.exists():
        yield Check(
            "catalog",
            WARNING,
            f"there is no catalog at {file}; restore it, or use another home; otherwise adapt creates one",
        )
    else:
        yield from _guarded("catalog", lambda: _components(settings))
    folders = dict.fromkeys([settings.home, *([file.parent] if file else [])])
    yield from _modes([*folders, settings.blob_folder, file], shared=settings.shared)
    yield from _space(dict.fromkeys([*folders, settings.blob_folder]))


def _components(settings: Settings) -> Iterator[Check]:
    with closing(SqlCatalog.open(settings.catalog, shared=settings.shared)) as catalog:
        if damage := _damage(catalog):
            yield Check(
                "catalog",
                FAILURE,
                f"{catalog.label} is damaged: {damage}; restore it from a copy; 'cultivar verify' shows details",
            )
        else:
            yield Check("catalog", OK, f"{catalog.label} responds; its last event is {catalog.position()}")
        yield from _writable("catalog-writable", catalog.check_writable)
        yield from _guarded("blobs", lambda: _blobs(settings, catalog))


def _damage(catalog: Catalog) -> str | None:
    """Return the first problem of a catalog that responds."""
    if faults := catalog.faults():
        return faults[0]
    broken = (target for target in catalog.targets() if not history_fits(catalog, target))
    return next((f"the history of {target} is inconsistent" for target in broken), None)


def _blobs(settings: Settings, catalog: Catalog) -> Iterator[Check]:
    folder = settings.blob_folder
    if folder is not None and not folder.is_dir():
        outcome = FAILURE if catalog.knows_blobs() else WARNING
        yield Check(
            "blobs",
            outcome,
            f"there are no blobs at {folder}; restore them, or name them with CULTIVAR_BLOBS",
        )
        return
    blobs = open_blobs(settings)
    ownership = Ownership(catalog, blobs, instants.now)
    yield from _writable("blobs-writable", blobs.check_writable)
    yield from _guarded("ownership", lambda: _ownership(ownership))
    yield from _guarded("blobs", lambda: _missing(ownership, blobs))


def _ownership(ownership: Ownership) -> Iterator[Check]:
    problems = ownership.problems()
    for problem in problems:
        yield Check("ownership", WARNING, f"gc will stop: {problem}")
    if not problems:
        yield Check("ownership", OK, "only this catalog uses these blobs, and it knows all of them")


def _missing(ownership: Ownership, blobs: Blobs) -> Iterator[Check]:
    if missing := ownership.missing():
        yield Check(
            "blobs",
            FAILURE,
            f"{len(missing)} blobs that versions need are not in the store, like {missing[0]}; restore them from a "
            "copy, or name the right store with CULTIVAR_BLOBS",
        )
        return
    yield Check("blobs", OK, f"{sum(1 for _ in blobs.list()):,} are stored, including all that versions need")


def _writable(name: str, check: Callable[[], None]) -> Iterator[Check]:
    try:
        check()
    except ReadOnlyRegistry as error:
        yield Check(name, WARNING, f"versions can only be read and served: {error}")
    else:
        yield Check(name, OK, "this account can write")


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield the results of some checks; an exception becomes a failure."""
    try:
        yield from look()
    except (CultivarError, OSError) as error:
        yield Check(name, FAILURE, " ".join(str(error).split()))


def _modes(paths: list[Path | None], *, shared: bool) -> Iterator[Check]:
    """Warn of files that others can read or write; the group may if the registry is shared."""
    open_to = []
    for path in paths:
        if path is None or not path.exists():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & _ANYBODY & ~folder_mode(shared):
            open_to.append(f"{path} is {mode:04o}")
    if open_to:
        whom = "o=" if shared else "g=,o="
        yield Check(
            "modes",
            WARNING,
            f"other users have access: {', '.join(open_to)}; 'chmod -R {whom} …' prevents that",
        )
    else:
        yield Check("modes", OK, f"only {'the group' if shared else 'their owner'} can read the files")


def _space(folders: dict[Path | None, None]) -> Iterator[Check]:
    """Warn if a disk is nearly full."""
    tight = []
    least = float("inf")
    for folder in folders:
        if folder is None or not folder.exists():
            continue
        usage = shutil.disk_usage(folder)
        least = min(least, usage.free)
        if usage.free < max(_LOW_BYTES, _LOW_SHARE * usage.total):
            tight.append(f"{folder} has {usage.free:,} bytes left of {usage.total:,}")
    if tight:
        yield Check("space", WARNING, f"{'; '.join(tight)}; free some space, 'cultivar gc' may help")
    elif least < float("inf"):
        yield Check("space", OK, f"{least:,} bytes are free")
