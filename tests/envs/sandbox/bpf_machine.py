"""Runs a classic BPF program in Python, as slowly and plainly as the kernel's manual states it."""

import struct
from collections.abc import Sequence

X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003


def verdict(program: bytes, architecture: int, number: int, arguments: Sequence[int] = ()) -> int:
    """What a seccomp filter says to a system call."""
    filled = [*arguments, *[0] * (6 - len(arguments))]
    masked = [argument & 0xFFFFFFFFFFFFFFFF for argument in filled]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *masked)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("<HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x06:
            return int(operand)
        else:
            tests = {
                0x15: accumulator == operand,
                0x25: accumulator > operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }
            at += if_true if tests[code] else if_false
