"""Names and record data inside a message: whether they have the shape of RFC 1035 and of their type.

One pass over the message, which looks at each octet a bounded number of times, whatever the message holds.
`seen` makes that possible: for each offset that a compression pointer can reach, it has two octets about the name that
begins there: its expanded size, and the number of pointers in it; 0 where no name begins.
So following a pointer is one look-up, and it can only lead to a name, or the rest of one, that was read before.
"""

from __future__ import annotations

from collections.abc import Callable

#: The longest name, root byte included (RFC 1035 section 2.3.4), and the most pointers one may go through.
_NAME_SIZE, _MAX_POINTERS = 255, 16
#: How far a compression pointer can reach (RFC 1035 section 4.1.4).
_REACH = 0x4000

#: The shape of each known type's data, one letter a field:
#:
#:     B H I    a number of 1, 2 or 4 octets         4 6 8  an IPv4 address, an IPv6 address, eight octets
#:     t T      a type, a time                       n u    a name; one that must not be compressed
#:     s S      a string; one or more to the end     h o    a salt; a hash that is not empty
#:     m        a type bitmap to the end             p      SVCB parameters to the end
#:     x b q    the rest, as hex, base64, text       Q      the same, not empty
#:     w i      a word; a string that may be missing
#:
#: and letters for a single type: d D k c z a l f g G v r e E K; see `_CHECKS`.
SHAPES: dict[int, bytes] = {
    1: b"4", 2: b"n", 3: b"n", 4: b"n", 5: b"n", 6: b"nnIIIII", 7: b"n", 8: b"n", 9: b"n", 11: b"4Br", 12: b"n",
    13: b"ss", 14: b"nn", 15: b"Hn", 16: b"S", 17: b"nn", 18: b"Hn", 19: b"s", 20: b"si", 21: b"Hn", 22: b"x",
    23: b"u", 24: b"tBBITTHnb", 25: b"HBBb", 26: b"Hnn", 27: b"f", 28: b"6", 29: b"l", 30: b"nx", 33: b"HHHn",
    35: b"HHsssn", 36: b"Hu", 37: b"HHBb", 39: b"u", 42: b"a", 43: b"HBBd", 44: b"BBk", 45: b"BBBgb", 46: b"tBBITTHub",
    47: b"um", 48: b"HBBb", 49: b"b", 50: b"BBHhom", 51: b"BBHh", 52: b"BBBc", 53: b"BBBc", 55: b"v", 56: b"S",
    58: b"nn", 59: b"HBBD", 60: b"HBBb", 61: b"b", 62: b"IHm", 63: b"IBBz", 64: b"Hup", 65: b"Hup", 66: b"tBHu",
    67: b"b", 68: b"b", 99: b"S", 104: b"H8", 105: b"H4", 106: b"H8", 107: b"Hu", 108: b"e", 109: b"E",
    249: b"uIIHHK", 256: b"HHQ", 257: b"Bwq", 258: b"S", 260: b"BBG", 261: b"S", 262: b"S", 32769: b"HBBd",
}  # fmt: skip
#: Types with this shape in class IN only; A has another shape in class CH (RFC 1035 section 3.4).
IN_ONLY = frozenset((1, 11, 22, 23, 26, 28, 33, 35, 36, 42, 45, 49, 64, 65))
_IN, _CH, _A, _CHAOS_A = 1, 3, 1, b"uH"

_WIDTHS = bytes(dict(zip(b"BHI468tT", (1, 2, 4, 4, 16, 8, 2, 4), strict=True)).get(letter, 0) for letter in range(256))
_NAME, _UNCOMPRESSED, _STRING, _STRINGS, _BITMAP, _PARAMETERS = b"nusSmp"
_REST = b"xbq"


def no_names(length: int) -> bytearray:
    """`seen` for a message of `length` octets, before its first name."""
    return bytearray(2 * min(length, _REACH))


def name_end(data: bytes, start: int, stop: int, seen: bytearray, pointers: bool) -> int:
    """Offset just past the name at `start`, which must end before `stop`; -1 if it is malformed. Updates `seen`."""
    position = start
    length, hops = 1, 0
    while True:
        if position >= stop:
            return -1
        size = data[position]
        if size == 0:
            end = position + 1
            break
        if size < 64:
            position += size + 1
            continue
        target = ((size & 0x3F) << 8 | data[position + 1]) * 2 if size >= 192 and position + 1 < stop else 0
        if not pointers or target >= 2 * start or seen[target] == 0:
            return -1
        length, hops = seen[target], seen[target + 1] + 1
        end = position + 2
        break
    length += position - start
    if length > _NAME_SIZE or hops > _MAX_POINTERS:
        return -1
    at = start
    while at < _REACH:
        seen[2 * at] = length
        seen[2 * at + 1] = hops
        if at == position:
            break
        length -= data[at] + 1
        at += data[at] + 1
    return end


