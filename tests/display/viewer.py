# SPDX-License-Identifier: MIT
"""A VNC viewer (RFC 6143): logs in, types, sees. With a decoder of its own for raw and ZRLE.

    with Viewer("/tmp/vnc") as v:
        v.type("uname\\n")
        v.look()                     # until an update has come
        v.pixels[y * v.width + x]    # 0xrrggbb

And PNG files, read by Python's zlib.
"""
import socket
import struct
import zlib

RAW, ZRLE, DESKTOP_SIZE, QEMU_KEYS, EXTENDED_SIZE = 0, 16, -223, -258, -308
RETURN, SHIFT = 0xff0d, 0xffe1
SHIFTED = '~!@#$%^&*()_+{}|:"<>?ABCDEFGHIJKLMNOPQRSTUVWXYZ'


class Refused(Exception):
    """It has not let us in, or does not speak to us any more."""


def permute(bits, table):
    return [bits[i - 1] for i in table]


# DES, FIPS 46-3: the standard's tables.
IP = [b - 8 * i for b in (58, 60, 62, 64, 57, 59, 61, 63) for i in range(8)]
E = [(4 * i + j - 1) % 32 + 1 for i in range(8) for j in range(6)]
P = [16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25]
PC1 = [57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
       63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4]
PC2 = [14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
       41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32]
S = ["e4d12fb83a6c5907 0f74e2d1a6cb9538 41e8d62bfc973a50 fc8249175b3ea06d",
     "f18e6b34972dc05a 3d47f28ec01a69b5 0e7ba4d158c6932f d8a13f42b67c05e9",
     "a09e63f51dc7b428 d709346a285ecbf1 d6498f30b12c5ae7 1ad069874fe3b52c",
     "7de3069a1285bc4f d8b56f03472c1ae9 a690cb7df13e5284 3f06a1d8945bc72e",
     "2c417ab6853fd0e9 eb2c47d150fa3986 421bad78f9c5630e b8c71e2d6f09a453",
     "c1af92680d34e75b af427c9561de0b38 9ef528c3704a1db6 432c95fabe17608d",
     "4b2ef08d3c975a61 d0b7491ae35c2f86 14bdc37eaf680592 6bd814a7950fe23c",
     "d2846fb1a93e50c7 1fd8a374c56b0e92 7b419ce206adf358 21e74a8dfc90356b"]


def fix(box, row):
    return [int(c, 16) for c in S[box].split()[row]]


def to_bits(data):
    return [byte >> (7 - i) & 1 for byte in data for i in range(8)]


def des(key, block):
    """One block of 8 bytes."""
    c, keys = permute(to_bits(key), PC1), []
    left, right = c[:28], c[28:]
    for i in range(16):
        n = 1 if i in (0, 1, 8, 15) else 2
        left, right = left[n:] + left[:n], right[n:] + right[:n]
        keys.append(permute(left + right, PC2))
    bits = permute(to_bits(block), IP)
    left, right = bits[:32], bits[32:]
    for k in keys:
        x = [a ^ b for a, b in zip(permute(right, E), k)]
        out = []
        for box in range(8):
            six = x[box * 6:box * 6 + 6]
            value = fix(box, six[0] * 2 + six[5])[six[1] * 8 + six[2] * 4 + six[3] * 2 + six[4]]
            out += [value >> (3 - i) & 1 for i in range(4)]
        left, right = right, [a ^ b for a, b in zip(left, permute(out, P))]
    bits, final = right + left, [0] * 64
    for i, source in enumerate(IP):
        final[source - 1] = bits[i]
    return bytes(sum(final[i * 8 + j] << (7 - j) for j in range(8)) for i in range(8))


def answer(password, challenge):
    key = bytes(int("{:08b}".format(b)[::-1], 2) for b in password.encode().ljust(8, b"\0")[:8])
    return des(key, challenge[:8]) + des(key, challenge[8:])


