"""Every error that Cultivar raises on purpose.

The tree::

    CultivarError
    ├── InvalidValue            a value breaks its own rules
    │   ├── InvalidName         a task, transfer, stage or ref that the grammar refuses
    │   ├── InvalidDigest
    │   ├── InvalidManifest
    │   ├── InvalidRecipe
    │   ├── InvalidSegment      an ONNX file that cannot be a segment of a version
    │   └── InvalidSetting      an option or environment variable
    ├── InvalidInput            one item that a client sent
    │   ├── UndecodableInput    its bytes are not what they claim to be
    │   ├── InputTooLarge       bytes, pixels or rows over a limit
    │   └── WrongModality       a text for a picture model, or the reverse
    ├── MissingExtra            optional dependencies that are not installed
    ├── NotFound
    │   ├── UnknownTarget
    │   ├── UnknownVersion
    │   ├── UnknownSource
    │   └── UnknownToken
    ├── AmbiguousRef            a ref that several versions answer to
    ├── Conflict                the registry's state forbids the move
    │   ├── StaleExpectation    someone else moved the target first
    │   ├── CondemnedBlob       the garbage collector has claimed the bytes
    │   ├── VersionInUse        a deletion that would take something away
    │   ├── UnsafeCollection    garbage that may be somebody else's
    │   ├── GateFailed          a promotion that its gates refuse
    │   └── NameTaken           another has the name already
    ├── StorageFailure          the catalog's database or the store's disk failed
    │   ├── MissingCatalog      the catalog's file is not there
    │   └── ReadOnlyRegistry    they may be read, and not written to
    ├── IntegrityError          stored bytes are not what was stored
    │   ├── MissingBlob
    │   ├── DamagedBlob
    │   ├── DamagedCatalog
    │   └── BrokenHistory
    ├── AdaptationError         carrying a model over failed
    │   ├── DatasetError        the labelled data cannot be used as it is
    │   ├── SourceUnavailable   a source's weights are not at hand
    │   ├── SourceDiffers       a source does not answer as its provider's own code does
    │   ├── FrozenPartMoved     the freeze proof failed
    │   └── ParityError         the exported version does not answer as the torch model does
    └── RuntimeFailure          ONNX Runtime cannot open or run a session

Every message says what was expected, what came, and what to do. HTTP statuses belong to
``services.errors`` and exit codes to the command line; nothing here knows of either.
"""


class CultivarError(Exception):
    """Root of the tree: anything that a caller may show to a person as it stands."""


class InvalidValue(CultivarError, ValueError):
    """A value breaks its own rules."""


class InvalidName(InvalidValue):
    """A task, transfer, stage or ref that the grammar refuses."""


class InvalidDigest(InvalidValue):
    """Text that is not ``sha256:`` and 64 hexadecimal digits."""


class InvalidManifest(InvalidValue):
    """A manifest that is not well-formed, or contradicts itself."""


class InvalidRecipe(InvalidValue):
    """A recipe with an unknown field, or one out of its range."""


class InvalidSegment(InvalidValue):
    """An ONNX file, or a wiring of several, that cannot be part of a version."""


class InvalidSetting(InvalidValue):
    """An option, configuration key or environment variable that cannot be used."""


class MissingExtra(CultivarError):
    """Optional dependencies that are not installed; the message says which extra holds them."""


class InvalidInput(CultivarError, ValueError):
    """One item that a client sent.

    Attributes:
        index: position of the item in its request, from 0, or None where it is the whole.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class UndecodableInput(InvalidInput):
    """The bytes of an item are not what they claim to be."""


class InputTooLarge(InvalidInput):
    """Bytes, pixels or rows over a limit."""


class WrongModality(InvalidInput):
    """A text was sent to a model of pictures, or the reverse."""


class NotFound(CultivarError, LookupError):
    """Nothing answers to a name."""


class UnknownTarget(NotFound):
    """No version was ever registered for a target task."""


class UnknownVersion(NotFound):
    """The target exists, the version or the stage asked for does not."""


class UnknownSource(NotFound):
    """A source spec whose provider or model does not exist."""


class UnknownToken(NotFound):
    """A bearer token's name that none has."""


class AmbiguousRef(CultivarError):
    """A ref that several versions answer to; the message lists them."""


class Conflict(CultivarError):
    """The registry's state forbids the move."""


class StaleExpectation(Conflict):
    """A compare-and-swap lost: the target's stages moved since they were read."""


class CondemnedBlob(Conflict):
    """The garbage collector has claimed a blob; it has to be stored again."""


class VersionInUse(Conflict):
    """A deletion would take away what a stage, a rollback or a child needs."""


class UnsafeCollection(Conflict):
    """It is not certain that this catalog alone decides over the bytes in the store."""


class GateFailed(Conflict):
    """A promotion that its gates refuse; it can be forced with a reason."""


class NameTaken(Conflict):
    """Another has the name already, and keeps it."""


class StorageFailure(CultivarError):
    """The catalog's database cannot be reached, read or written, or the blob store's disk failed."""


class MissingCatalog(StorageFailure):
    """The catalog's file is not there, though it was, or its blobs are."""


class ReadOnlyRegistry(StorageFailure):
    """The catalog or the store may be read, and not written to, by whoever asks."""


class IntegrityError(CultivarError):
    """Stored bytes are not what was stored."""


class MissingBlob(IntegrityError):
    """A digest that is referred to, whose bytes are not in the store."""


class DamagedBlob(IntegrityError):
    """Bytes that no longer have the digest that they were stored under."""


class DamagedCatalog(IntegrityError):
    """The catalog's database is not in order: its own checks fail, or what it holds cannot be read."""


class BrokenHistory(IntegrityError):
    """A target's chain of events does not add up."""


class AdaptationError(CultivarError):
    """Carrying a model over failed."""


class DatasetError(AdaptationError):
    """The labelled data cannot be used as it is; the message names file and row."""


class SourceUnavailable(AdaptationError):
    """A source's weights are not at hand; the message says where they were looked for."""


class SourceDiffers(AdaptationError):
    """A source does not answer as its provider's own code does; the message says on what, and by how much."""


class FrozenPartMoved(AdaptationError):
    """A parameter or buffer that was declared frozen changed while training."""


class ParityError(AdaptationError):
    """The exported version does not answer as the torch model does."""


class RuntimeFailure(CultivarError):
    """ONNX Runtime cannot open or run a session."""
