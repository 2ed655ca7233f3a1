"""One trial: what is sent, how, and what its client does then. Seed and number make it, so that it can be had again."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.fuzz import framing, mutations
from benchmarks.fuzz.framing import HALF_CLOSE, LEAVE, WAIT, Sent
from benchmarks.fuzz.request import NOTHING, Request

NONE, FRAMING = "none", "framing"
LEVELS: Sequence[str] = (
    NONE, FRAMING, FRAMING, *mutations.OF_ANY, *mutations.OF_BODIES, *mutations.OF_ENCODINGS, *mutations.OF_ENCODINGS
)  # fmt: skip
"""What is spoilt, each as often as it stands here."""


@dataclass(frozen=True, slots=True)
class Case:
    """One trial.

    Attributes:
        number: which one of its seed.
        level: what was spoilt.
        asked: number of the well-formed request that it began as.
        pieces: the bytes, as they are handed to the socket.
        sent: what they are.
        then: ``WAIT`` for the answer, ``HALF_CLOSE`` and wait, or ``LEAVE`` at once.
        is_good: whether the answer is to be that of the well-formed request.
    """

    number: int
    level: str
    asked: int
    pieces: tuple[bytes, ...]
    sent: Sent
    then: str
    is_good: bool


def case(seed: int, number: int, corpus: Sequence[Request]) -> Case:
    """Return a trial of a seed."""
    random = Random(f"{seed}/{number}")
    level = random.choice(LEVELS)
    asked = random.choice(_fitting(level, corpus))
    request = corpus[asked]
    then = WAIT
    if level == FRAMING:
        sent = random.choice(framing.BAD)(random, request)
        then = random.choice((WAIT, WAIT, HALF_CLOSE, LEAVE))
    else:
        request = _mutation(level)(random, request)
        sent = random.choice(framing.GOOD)(random, request)
        if random.random() < 0.05:
            sent = Sent(sent.data[: random.randint(0, len(sent.data))], intact=False)
            then = random.choice((HALF_CLOSE, LEAVE))
        elif level == "headers":
            sent = Sent(sent.data, sent.answers, intact=False)
    if not sent.data.strip(b"\r\n"):  # nothing was asked, so that nothing is answered
        then = HALF_CLOSE
    is_good = level == NONE and then == WAIT
    return Case(number, level, asked, framing.in_pieces(random, sent.data), sent, then, is_good)


def _fitting(level: str, corpus: Sequence[Request]) -> Sequence[int]:
    """Return which of the requests can be spoilt so."""
    encoding, _ = mutations.OF_ENCODINGS.get(level, (None, None))
    if encoding is not None:
        return [number for number, each in enumerate(corpus) if each.encoding == encoding]
    if level in mutations.OF_BODIES:
        return [number for number, each in enumerate(corpus) if each.encoding != NOTHING]
    return range(len(corpus))


def _mutation(level: str) -> mutations.Mutation:
    if level in mutations.OF_ENCODINGS:
        return mutations.OF_ENCODINGS[level][1]
    return {**mutations.OF_ANY, **mutations.OF_BODIES}[level]