def rdata_holds(data: bytes, rtype: int, rclass: int, start: int, stop: int, seen: bytearray) -> bool:
    """Whether `data[start:stop]` has the shape of its type; the data of unknown types may be anything (RFC 3597)."""
    shape = SHAPES.get(rtype)
    if shape is None:
        return True
    if rclass != _IN and rtype in IN_ONLY:
        if rclass != _CH or rtype != _A:
            return True
        shape = _CHAOS_A
    position = start
    for letter in shape:
        width = _WIDTHS[letter]
        if width:
            position += width
        elif letter in (_NAME, _UNCOMPRESSED):
            position = name_end(data, position, stop, seen, letter == _NAME)
        elif letter == _STRING:
            position = _string_end(data, position, stop)
        elif position > stop:
            return False
        elif letter == _STRINGS:
            position = _strings_end(data, position, stop)
        elif letter == _BITMAP:
            position = _bitmap_end(data, position, stop)
        elif letter == _PARAMETERS:
            position = _parameters_end(data, position, stop, data[start] | data[start + 1])
        elif letter in _REST:
            position = stop
        else:
            position = _CHECKS[letter](data, position, stop, seen)
        if position < 0:
            return False
    return position == stop


def _string_end(data: bytes, at: int, stop: int) -> int:
    """The end of a string that follows its one-octet length (RFC 1035 section 3.3)."""
    return at + 1 + data[at] if at < stop else -1


def _strings_end(data: bytes, at: int, stop: int) -> int:
    if at >= stop:
        return -1
    while at < stop:
        at += 1 + data[at]
    return at


def _bitmap_end(data: bytes, at: int, stop: int) -> int:
    """The end of a type bitmap: ascending windows, each without a final zero octet (RFC 4034 section 4.1.2)."""
    last = -1
    while at < stop:
        if at + 2 > stop or data[at] <= last or not 1 <= data[at + 1] <= 32:
            return -1
        last = data[at]
        at += 2 + data[at + 1]
        if at > stop or data[at - 1] == 0:
            return -1
    return at


_MANDATORY, _ALPN, _NO_DEFAULT_ALPN, _PORT, _IPV4HINT, _ECH, _IPV6HINT, _OHTTP, _DOCPATH = 0, 1, 2, 3, 4, 5, 6, 8, 10


def _parameters_end(data: bytes, at: int, stop: int, priority: int) -> int:
    """The end of SVCB parameters: keys in ascending order, each with a value of its form, none in alias mode.

    RFC 9460 sections 2.2, 7 and 8.
    """
    if at < stop and priority == 0:
        return -1
    first, last, mandatory, alpn = at, -1, -1, False
    while at < stop:
        if at + 4 > stop:
            return -1
        key = data[at] << 8 | data[at + 1]
        size = data[at + 2] << 8 | data[at + 3]
        end = at + 4 + size
        if key <= last or end > stop or not _parameter_holds(data, key, at + 4, end, size):
            return -1
        if key == _MANDATORY:
            mandatory = at
        elif key == _ALPN:
            alpn = True
        elif key == _NO_DEFAULT_ALPN and not alpn:
            return -1
        at, last = end, key
    if mandatory >= 0 and not _mandatory_holds(data, mandatory + 4, first, stop):
        return -1
    return at


def _parameter_holds(data: bytes, key: int, at: int, end: int, size: int) -> bool:
    if key in (_ALPN, _DOCPATH):
        if size == 0:
            return key == _DOCPATH
        while at < end:
            if data[at] == 0:
                return False
            at += 1 + data[at]
        return at == end
    if key in (_IPV4HINT, _IPV6HINT):
        return size > 0 and size % (4 if key == _IPV4HINT else 16) == 0
    if key == _ECH:
        return size >= 6 and (data[at] << 8 | data[at + 1]) == size - 2
    if key == _PORT:
        return size == 2
    if key in (_NO_DEFAULT_ALPN, _OHTTP):
        return size == 0
    return key != _MANDATORY or (size > 0 and size % 2 == 0)


def _mandatory_holds(data: bytes, at: int, first: int, stop: int) -> bool:
    """Whether the keys listed in `mandatory` ascend, do not include itself, and are all present."""
    end = at + (data[at - 2] << 8 | data[at - 1])
    wanted = 0
    while at < end:
        key = data[at] << 8 | data[at + 1]
        if key <= wanted:
            return False
        wanted = key
        while first < stop and (data[first] << 8 | data[first + 1]) < wanted:
            first += 4 + (data[first + 2] << 8 | data[first + 3])
        if first >= stop or (data[first] << 8 | data[first + 1]) != wanted:
            return False
        at += 2
    return True


Check = Callable[[bytes, int, int, bytearray], int]


def _digest(lengths: dict[int, int], reserved: int = -1) -> Check:
    """A check that the rest has the length for the digest type in the octet before it; any length for unknown types."""

    def end(data: bytes, at: int, stop: int, seen: bytearray) -> int:
        kind = data[at - 1]
        return stop if kind != reserved and lengths.get(kind, stop - at) == stop - at else -1

    return end


