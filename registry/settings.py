"""Settings: the registry's location, and the actor recorded in its history."""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from registry.errors import InvalidSetting
from registry.locations import FILE, SQLITE, file_path, file_url, sqlite_path, sqlite_url
from registry.quoting import quoted

CACHE_BYTES = 4 << 30
MAX_ACTOR_LENGTH = 200
_GROUP = "group"


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one registry, read once.

    Attributes:
        home: the folder of all local data: catalog, blobs, cache.
        catalog: ``sqlite:///…``, a path as ``registry.locations`` reads it, or ``postgresql+psycopg://…``.
        blobs: ``file:///…``, likewise.
        actor: name recorded in the history, not authenticated, 1 to 200 characters.
        cache_bytes: most bytes of the feature cache, at least 0.
        shared: whether the group may read and write a new registry's files; otherwise only their owner.
    """

    home: Path
    catalog: str
    blobs: str
    actor: str
    cache_bytes: int = CACHE_BYTES
    shared: bool = False

    def __post_init__(self) -> None:
        if not self.catalog.startswith((SQLITE, "postgresql+psycopg://")):
            raise InvalidSetting(f"a catalog is sqlite:///… or postgresql+psycopg://…, got {self.catalog!r}")
        if not self.blobs.startswith(FILE):
            raise InvalidSetting(f"blobs are at file:///…, got {self.blobs!r}; set --blobs or CULTIVAR_BLOBS")
        if not 1 <= len(self.actor) <= MAX_ACTOR_LENGTH or not self.actor.isprintable():
            raise InvalidSetting(
                f"an actor is 1 to {MAX_ACTOR_LENGTH} printable characters, got {quoted(self.actor, 300)}"
            )
        if self.cache_bytes < 0:
            raise InvalidSetting(f"cache_bytes is a number of bytes, 0 or more, got {self.cache_bytes}")

    @classmethod
    def read(
        cls,
        home: str | Path | None = None,
        catalog: str | None = None,
        blobs: str | None = None,
        actor: str | None = None,
        cache_bytes: int | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Self:
        """Resolve each setting: the argument, else its environment variable (``CULTIVAR_HOME`` …), else the default.

        Paths are made absolute, because a child process may have another working directory.

        Raises:
            InvalidSetting: one of them cannot be used.
        """
        chosen = _home(home or environment.get("CULTIVAR_HOME") or "~/.cultivar")
        catalog = catalog or environment.get("CULTIVAR_CATALOG") or sqlite_url(chosen / "catalog.sqlite")
        blobs = blobs or environment.get("CULTIVAR_BLOBS") or file_url(chosen / "blobs")
        return cls(
            home=chosen,
            catalog=sqlite_url(sqlite_path(catalog)) if catalog.startswith(SQLITE) else catalog,
            blobs=file_url(file_path(blobs)) if blobs.startswith(FILE) else blobs,
            actor=actor or environment.get("CULTIVAR_ACTOR") or _user(),
            cache_bytes=_cache_bytes(environment) if cache_bytes is None else cache_bytes,
            shared=_shared(environment),
        )

    def to_environment(self) -> dict[str, str]:
        """Return the environment variables from which ``read`` restores these settings."""
        return {
            "CULTIVAR_HOME": str(self.home),
            "CULTIVAR_CATALOG": self.catalog,
            "CULTIVAR_BLOBS": self.blobs,
            "CULTIVAR_ACTOR": self.actor,
            "CULTIVAR_CACHE_BYTES": str(self.cache_bytes),
            "CULTIVAR_SHARED": _GROUP if self.shared else "",
        }

    @property
    def catalog_file(self) -> Path | None:
        """The catalog's file if it is SQLite, else None."""
        return sqlite_path(self.catalog) if self.catalog.startswith(SQLITE) else None

    @property
    def blob_folder(self) -> Path:
        """The blobs' folder."""
        return file_path(self.blobs)

    @property
    def cache(self) -> Path:
        """Folder of data that can be recomputed: features, materialised segments."""
        return self.home / "cache"

    @property
    def features(self) -> Path:
        """Folder of the feature cache."""
        return self.cache / "features"

    @property
    def verified(self) -> Path:
        """Folder of the results of source verification."""
        return self.cache / "verified"


def _home(given: str | Path) -> Path:
    try:
        return Path(given).expanduser().absolute()
    except RuntimeError as error:  # ~NAME of an unknown user or one without a home
        raise InvalidSetting(f"expected the registry's folder, got {str(given)!r:.300}: {error}") from error


def _cache_bytes(environment: Mapping[str, str]) -> int:
    text = environment.get("CULTIVAR_CACHE_BYTES") or str(CACHE_BYTES)
    try:
        return int(text)
    except ValueError:
        raise InvalidSetting(f"CULTIVAR_CACHE_BYTES is a number of bytes, got {quoted(text)}") from None


def _shared(environment: Mapping[str, str]) -> bool:
    text = environment.get("CULTIVAR_SHARED") or ""
    if text not in ("", _GROUP):
        raise InvalidSetting(f"CULTIVAR_SHARED is {_GROUP!r} or empty, got {text!r:.100}")
    return text == _GROUP


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id often has no name
        return f"uid-{os.getuid()}"
