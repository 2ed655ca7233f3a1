"""Every error that Cultivar raises deliberately.

The tree::

    CultivarError
    ├── InvalidValue            a value breaks its own rules
    │   ├── InvalidName         a task, transfer, stage or ref that violates the grammar
    │   ├── InvalidDigest
    │   ├── InvalidManifest
    │   ├── InvalidRecipe
    │   ├── InvalidSegment      an ONNX file that cannot be a segment of a version
    │   └── InvalidSetting      an option or environment variable
    ├── InvalidInput            one input that a client sent
    │   ├── UndecodableInput    its bytes cannot be decoded
    │   ├── InputTooLarge       bytes, pixels or rows over a limit
    │   └── WrongModality       a text for an image model, or the reverse
    ├── MissingExtra            optional dependencies that are not installed
    ├── NotFound
    │   ├── UnknownTarget
    │   ├── UnknownVersion
    │   ├── UnknownSource
    │   └── UnknownToken
    ├── AmbiguousRef            a ref that matches several versions
    ├── Conflict                the registry's state does not allow the change
    │   ├── StaleExpectation    someone else moved the target first
    │   ├── CondemnedBlob       the garbage collector has claimed the bytes
    │   ├── VersionInUse        a deletion of a version that is still needed
    │   ├── UnsafeCollection    garbage that another catalog may need
    │   ├── GateFailed          a promotion that did not pass its gates
    │   └── NameTaken           the name is already in use
    ├── StorageFailure          the catalog's database or the store's disk failed
    │   ├── MissingCatalog      the catalog's file does not exist
    │   └── ReadOnlyRegistry    this account may read them but not write
    ├── IntegrityError          stored bytes are not what was stored
    │   ├── MissingBlob
    │   ├── DamagedBlob
    │   ├── DamagedCatalog
    │   └── BrokenHistory
    ├── AdaptationError         an adaptation failed
    │   ├── DatasetError        the labelled data cannot be used as it is
    │   ├── SourceUnavailable   a source's weights are not on this machine
    │   ├── SourceDiffers       a source's outputs differ from its provider's own code
    │   ├── FrozenPartMoved     the freeze proof failed
    │   └── ParityError         the exported version's outputs differ from the torch model's
    └── RuntimeFailure          ONNX Runtime cannot open or run a session

Every message states what was expected, what was found, and what to do. HTTP statuses are defined in
``services.errors``, exit codes in the command line.
"""


class CultivarError(Exception):
    """Root of the tree; its message can be shown to a user as it is."""


class InvalidValue(CultivarError, ValueError):
    """A value violates its rules."""


class InvalidName(InvalidValue):
    """A task, transfer, stage or ref that violates the grammar."""


class InvalidDigest(InvalidValue):
    """Text that is not ``sha256:`` and 64 hexadecimal digits."""


class InvalidManifest(InvalidValue):
    """A manifest that is not well-formed, or contradicts itself."""


class InvalidRecipe(InvalidValue):
    """A recipe with an unknown field, or one out of its range."""


class InvalidSegment(InvalidValue):
    """An ONNX file, or a graph of several, that cannot be part of a version."""


class InvalidSetting(InvalidValue):
    """An option, configuration key or environment variable that cannot be used."""


class MissingExtra(CultivarError):
    """Optional dependencies that are not installed; the message names the extra."""


class InvalidInput(CultivarError, ValueError):
    """One input that a client sent.

    Attributes:
        index: position of the input in its request, from 0, or None for the request as a whole.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class UndecodableInput(InvalidInput):
    """The bytes of an input cannot be decoded."""


class InputTooLarge(InvalidInput):
    """Bytes, pixels or rows over a limit."""


class WrongModality(InvalidInput):
    """A text was sent to an image model, or the reverse."""


class NotFound(CultivarError, LookupError):
    """Nothing has this name."""


class UnknownTarget(NotFound):
    """No version was ever registered for a target task."""


class UnknownVersion(NotFound):
    """The target exists, but not the requested version or stage."""


class UnknownSource(NotFound):
    """A source spec whose provider or model does not exist."""


class UnknownToken(NotFound):
    """No bearer token has this name."""


class AmbiguousRef(CultivarError):
    """A ref that matches several versions; the message lists them."""


class Conflict(CultivarError):
    """The registry's state does not allow the change."""


class StaleExpectation(Conflict):
    """A compare-and-swap failed: the target's stages moved since they were read."""


class CondemnedBlob(Conflict):
    """The garbage collector has claimed a blob; it has to be stored again."""


class VersionInUse(Conflict):
    """A deletion of a version that a stage, a rollback or a child version needs."""


class UnsafeCollection(Conflict):
    """This catalog may not be the only owner of the bytes in the store."""


class GateFailed(Conflict):
    """A promotion that did not pass its gates; it can be forced with a reason."""


class NameTaken(Conflict):
    """The name is already in use."""


class StorageFailure(CultivarError):
    """The catalog's database cannot be reached, read or written, or the blob store's disk failed."""


class MissingCatalog(StorageFailure):
    """The catalog's file does not exist, although it used to or its blobs do."""


class ReadOnlyRegistry(StorageFailure):
    """This account may read the catalog or the store, but not write to it."""


class IntegrityError(CultivarError):
    """Stored bytes are missing or have changed."""


class MissingBlob(IntegrityError):
    """A digest whose bytes are not in the store."""


class DamagedBlob(IntegrityError):
    """Bytes that no longer have the digest that they were stored under."""


class DamagedCatalog(IntegrityError):
    """The catalog's database is damaged: its own checks fail, or its data cannot be read."""


class BrokenHistory(IntegrityError):
    """A target's chain of events is inconsistent."""


class AdaptationError(CultivarError):
    """An adaptation failed."""


class DatasetError(AdaptationError):
    """The labelled data cannot be used as it is; the message names file and row."""


class SourceUnavailable(AdaptationError):
    """A source's weights are not on this machine; the message lists the places that were searched."""


class SourceDiffers(AdaptationError):
    """A source's outputs differ from its provider's own code; the message says where and by how much."""


class FrozenPartMoved(AdaptationError):
    """A parameter or buffer that was declared frozen changed while training."""


class ParityError(AdaptationError):
    """The exported version's outputs differ from the torch model's."""


class RuntimeFailure(CultivarError):
    """ONNX Runtime cannot open or run a session."""