class Viewer:
    def __init__(self, where, password=None, encodings=(ZRLE, DESKTOP_SIZE, QEMU_KEYS)):
        if isinstance(where, str):
            self.socket = socket.socket(socket.AF_UNIX)
        else:
            self.socket = socket.socket()
        self.socket.connect(where)
        self.inflate = zlib.decompressobj()
        self.updates = 0
        self.sizes = []  # (who has asked, what became of it) of each EXTENDED_SIZE
        try:
            self._shake_hands(password)
        except BaseException:
            self.socket.close()
            raise
        self.say(struct.pack(">BxH%di" % len(encodings), 2, len(encodings), *encodings))
        self.ask(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Refused("the server is gone")

    def read(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.socket.recv(n - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                raise Refused("the server is gone")
            data += more
        return data

    def _number(self, form):
        return struct.unpack(">" + form, self.read(struct.calcsize(form)))[0]

    def _shake_hands(self, password):
        self.read(12)
        self.say(b"RFB 003.008\n")
        kinds = self.read(self._number("B"))
        want = 1 if password is None else 2
        if want not in kinds:
            raise Refused("it offers %s" % list(kinds))
        self.say(bytes([want]))
        if want == 2:
            self.say(answer(password, self.read(16)))
        if self._number("I"):
            raise Refused(self.read(self._number("I")).decode())
        self.say(b"\1")
        self._resize(*struct.unpack(">HH", self.read(4)))
        self.read(16)
        self.name = self.read(self._number("I")).decode()

    def _resize(self, width, height):
        self.width, self.height = width, height
        self.pixels = [0] * (width * height)

    def ask(self, incremental=True):
        self.say(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def _take(self, x, y, width, values):
        for row, i in enumerate(range(0, len(values), width)):
            at = (y + row) * self.width + x
            self.pixels[at:at + width] = values[i:i + width]

    def _raw(self, width, height):
        return [v & 0xffffff for v in struct.unpack("<%dI" % (width * height), self.read(width * height * 4))]

    def _zrle(self, width, height):
        data = self.inflate.decompress(self.read(self._number("I")))
        kind, n = data[0], width * height

        def three(at, count):
            return [int.from_bytes(data[i:i + 3], "little") for i in range(at, at + count * 3, 3)]
        if kind == 0:
            return three(1, n)
        palette = three(1, kind)
        if kind == 1:
            return palette * n
        each = 1 if kind == 2 else 2 if kind <= 4 else 4
        pitch, at, values = (width * each + 7) // 8, 1 + kind * 3, []
        for y in range(height):
            row = int.from_bytes(data[at + y * pitch:at + (y + 1) * pitch], "big")
            values += [palette[row >> (pitch * 8 - (x + 1) * each) & ((1 << each) - 1)] for x in range(width)]
        return values

    def look(self):
        """One update, and asks for the next."""
        while kind := self._number("B"):
            raise Refused("a message of type %d" % kind)
        self.read(1)
        for _ in range(self._number("H")):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
            if encoding == DESKTOP_SIZE:
                self._resize(width, height)
            elif encoding == EXTENDED_SIZE:
                self.read(16 * self.read(4)[0])
                self.sizes.append((x, y))
                if (width, height) != (self.width, self.height):
                    self._resize(width, height)
            elif encoding == RAW:
                self._take(x, y, width, self._raw(width, height))
            elif encoding == ZRLE:
                self._take(x, y, width, self._zrle(width, height))
            elif encoding != QEMU_KEYS:
                raise Refused("an encoding %d" % encoding)
        self.updates += 1
        self.ask()

    def key(self, symbol, down):
        self.say(struct.pack(">BBHI", 4, down, 0, symbol))

    def type(self, text):
        for c in text:
            symbol = RETURN if c == "\n" else ord(c)
            shift = c in SHIFTED
            if shift:
                self.key(SHIFT, True)
            self.key(symbol, True)
            self.key(symbol, False)
            if shift:
                self.key(SHIFT, False)

    def code(self, number, down):
        """A key by its number: QEMU's extension."""
        self.say(struct.pack(">BBHII", 255, 0, down, 0, number))

    def point(self, x, y, buttons=0):
        self.say(struct.pack(">BBHH", 5, buttons, x, y))


    def resize(self, width, height):
        """Asks for a screen of that size."""
        self.say(struct.pack(">BxHHBxIHHHHI", 251, width, height, 1, 0, 0, 0, width, height, 0))


# -- Letters on a console: known by a list of them that the guest draws first, so no font is needed here.

LETTERS = [chr(c) for c in range(32, 127)]
LIST_LETTERS = ("exec 3<>/dev/tty1; printf '\\033[?25l\\033[0;37;40m\\033[2J\\033[H' >&3; for i in $(seq 32 126); do "
                "printf \"\\\\$(printf %o $i)\" >&3; done; echo >&3; echo listed $((1 + 1))\n")


def size_and_pixels(picture):
    return picture if isinstance(picture, tuple) else (picture.width, picture.height, picture.pixels)


def cell(pixels, width, column, row):
    at = row * 16 * width + column * 8
    return tuple(p for y in range(16) for p in pixels[at + y * width:at + y * width + 8])


def read_font(picture):
    """Of a viewer, or of what read_png() has returned."""
    width, _, pixels = size_and_pixels(picture)
    return {cell(pixels, width, i, 0): c for i, c in enumerate(LETTERS)}


def read_screen(picture, font):
    width, height, pixels = size_and_pixels(picture)
    return "\n".join("".join(font.get(cell(pixels, width, c, r), "?") for c in range(width // 8)).rstrip()
                     for r in range(height // 16)).strip()


def read_png(path):
    """Width, height, pixels."""
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(data):
        n, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + n]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, at + 8 + n)[0]
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            assert rest == [8, 2, 0, 0, 0]
        packed += body if kind == b"IDAT" else b""
        at += 12 + n
    rows, before, pixels = zlib.decompress(packed), bytearray(width * 3), []
    for y in range(height):
        row = rows[y * (width * 3 + 1):(y + 1) * (width * 3 + 1)]
        assert row[0] == 2
        before = bytes((a + b) & 255 for a, b in zip(row[1:], before))
        pixels += [int.from_bytes(before[i:i + 3], "big") for i in range(0, width * 3, 3)]
    return width, height, pixels
