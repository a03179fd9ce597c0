# SPDX-License-Identifier: MIT
"""lodge-img and qemu-img side by side, in a directory of their own: for the tests of lodge-img."""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tap import TOP, is_eq, ok, skip_all  # noqa: E402

IMG = os.path.abspath(os.environ.get("LODGE_IMG", TOP + "/build/gcc/prog/lodge-img/lodge-img"))
WORK = tempfile.TemporaryDirectory()
HAS_QEMU = bool(shutil.which("qemu-img") and shutil.which("qemu-io"))


def begin(needs_qemu=True):
    if not os.access(IMG, os.X_OK):
        skip_all("there is no " + IMG)
    if needs_qemu and not HAS_QEMU:
        skip_all("qemu-img, which lodge-img is compared with, is not installed")
    os.chdir(WORK.name)


def run(program, *words, **more):
    return subprocess.run([program, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors="surrogateescape", **more)


def ours(*words, **more):
    return run(IMG, *words, **more)


def qemu(*words):
    return run("qemu-img", *words)


def works(r, name):
    return ok(r.returncode == 0, name, "%s\nexit %d\n%s%s" % (" ".join(r.args), r.returncode, r.stdout, r.stderr))


def must(r):
    """What a test needs and is not about."""
    if r.returncode:
        raise SystemExit("Bail out! %s: %s" % (" ".join(r.args), r.stderr))
    return r


def refused(name, words, *command, code=1):
    """One sentence on stderr, nothing on stdout, and that exit code."""
    r = ours(*command)
    lines = r.stderr.splitlines()
    ok(r.returncode == code and len(lines) == 1 and lines[0].startswith("lodge-img: ") and words in lines[0]
       and not r.stdout, "%s: exit %d, one sentence" % (name, code),
       "%s\nexit %d, out %r\n%s\nwant: %s" % (" ".join(map(str, command)), r.returncode, r.stdout, r.stderr, words))


def document(r):
    return json.loads(r.stdout)


def same_disk(name, one, other, formats=("qcow2", "raw")):
    """Both tools say so."""
    q = qemu("compare", "-f", formats[0], "-F", formats[1], one, other)
    o = ours("compare", "--follow", "-f", formats[0], "-F", formats[1], one, other)
    ok(q.returncode == 0 and o.returncode == 0, name, "%s: %s%s%s%s" % (one, q.stdout, q.stderr, o.stdout, o.stderr))


def clean(name, image):
    q, o = qemu("check", "-f", "qcow2", image), ours("check", "-f", "qcow2", image)
    ok(q.returncode == 0 and o.returncode == 0, name, "%d %s%s%d %s%s" % (q.returncode, q.stdout, q.stderr, o.returncode, o.stdout,
                                                                       o.stderr))


def noise(path, size, seed=1):
    """Random bytes, zeros, and what can be compressed, in pieces of all lengths."""
    draw = random.Random(seed)
    data = b""
    while len(data) < size:
        n = draw.choice((512, 4096, 20000, 65536, 200000))
        kind = draw.randrange(3)
        data += draw.randbytes(n) if kind == 0 else bytes(n) if kind == 1 else b"some words %d " % n * (n // 16)
    with open(path, "wb") as f:
        f.write(data[:size])
    return path


def patch(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


def number(path, at, n):
    with open(path, "rb") as f:
        f.seek(at)
        return int.from_bytes(f.read(n), "big")


def big(value, n=8):
    return value.to_bytes(n, "big")


__all__ = ["IMG", "HAS_QEMU", "WORK", "begin", "big", "clean", "document", "is_eq", "must", "noise", "number", "ok", "ours",
           "patch", "qemu", "refused", "run", "same_disk", "works"]
