"""The size that a WebP file announces, read from its first bytes.

Pillow's decoder takes memory for two whole pictures when it opens a file, before it says how large they are.
"""

_FIRST_CHUNK = 12
_PAYLOAD = 20


def size_of(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a WebP file, or None where the bytes do not begin as one does (RFC 9649, 2)."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    kind, payload = data[_FIRST_CHUNK : _FIRST_CHUNK + 4], data[_PAYLOAD : _PAYLOAD + 10]
    if len(payload) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(payload[4:7], "little"), 1 + int.from_bytes(payload[7:10], "little")
    if kind == b"VP8L" and payload[0] == 0x2F:
        bits = int.from_bytes(payload[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and payload[3:6] == b"\x9d\x01\x2a":
        return (
            int.from_bytes(payload[6:8], "little") & 0x3FFF,
            int.from_bytes(payload[8:10], "little") & 0x3FFF,
        )
    return None
