"""The image that is sent in place of a generated one."""

from __future__ import annotations

import struct
import zlib

SIZE = 64
"""Width and height in pixels, whatever was requested: small enough for a test to read."""


def png(seed: int) -> bytes:
    """Return a valid PNG: an RGB gradient of 64x64 pixels, with colours that depend on ``seed``.

    The layout is that of the PNG specification (ISO/IEC 15948): signature, IHDR, IDAT, IEND.
    """
    red, green, blue = seed & 0xFF, seed >> 8 & 0xFF, seed >> 16 & 0xFF
    rows = bytearray()
    for y in range(SIZE):
        rows.append(0)  # each row starts with its filter type: none
        for x in range(SIZE):
            rows += bytes(((red + 4 * x) & 0xFF, (green + 4 * y) & 0xFF, (blue + 2 * (x + y)) & 0xFF))
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
