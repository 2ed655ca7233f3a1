"""Answers of one connection as they come in, read strictly."""

from dataclasses import dataclass, field

import httptools

_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is whole.

    Attributes:
        status: 200 or more; those that only announce another one are left out.
        headers: names in lower case.
        body: without its framing.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether it is the connection's last."""
        return self.headers.get(b"connection", b"").lower() == b"close"


@dataclass(slots=True)
class Answers:
    """Reads answers.

    Args:
        without_bodies: answers end with their head, as those to HEAD do.

    Attributes:
        whole: those that have come so far.
    """

    without_bodies: bool = False
    whole: list[Answer] = field(default_factory=list)
    _parser: httptools.HttpResponseParser = field(init=False)
    _headers: dict[bytes, bytes] = field(default_factory=dict, init=False)
    _body: list[bytes] = field(default_factory=list, init=False)
    _begun: bool = field(default=False, init=False)
    _rest: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    @property
    def partial(self) -> bool:
        """Whether an answer has begun that is not whole."""
        return self._begun

    def feed(self, data: bytes) -> None:
        """Take bytes.

        Raises:
            httptools.HttpParserError: they are no answer.
        """
        self._begun = True
        if not self.without_bodies:
            self._parser.feed_data(data)
            return
        # The parser would wait for the bodies whose lengths these heads say.
        *heads, self._rest = (self._rest + data).split(_END)
        for head in heads:
            self._parser = httptools.HttpResponseParser(self)
            self._parser.feed_data(head + _END)

    def on_message_begin(self) -> None:
        """Begin an answer."""
        self._begun = True
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Take an answer whose body does not come."""
        if self.without_bodies:
            self._end()

    def on_body(self, data: bytes) -> None:
        """Take a part of a body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Take an answer whose body has come."""
        if not self.without_bodies:
            self._end()

    def _end(self) -> None:
        self._begun = False
        status = self._parser.get_status_code()
        if status >= 200:
            self.whole.append(Answer(status, self._headers, b"".join(self._body)))
