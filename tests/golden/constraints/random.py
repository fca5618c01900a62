"""Bounds of the random constraint, with ChaCha8 written out here.

D. J. Bernstein, "ChaCha, a variant of Salsa20".

The key is seed and identity as little-endian u64, then zeros; counter and nonce are zero. The first 64 bits of the
stream, shifted right by 11 and divided by 2^53, are the draw. Run: python random.py > random.json
"""

import json
import struct


def rotate(x, n):
    return ((x << n) | (x >> (32 - n))) & 0xFFFFFFFF


def quarter(s, a, b, c, d):
    for first, second, third, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[first] = (s[first] + s[second]) & 0xFFFFFFFF
        s[third] = rotate(s[third] ^ s[first], turn)


def first_block(key, rounds=8):
    start = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key)) + [0] * 4
    s = start[:]
    for _ in range(rounds // 2):
        for at in range(4):
            quarter(s, at, 4 + at, 8 + at, 12 + at)
        for at in range(4):
            quarter(s, at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4)
    return [(x + y) & 0xFFFFFFFF for x, y in zip(s, start)]


# ChaCha20's first keystream words under a zero key (RFC 8439, A.1, vector 1) check the block function.
assert struct.pack("<4I", *first_block(bytes(32), 20)[:4]).hex() == "76b8e0ada0f13d90405d6ae55386bd28"


def bound(low, high, seed, identity):
    words = first_block(struct.pack("<QQ", seed, identity) + bytes(16))
    unit = ((words[0] | words[1] << 32) >> 11) / 2**53
    return low + unit * (high - low)


cases = [
    (1, 2, 0, 0),
    (1, 2, 42, 0),
    (1, 2, 0, 42),
    (3, 4, 1, 2**63 + 12345),
    (5, 6, 2**64 - 1, 2**64 - 1),
    (0.5, 20, 7, 0x0123456789ABCDEF),
]
names = ("low", "high", "seed", "identity")
print(json.dumps([dict(zip(names, case), bound=bound(*case)) for case in cases], indent=1))
