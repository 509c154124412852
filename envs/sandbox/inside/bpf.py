"""In: tests and verdicts. Out: bytes of a classic BPF program over `struct seccomp_data`.

A program is a sequence of 8-byte instructions: code (16 bits), jump if true (8), jump if false (8),
operand (32). Jumps count instructions to skip. Layout of the data: the call's number at 0, the
architecture at 4, its six arguments from 16, 64 bits each, read by halves.
Source: Linux Documentation/networking/filter.rst and include/uapi/linux/seccomp.h.
"""

import struct

NUMBER_OFFSET, ARCH_OFFSET = 0, 4

_LOAD_WORD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_EQUAL, _JUMP_GREATER, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT = 0x15, 0x25, 0x35, 0x45
INSTRUCTION_BYTES = 8


def argument_offset(index: int) -> int:
    """Where the low 32 bits of argument `index` lie on a little-endian machine; the high follow."""
    return 16 + 8 * index


def load(offset: int) -> bytes:
    """Accumulator = the word at `offset` of the data."""
    return _instruction(_LOAD_WORD, 0, 0, offset)


def keep_bits(mask: int) -> bytes:
    """Accumulator &= mask."""
    return _instruction(_AND, 0, 0, mask)


def give(verdict: int) -> bytes:
    """Ends the program with this verdict."""
    return _instruction(_RETURN, 0, 0, verdict)


def if_equal(value: int, then: int, otherwise: int) -> bytes:
    """Skips `then` or `otherwise` instructions."""
    return _instruction(_JUMP_EQUAL, then, otherwise, value)


def if_greater(value: int, then: int, otherwise: int) -> bytes:
    """Unsigned; skips `then` or `otherwise` instructions."""
    return _instruction(_JUMP_GREATER, then, otherwise, value)


def if_at_least(value: int, then: int, otherwise: int) -> bytes:
    """Unsigned; skips `then` or `otherwise` instructions."""
    return _instruction(_JUMP_GREATER_EQUAL, then, otherwise, value)


def if_any_bit(mask: int, then: int, otherwise: int) -> bytes:
    """Whether the accumulator has any bit of `mask`; skips accordingly."""
    return _instruction(_JUMP_ANY_BIT, then, otherwise, mask)


def _instruction(code: int, if_true: int, if_false: int, operand: int) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)
