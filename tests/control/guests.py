# SPDX-License-Identifier: MIT
"""Guests of a few bytes (tests/tiny.py), started, asked and ended: what the tests of this directory share."""
import array
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tap import LODGE, ok  # noqa: E402
from tiny import HALT, POWER_OFF, elf, say  # noqa: E402

# Whoever is started has the default, also where we are in a shell's background, or under nohup.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, lambda *_: None)

WORK = tempfile.TemporaryDirectory()
PLACE = WORK.name + "/lodge"
ENV = {**os.environ, "XDG_RUNTIME_DIR": WORK.name}


def path(name, data=b""):
    p = os.path.join(WORK.name, name)
    with open(p, "wb") as f:
        f.write(data)
    return p


def qcow2(size):
    """An image with nothing in it: header, refcount table, a block of refcounts, L1 table."""
    header = b"QFI\xfb" + struct.pack(">IQIIQIIQQIIQQQQII", 3, 0, 0, 16, size, 0, 1, 3 << 16, 1 << 16, 1, 0, 0, 0, 0, 0, 4, 112)
    cluster = 1 << 16
    return b"".join(b.ljust(cluster, b"\0") for b in (header, struct.pack(">Q", 2 << 16), struct.pack(">HHHH", 1, 1, 1, 1), b""))


SEND = b"\xba\xfd\x03\0\0\x88\xc4\xec\xa8\x20\x74\xfb\x88\xe0\xba\xf8\x03\0\0\xee"  # al, when it can be
COUNT = b"\xb0\x30" + SEND + b"\xfe\xc0\x3c\x3a\x75\xe6\xeb\xe2"  # 0123456789012..., for ever
CAT = (b"\xba\xfd\x03\0\0\xec\xa8\x01\x74\xf6"           # until 'q': wait for a byte,
       b"\xba\xf8\x03\0\0\xec\x3c\x71\x74\x03\xee\xeb\xe9")  # and send it back
BUTTON = b"\xba\0\x06\0\0\x66\xed\xf6\xc4\x01\x74\xf9"      # until the power button was pressed

HELLO = path("hello", elf(say(b"hello\n") + POWER_OFF + HALT))
SLEEP = path("sleep", elf(say(b"zzz\n") + HALT))
COUNTS = path("counts", elf(COUNT))
ECHO = path("echo", elf(say(b"ready\n") + CAT + POWER_OFF + HALT))
OBEYS = path("obeys", elf(say(b"zzz\n") + BUTTON + say(b"good night\n") + POWER_OFF + HALT))


def run(*words, stdin=subprocess.DEVNULL, env=ENV, **more):
    return subprocess.run([LODGE, *words], stdin=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=env, text=True, **more)


def refused(name, code, words, *command, **more):
    r = run(*command, **more)
    lines = [line for line in r.stderr.splitlines() if not line.startswith("lodge: engine: ")]
    return ok(r.returncode == code and len(lines) == 1 and words in r.stderr and not r.stdout
              and lines[0].startswith("lodge: "), "%s: exit %d, one sentence" % (name, code),
              "%s\nexit %d, want %d; want the words '%s'" % (r.stderr, r.returncode, code, words))


def fine(name, *command, **more):
    r = run(*command, **more)
    ok((r.returncode, r.stderr) == (0, ""), name, r)
    return r.stdout


def launch(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **more):
    return subprocess.Popen([LODGE, *words], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
                            env=ENV, **more)


def start(kernel, *options, wait=b"zzz\n", **more):
    """A guest that has said so."""
    proc = launch("run", "--engine", "soft", "--memory", "64M", "--kernel", kernel, *options, **more)
    if wait:
        wait_for(proc.stdout, wait)
    return proc


def wait_for(stream, text):
    """What came until the text did, or the end."""
    got = b""
    while text not in got:
        data = os.read(stream.fileno(), 4096)
        if not data:
            break
        got += data
    return got


def end(proc):
    if proc.poll() is None:
        proc.kill()
    return [out.decode(errors="replace") if out else "" for out in proc.communicate()]


def info(vm):
    r = run("info", str(vm), "-o", "json")
    return json.loads(r.stdout) if r.returncode == 0 else {}


# -- The socket -----------------------------------------------------------------------------------


class Client:
    """One connection of QMP, by hand: so that a test can say what no client would."""

    def __init__(self, pid, negotiates=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect("%s/%d.sock" % (PLACE, pid))
        self.rest, self.events, self.files = b"", [], []
        if negotiates:
            self.greeting = self.line()
            self.ask("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        for fd in self.files:
            os.close(fd)

    def send(self, data, *files):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else [])

    def line(self):
        """What is said next; None if the other side is gone."""
        while b"\n" not in self.rest:
            try:
                data, files, *_ = socket.recv_fds(self.socket, 65536, 300)
            except ConnectionResetError:  # it closed with something of ours unread
                data, files = b"", []
            self.files += files
            if not data:
                return None
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        if not line.endswith(b"\r"):
            raise ValueError("a line that ends in no CR: %r" % line)
        return json.loads(line)

    def answer(self):
        """The next line that is no event; those go to a list."""
        while (said := self.line()) and "event" in said:
            self.events.append(said)
        return said

    def event(self, name):
        """Waits for one, and forgets those before it."""
        while not any(e["event"] == name for e in self.events):
            said = self.line()
            if said is None:
                return None
            self.events.append(said)
        while (e := self.events.pop(0))["event"] != name:
            pass
        return e

    def error(self, data, *files):
        """(kind, sentence) of the error that comes of some bytes; (None, all) if none does."""
        self.send(data, *files)
        said = self.answer()
        e = said and said.get("error")
        return (e["x-lodge-kind"], e["desc"]) if e else (None, said)

    def ask(self, command, file=None, **arguments):
        """What it returns, or {"error": ...}; '_' of arguments is '-'. The file is "file" to the command."""
        if file is not None:
            self.send({"execute": "getfd", "arguments": {"fdname": "file"}}, file)
            self.answer()
            arguments["fd"] = "file"
        self.send({"execute": command, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}})
        said = self.answer()
        return said if said is None or "error" in said else said["return"]

    def fails(self, command, file=None, **arguments):
        """(kind, sentence) of the error that it must be."""
        said = self.ask(command, file, **arguments)
        return (said["error"]["x-lodge-kind"], said["error"]["desc"]) if "error" in said else (None, said)


# -- One that counts ------------------------------------------------------------------------------------


def counting(*options, out):
    with open(out, "wb") as f:
        return start(COUNTS, *options, wait=None, stdout=f)


def grows(name, by=2000):
    want = os.path.getsize(name) + by
    while os.path.getsize(name) < want:
        time.sleep(0.005)


def is_counting(*names):
    """The files together are 0123456789012..., with nothing lost or there twice."""
    text = b"".join(open(name, "rb").read() for name in names)
    return text == (b"0123456789" * (len(text) // 10 + 1))[:len(text)]
