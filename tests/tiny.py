# SPDX-License-Identifier: MIT
"""Guests of a few bytes: 32-bit code in an ELF file with a PVH entry, so no kernel is needed.

    with open("hello", "wb") as f:
        f.write(elf(say(b"hello!") + POWER_OFF + HALT))
"""
import struct


def elf(code, at=0x100000):
    """An ELF kernel with a PVH entry at 1 MiB, and its only segment, too."""
    head = struct.pack("<4s12xHHIQQQIHHHHHH", b"\x7fELF", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head = head[:4] + b"\2\1\1" + head[7:]
    load = struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0, at, len(code), 0x2000, 0)
    note = struct.pack("<IIQQQQQQ", 4, 4, 0x200, 0, 0, 20, 20, 4)
    notes = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x100000)
    return (head + load + note).ljust(0x200, b"\0") + notes.ljust(0xe00, b"\0") + code


def say(text):
    """Code: mov $0x3f8, %edx; then each byte through %al to the port."""
    return b"\xba\xf8\x03\0\0" + b"".join(b"\xb0%c\xee" % c for c in text)


POWER_OFF = b"\xba\x04\x06\0\0\xb8\0\x34\0\0\x66\xef"  # SLP_EN to PM1 control
HALT = b"\xfa\xf4\xeb\xfd"
RESET = b"\xba\xf9\x0c\0\0\xb0\x0e\xee"                  # 0xcf9


def once(code):
    """The code and a reset, in the first boot only, by a byte of the clock's memory."""
    first = b"\xb0\x01\xe6\x71" + code + RESET + HALT
    return b"\xb0\x40\xe6\x70\xe4\x71\x84\xc0\x0f\x85" + struct.pack("<i", len(first)) + first
