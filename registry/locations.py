"""Conversion between paths and ``sqlite:///`` or ``file:///`` URLs.

The path of such a URL is percent-encoded as in RFC 3986 and decoded exactly once: ``%25`` is a per cent sign,
``%3F`` a question mark, ``%23`` a number sign. Every byte of a path can be encoded. An unencoded ``?`` or
``#`` would begin a query or a fragment, which these URLs do not have. It is rejected, because ignoring it
would open the wrong registry. As in SQLAlchemy, a path after ``sqlite:///`` is relative unless it begins with
another ``/``; a path after ``file:///`` is absolute.
"""

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from registry.errors import InvalidSetting

SQLITE = "sqlite:///"
FILE = "file:///"


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file, its path made absolute."""
    return SQLITE + _encoded(path)


def file_url(path: Path) -> str:
    """Return the URL of a folder or a file, its path made absolute."""
    return FILE + _encoded(path).removeprefix("/")


def sqlite_path(url: str) -> Path:
    """Return the absolute path that a ``sqlite:///`` URL means.

    Raises:
        InvalidSetting: it is not such a URL, has a query or a fragment, or names no file.
    """
    text = _decoded(url, SQLITE)
    if not text or text == ":memory:" or text.endswith("/"):
        raise InvalidSetting(
            f"a SQLite catalog is a file, {SQLITE}/absolute/path/catalog.sqlite; got {url!r}"
        )
    return Path(text).absolute()


def file_path(url: str) -> Path:
    """Return the absolute path that a ``file:///`` URL means.

    Raises:
        InvalidSetting: it is not such a URL, or has a query or a fragment.
    """
    return Path("/" + _decoded(url, FILE))


def marks_of(path: Path) -> frozenset[str]:
    """Return marks that distinguish a file or folder from its copies; files that share a mark are the same.

    A moved file keeps its inode, a replaced one its path, and one in a volume that is mounted elsewhere its
    inode and its path. Device and inode numbers alone, or a path without its host, could be equal by
    accident.
    """
    real, status = os.path.realpath(path), path.stat()
    return frozenset(
        {
            f"path {os.uname().nodename} {real}",
            f"inode {status.st_ino} on device {status.st_dev}",
            f"inode {status.st_ino} at {real}",
        }
    )


def _encoded(path: Path) -> str:
    return quote_from_bytes(os.fsencode(path.absolute()))


def _decoded(url: str, scheme: str) -> str:
    if not url.startswith(scheme):
        raise InvalidSetting(f"expected {scheme}…, got {url!r}")
    for mark, escape in (("?", "%3F"), ("#", "%23")):
        if mark in url:
            raise InvalidSetting(
                f"expected {scheme} and a path, got a {mark!r} in {url!r}; in a path it is written {escape}"
            )
    path = unquote_to_bytes(os.fsencode(url.removeprefix(scheme)))
    if b"\0" in path:
        raise InvalidSetting(f"expected the path of a file, got a zero byte in {url!r}")
    return os.fsdecode(path)
