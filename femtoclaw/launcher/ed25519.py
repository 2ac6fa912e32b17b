"""Checking Ed25519 signatures in plain Python, for the one signature that must be checked before a library is loaded.

RFC 8032, in its strict reading, which is libsodium's: only the one spelling of a scalar and of a point, and no key or
commitment of small order. Nothing here is secret, so nothing here takes care to run in constant time. Everywhere else
signatures are made and checked by PyNaCl.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha512

    Point = tuple[int, int, int, int]
else:
    try:  # the interpreter's own: half a millisecond less than hashlib, for a few kilobytes
        from _sha2 import sha512
    except ImportError:
        try:
            from _sha512 import sha512  # its name before Python 3.12
        except ImportError:
            from hashlib import sha512

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
# Worked out once and written down: doing it at each start would take a tenth of a bare interpreter's.
_D = 0x52036CEE2B6FFE738CC740797779E89800700A4D4141D8AB75EB4DCA135978A3
_TWICE_D = 2 * _D % PRIME
_ROOT_OF_MINUS_ONE = 0x2B8324804FC1DF0B2B4D00993DFBD7A72F431806AD2FE478C4EE1B274A0EA0B0
_NEUTRAL = (0, 1, 1, 0)
_BASE_X = 0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A
_BASE_Y = 0x6666666666666666666666666666666666666666666666666666666666666658
_BASE = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % PRIME)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """True when ``signature`` (64 bytes) is that of ``message`` by the key ``public`` (32 bytes). Never raises."""
    if len(public) != 32 or len(signature) != 64:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    key, commitment = _point(public), _point(signature[:32])
    if key is None or commitment is None or scalar >= ORDER or _small(key) or _small(commitment):
        return False
    challenge = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % ORDER
    minus_key = (PRIME - key[0], key[1], 1, PRIME - key[3])
    return _same(_sum(scalar, _BASE, challenge, minus_key), commitment)


def _point(raw: bytes) -> Point | None:
    """The point of 32 bytes; None when they are none, or not in their only spelling."""
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    x = _x(y, sign) if y < PRIME else None
    return None if x is None else (x, y, 1, x * y % PRIME)


def _x(y: int, sign: int) -> int | None:
    above, below = (y * y - 1) % PRIME, (_D * y * y + 1) % PRIME
    x = above * pow(below, 3, PRIME) * pow(above * pow(below, 7, PRIME), (PRIME - 5) // 8, PRIME) % PRIME
    square = below * x * x % PRIME
    if square == (-above) % PRIME:
        x = x * _ROOT_OF_MINUS_ONE % PRIME
    elif square != above:
        return None
    if x == 0 and sign:
        return None
    return PRIME - x if x & 1 != sign else x


def _add(a: Point, b: Point) -> Point:
    e = (a[1] - a[0]) * (b[1] - b[0]) % PRIME
    f = (a[1] + a[0]) * (b[1] + b[0]) % PRIME
    g = a[3] * _TWICE_D * b[3] % PRIME
    h = 2 * a[2] * b[2] % PRIME
    p, q, r, s = f - e, h - g, h + g, f + e
    return p * q % PRIME, r * s % PRIME, q * r % PRIME, p * s % PRIME


def _double(a: Point) -> Point:
    x, y, z, _ = a
    e, f = x * x % PRIME, y * y % PRIME
    g = e + f
    h = g - (x + y) * (x + y)
    i = e - f
    j = 2 * z * z + i
    return h * j % PRIME, i * g % PRIME, i * j % PRIME, g * h % PRIME


def _sum(m: int, a: Point, n: int, b: Point) -> Point:
    """m·a + n·b, two bits of both numbers at a time, from the highest."""
    row = [_NEUTRAL, b, _double(b)]
    row.append(_add(row[2], b))
    table = list(row)
    for _ in range(3):
        row = [_add(a, point) for point in row]
        table += row
    total = _NEUTRAL
    for shift in range(254, -1, -2):
        total = _double(_double(total))
        index = (m >> shift & 3) * 4 + (n >> shift & 3)
        if index:
            total = _add(total, table[index])
    return total


def _small(point: Point) -> bool:
    return _same(_double(_double(_double(point))), _NEUTRAL)


def _same(a: Point, b: Point) -> bool:
    return (a[0] * b[2] - b[0] * a[2]) % PRIME == 0 and (a[1] * b[2] - b[1] * a[2]) % PRIME == 0
