"""Names of tasks, transfers, stages and versions: one grammar, one parser.

``[source/]target[@selector]`` where the selector is a stage, a number or ``sha256:prefix``::

    flowers                      the production version of the target task flowers
    flowers@staging              the version in another stage
    flowers@3                    a number, where only one source has it
    imagenet-1k/flowers@3        version 3 of the transfer imagenet-1k/flowers
    flowers@sha256:5f2c9a        a version by the beginning of its digest

For every text that parses, ``str(Ref.parse(text)) == text``.
"""

import re
from dataclasses import dataclass
from typing import Self

from registry.digests import PREFIX
from registry.errors import InvalidName
from registry.quoting import quoted

CANDIDATE = "candidate"
STAGING = "staging"
PRODUCTION = "production"
RETIRED = "retired"
SCRATCH_SOURCE = "random"
"""The source task of a version whose weights started at random."""

MAX_NAME_LENGTH = 63
"""The limit of BentoML and Kubernetes on labels, so that a name can be used there unchanged."""

_TASK = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_STAGE = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_DIGEST_PREFIX = re.compile(r"sha256:[0-9a-f]{4,64}")


def check_task(name: str) -> str:
    """Return a task's name if the grammar allows it.

    Raises:
        InvalidName: it is empty, longer than 63 characters or has other characters than
            lower-case letters, digits, and ``. _ -`` inside.
    """
    if len(name) > MAX_NAME_LENGTH or _TASK.fullmatch(name) is None:
        raise InvalidName(
            f"a task's name is 1 to {MAX_NAME_LENGTH} lower-case letters, digits, '.', '_' or '-', beginning and "
            f"ending with a letter or digit; got {quoted(name)}"
        )
    return name


def check_stage(name: str) -> str:
    """Return a stage's name if the grammar allows it.

    Raises:
        InvalidName: it is not lower-case letters, digits and inner ``-``, beginning with a letter.
    """
    if len(name) > MAX_NAME_LENGTH or _STAGE.fullmatch(name) is None:
        raise InvalidName(
            f"a stage is lower-case letters, digits and '-', beginning with a letter; got {quoted(name)}"
        )
    return name


@dataclass(frozen=True, slots=True, order=True)
class Transfer:
    """A transfer from a source task to a target task, written ``source/target``."""

    source: str
    target: str

    def __post_init__(self) -> None:
        check_task(self.source)
        check_task(self.target)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``source/target``.

        Raises:
            InvalidName: the text has another form.
        """
        source, slash, target = text.partition("/")
        if not slash:
            raise InvalidName(f"a transfer is written source/target, got {quoted(text)}")
        return cls(source, target)

    def __str__(self) -> str:
        return f"{self.source}/{self.target}"


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to a version, as a user writes it.

    Attributes:
        target: the target task.
        source: the source task, or None for any.
        stage: a stage's name; at most one of stage, number and digest is set.
        number: a version's number within its transfer, from 1.
        digest: ``sha256:`` and the first 4 to 64 digits of a version's digest.
    """

    target: str
    source: str | None = None
    stage: str | None = None
    number: int | None = None
    digest: str | None = None

    def __post_init__(self) -> None:
        check_task(self.target)
        if self.source is not None:
            check_task(self.source)
        if sum(part is not None for part in (self.stage, self.number, self.digest)) > 1:
            raise InvalidName("a ref selects by stage, by number or by digest, not by several of them")
        if self.stage is not None:
            check_stage(self.stage)
        if self.number is not None and _NUMBER.fullmatch(str(self.number)) is None:
            raise InvalidName(f"a version's number is 1 or more, got {self.number}")
        if self.digest is not None and _DIGEST_PREFIX.fullmatch(self.digest) is None:
            raise InvalidName(f"a digest's prefix is sha256: and 4 to 64 digits, got {quoted(self.digest)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``[source/]target[@stage or @number or @sha256:prefix]``.

        Raises:
            InvalidName: the text has another form.
        """
        name, at, selector = text.partition("@")
        first, slash, second = name.partition("/")
        source, target = (first, second) if slash else (None, first)
        if not at:
            return cls(target, source)
        if _NUMBER.fullmatch(selector):
            return cls(target, source, number=int(selector))
        if selector.startswith(PREFIX):
            return cls(target, source, digest=selector)
        if _STAGE.fullmatch(selector):
            return cls(target, source, stage=selector)
        raise InvalidName(
            f"after '@' stands a stage, a number from 1 or sha256: and digits; got {quoted(selector)} in {quoted(text)}"
        )

    @classmethod
    def of(cls, transfer: Transfer, number: int) -> Self:
        """Return the full ref ``source/target@number`` of a registered version."""
        return cls(transfer.target, transfer.source, number=number)

    def __str__(self) -> str:
        name = self.target if self.source is None else f"{self.source}/{self.target}"
        selector = self.stage or self.digest or (None if self.number is None else str(self.number))
        return name if selector is None else f"{name}@{selector}"
