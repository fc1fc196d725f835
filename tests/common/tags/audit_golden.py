#!/usr/bin/env python3
"""Audit tags by the book and bit by bit: the known answers of tests/common/tags/audit_tag_test.cc.

Shares nothing with the program: carry-less arithmetic, AES from its definition, HKDF from hmac.
Without arguments prints the answers; with a file checks that it holds them.
"""
import hashlib
import hmac
import sys


def gf(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11D
        b >>= 1
    return product


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def multiply(a, b):
    """(a0 + a1 X)(b0 + b1 X) with X^2 = X + c."""
    if len(a) == 1:
        return bytes([gf(a[0], b[0])])
    h = len(a) // 2
    a0, a1, b0, b1 = a[:h], a[h:], b[:h], b[h:]
    c = bytes(h - 1) + b"\x20"
    a1b1 = multiply(a1, b1)
    return xor(multiply(a0, b0), multiply(c, a1b1)) + xor(xor(multiply(a0, b1), multiply(a1, b0)), a1b1)


def power(a, n):
    result = b"\x01" + bytes(len(a) - 1)
    while n:
        if n & 1:
            result = multiply(result, a)
        a = multiply(a, a)
        n >>= 1
    return result


def check_field():
    for h in (1, 2, 4, 8):  # X^2 + X + c has no root where the trace of c is 1
        c = bytes(h - 1) + b"\x20"
        trace = bytes(h)
        for i in range(8 * h):
            trace = xor(trace, c)
            c = multiply(c, c)
        assert trace == b"\x01" + bytes(h - 1), h
    a = bytes(range(1, 17))
    assert power(a, 2**128 - 1) == b"\x01" + bytes(15)


def make_sbox():
    def rijndael(a, b):
        product = 0
        while b:
            if b & 1:
                product ^= a
            a = a << 1 ^ (0x11B if a & 0x80 else 0)
            b >>= 1
        return product

    box = []
    for x in range(256):
        inverse = next((y for y in range(256) if rijndael(x, y) == 1), 0)
        s = 0x63
        for turn in range(5):
            s ^= (inverse << turn | inverse >> 8 - turn) & 255
        box.append(s)
    return box


SBOX = make_sbox()


def xtime(x):
    return (x << 1) & 255 ^ (0x1B if x & 0x80 else 0)


def aes(key, block):
    words = [list(key[i : i + 4]) for i in range(0, len(key), 4)]
    n, rounds, rcon = len(words), len(key) // 4 + 6, 1
    for i in range(n, 4 * rounds + 4):
        word = list(words[-1])
        if i % n == 0:
            word = [SBOX[x] for x in word[1:] + word[:1]]
            word[0] ^= rcon
            rcon = xtime(rcon)
        elif n > 6 and i % n == 4:
            word = [SBOX[x] for x in word]
        words.append([x ^ y for x, y in zip(words[i - n], word)])
    keys = [bytes(sum(words[4 * r : 4 * r + 4], [])) for r in range(rounds + 1)]
    state = xor(block, keys[0])
    for r in range(1, rounds + 1):
        state = [SBOX[x] for x in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if r < rounds:
            mixed = []
            for c in range(0, 16, 4):
                col = state[c : c + 4]
                every = col[0] ^ col[1] ^ col[2] ^ col[3]
                mixed += [col[i] ^ every ^ xtime(col[i] ^ col[(i + 1) % 4]) for i in range(4)]
            state = mixed
        state = xor(state, keys[r])
    return state


def hkdf(key, info, n):
    prk = hmac.new(bytes(32), key, hashlib.sha256).digest()
    out = block = b""
    while len(out) < n:
        block = hmac.new(prk, block + info + bytes([len(out) // 32 + 1]), hashlib.sha256).digest()
        out += block
    return out[:n]


def le(x, n):
    return x.to_bytes(n, "little")


def prf(key, stripe, column, block, version):
    first = aes(key[:16], le(stripe, 8) + le(version, 8))
    return aes(key[:16], xor(first, le(column, 4) + le(block, 4) + bytes(8)))


def polynomial(key, data):
    data = data + bytes(-len(data) % 4096)
    total, alpha = bytes(16), key[16:]
    weight = alpha
    for c in range(256):
        total = xor(total, multiply(weight, data[16 * c : 16 * c + 16]))
        weight = multiply(weight, alpha)
    return total


def sample(seed, total, samples):
    if samples == 0 or samples >= total:
        return list(range(total))
    words, number = [], 0
    chosen = set()
    for last in range(total - samples, total):
        n = last + 1
        while True:
            if not words:
                block = aes(seed, le(number, 8) + le(2, 8))
                words = [int.from_bytes(block[:8], "little"), int.from_bytes(block[8:], "little")]
                number += 1
            word = words.pop(0)
            if word < 2**64 // n * n:
                break
        drawn = word % n
        chosen.add(last if drawn in chosen else drawn)
    return sorted(chosen)


def nu(seed, block):
    return aes(seed, le(block, 8) + le(1, 8))


def answer(seed, total, samples, data, tags):
    mu, sigma = bytearray(4096), bytes(16)
    for i in sample(seed, total, samples):
        block = data[4096 * i : 4096 * i + 4096]
        if not block:
            continue
        block += bytes(4096 - len(block))
        weight = nu(seed, i)
        for c in range(0, 4096, 16):
            mu[c : c + 16] = xor(mu[c : c + 16], multiply(weight, block[c : c + 16]))
        sigma = xor(sigma, multiply(weight, tags[i]))
    return bytes(mu), sigma


def answers():
    uuid = b"00112233-4455-6677-8899-aabbccddeeff"
    service = bytes(range(32))
    out = []

    def say(name, value):
        out.append(name + " " + (value.hex() if isinstance(value, bytes) else value))

    assert aes(bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff")).hex() == (
        "69c4e0d86a7b0430d8cdb78070b4c55a")
    assert aes(bytes(range(32)), bytes.fromhex("00112233445566778899aabbccddeeff")).hex() == (
        "8ea2b7ca516745bfeafc49904b496089")
    check_field()
    element = lambda n: bytes((n * 37 + i * (2 * n + 11) + 5) & 255 for i in range(16))
    for i in range(4):
        say("product-%d" % i, multiply(element(i), element(i + 7)))
    say("square-of-last", multiply(bytes(15) + b"\x01", bytes(15) + b"\x01"))

    key = hkdf(service, b"datacloud 1 audit " + uuid + b" 3", 32)
    say("audit-key", key)
    say("prf-first", prf(key, 1, 0, 0, 1))
    say("prf-second", prf(key, 2**56 - 1, 31, 1023, 2**64 - 1))
    data = bytes((7 * i * i + 3 * i + 5) & 255 for i in range(10000))
    tags = [xor(prf(key, 9, 2, i, 77), polynomial(key, data[4096 * i : 4096 * i + 4096]))
            for i in range(3)]
    for i, tag in enumerate(tags):
        say("tag-%d" % i, tag)
    ones = [xor(prf(key, 9, 2, 0, 77), polynomial(key, bytes(16 * c) + b"\x01")) for c in (0, 255)]
    say("tag-first-element", ones[0])
    say("tag-last-element", ones[1])

    seed = bytes(range(100, 132))
    say("samples-10-4", " ".join(map(str, sample(seed, 10, 4))))
    many = b"".join(le(i, 4) for i in sample(seed, 1024, 460))
    say("samples-1024-460-sha256", hashlib.sha256(many).digest())
    say("nu-0", nu(seed, 0))
    say("nu-9", nu(seed, 9))
    for total, samples in ((3, 0), (6, 3)):
        mu, sigma = answer(seed, total, samples, data, tags)
        say("mu-%d-%d-start" % (total, samples), mu[:32])
        say("mu-%d-%d-sha256" % (total, samples), hashlib.sha256(mu).digest())
        say("sigma-%d-%d" % (total, samples), sigma)

    # 100 bytes of 0xa5 XORed in from 4050 on, blocks 0 and 1 become version 78.
    changed = bytearray(data)
    for i in range(4050, 4150):
        changed[i] ^= 0xA5
    for i in range(2):
        after = xor(prf(key, 9, 2, i, 78), polynomial(key, bytes(changed[4096 * i : 4096 * i + 4096])))
        say("delta-%d" % i, xor(tags[i], after))
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(answers(), end="")
    elif open(sys.argv[1]).read() != answers():
        sys.exit(sys.argv[1] + " does not hold these answers")