def _of_size(size: int) -> Check:
    return lambda data, at, stop, seen: stop if stop - at == size else -1


def _zone_digest(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    """Scheme, hash and digest of ZONEMD (RFC 8976 section 2.2)."""
    size = stop - at
    fits = size == {1: 48, 2: 64}.get(data[at - 1], size) and size >= 12
    return stop if fits and data[at - 2] and data[at - 1] else -1


def _prefixes(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    """The items of APL (RFC 3123 section 4)."""
    while at < stop:
        if at + 4 > stop:
            return -1
        family, prefix, size = data[at] << 8 | data[at + 1], data[at + 2], data[at + 3] & 0x7F
        at += 4 + size
        longest = {1: 4, 2: 16}.get(family, 127)
        if at > stop or size > longest or (size and data[at - 1] == 0) or (family in (1, 2) and prefix > 8 * longest):
            return -1
    return at


def _location(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    """Version, size and precisions, latitude, longitude and altitude (RFC 1876 section 2)."""
    if stop - at != 16 or data[at]:
        return -1
    for octet in data[at + 1 : at + 4]:
        base, exponent = octet >> 4, octet & 0x0F
        if base > 9 or exponent > 9 or (base == 0 and exponent):
            return -1
    for offset, degrees in ((4, 90), (8, 180)):
        if abs(int.from_bytes(data[at + offset : at + offset + 4], "big") - 0x80000000) > degrees * 3600000:
            return -1
    return stop


def _gateway(data: bytes, at: int, stop: int, seen: bytearray, kind: int) -> int:
    """Nothing, an address or a name, as the gateway type says (RFC 4025 section 2.5, RFC 8777 section 4.2.3)."""
    if kind == 3:
        return name_end(data, at, stop, seen, False)
    return at + (0, 4, 16)[kind] if kind < 3 else -1


def _rendezvous(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    """Identity, key and servers of HIP (RFC 8005 section 5)."""
    if at + 4 > stop:
        return -1
    at += 4 + data[at] + (data[at + 2] << 8 | data[at + 3])
    while 0 <= at < stop:
        at = name_end(data, at, stop, seen, False)
    return at


def _secrets(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    """Key data and other data of TKEY, each after its length (RFC 2930 section 2)."""
    for _ in range(2):
        if at + 2 > stop:
            return -1
        at += 2 + (data[at] << 8 | data[at + 1])
    return at


def _word(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    end = _string_end(data, at, stop)
    return end if 0 < end <= stop and data[at + 1 : end].isalnum() else -1


def _hash(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    return _string_end(data, at, stop) if at < stop and data[at] else -1


def _decimal(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    """A coordinate of GPOS: a string of digits, optionally with a sign and a point (RFC 1712 section 3)."""
    end = _string_end(data, at, stop)
    text = data[at + 1 : end]
    whole, _, part = text.removeprefix(text[:1] if text[:1] in (b"+", b"-") else b"").partition(b".")
    return end if 0 < end <= stop and (whole + part).isdigit() else -1


def _position(data: bytes, at: int, stop: int, seen: bytearray) -> int:
    """Latitude, longitude and altitude of GPOS."""
    for most in (90.0, 180.0, 0.0):
        end = _decimal(data, at, stop, seen)
        if end < 0 or (most and abs(float(data[at + 1 : end])) > most):
            return -1
        at = end
    return at


#: The checks for the remaining letters, whose types are too rare to be worth compiled code.
_CHECKS: dict[int, Check] = {
    ord("d"): _digest({1: 20, 2: 32, 3: 32, 4: 48}, reserved=0),
    ord("D"): _digest({0: 1, 1: 20, 2: 32, 3: 32, 4: 48}),
    ord("k"): _digest({1: 20, 2: 32}),
    ord("c"): _digest({1: 32, 2: 64}),
    ord("z"): _zone_digest,
    ord("a"): _prefixes,
    ord("l"): _location,
    ord("f"): _position,
    ord("g"): lambda data, at, stop, seen: _gateway(data, at, stop, seen, data[at - 2]),
    ord("G"): lambda data, at, stop, seen: _gateway(data, at, stop, seen, data[at - 1] & 0x7F),
    ord("v"): _rendezvous,
    ord("r"): lambda data, at, stop, seen: stop if stop - at <= 8192 else -1,
    ord("K"): _secrets,
    ord("e"): _of_size(6),
    ord("E"): _of_size(8),
    ord("h"): lambda data, at, stop, seen: _string_end(data, at, stop),
    ord("o"): _hash,
    ord("w"): _word,
    ord("i"): lambda data, at, stop, seen: _string_end(data, at, stop) if at < stop else at,
    ord("Q"): lambda data, at, stop, seen: stop if at < stop else -1,
}
