# SPDX-License-Identifier: MIT
"""Tests of the whole, in Python: TAP on stdout, and guests run by lodge.

    from tap import ok, is_eq, skip, done, Guest

    out = Guest(run="nproc", cpus=2).finish()
    is_eq(out.value, "2\\n", "two CPUs")
    done()

$LODGE names the program (build/gcc/prog/lodge/lodge if unset), and may be tools/guest/qemu.
$LODGE_GUEST names the directory of kernels. Paths, for tests: TOP, GUEST, LODGE.
"""
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time

import progress

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GUEST = os.environ.get("LODGE_GUEST", TOP + "/build/guest")
LODGE = os.path.abspath(os.environ.get("LODGE", TOP + "/build/gcc/prog/lodge/lodge"))
IS_QEMU = LODGE.endswith("/qemu")
# In a guest: what its kernel warns of, but for what comes of a host that is busy.
BUSY = "(hrtimer|perf): interrupt took"
WARNINGS = "dmesg -r | grep '^<[0-4]>' | grep -vE '%s'" % BUSY

_run = _failed = 0


def ok(good, name, detail=""):
    global _run, _failed
    _run += 1
    _failed += not good
    print("%sok %d - %s" % ("" if good else "not ", _run, name.replace("#", " ")))
    if not good and detail:
        for line in str(detail).splitlines()[-40:]:
            print("#   " + line)
    sys.stdout.flush()
    return bool(good)


def is_eq(got, want, name):
    return ok(got == want, name, "got:  %r\nwant: %r" % (got, want))


def skip(reason):
    global _run
    _run += 1
    print("ok %d # SKIP %s" % (_run, reason), flush=True)


def skip_all(reason):
    print("1..0 # SKIP " + reason)
    sys.exit(0)


def done():
    print("1..%d" % _run)
    sys.exit(1 if _failed else 0)


def need_lodge():
    if not os.access(LODGE, os.X_OK):
        skip_all("there is no " + LODGE)


def why_not_32bit(program):
    """Why a 32-bit program is none to compare with here, or None. Asks the host, by running it."""
    if not os.access(program, os.X_OK):
        return "no %s: this compiler cannot link one" % os.path.basename(program)
    try:
        subprocess.run([program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return "%s: this host cannot run 32-bit code" % os.path.basename(program)
    return None


def take_terminal():
    """In the child: its standard input is the terminal of a session of its own."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Guest:
    """A guest that runs `run` (or whatever its console is told), and powers off. A reset ends it,
    too, unless it `reboots`. With `instead`, words of lodge's, it is
    not run but comes by these: ("restore", file).

    While it runs: wait(text), send(text). After finish(): .code, .out (the console), .err
    (stderr), .value (what `run` printed), .status (its exit status, None if it never ended).
    With `terminal` its console is one, as at a shell. Neither has a time limit; both end when the guest does not get on (progress.py).
    """

    def __init__(self, run=None, kernel="cloud", cpus=1, memory="512M", disks=(), append="",
                 initrd=None, options=(), root=None, reboots=False, stdin=subprocess.PIPE,
                 terminal=False, instead=(), **more):
        line = "console=ttyS0 quiet panic=-1 " + append
        if root:
            line += " lodge.root=" + root
        if run:
            line += ' lodge.run="%s"' % run
        self.command = [LODGE, "run", "--kernel", "%s/%s/vmlinuz" % (GUEST, kernel),
                        "--initrd", initrd or "%s/%s/initrd" % (GUEST, kernel),
                        "--append", line, "--cpus", str(cpus), "--memory", memory, *options]
        if instead:
            self.command = [LODGE, *instead, *options]
        if not reboots:
            self.command.append("--no-reboot")
        for disk in disks:
            self.command += ["--disk", disk]
        self.out = ""
        self._bytes = bytearray()
        self.arrived = []  # (time, bytes so far)
        self._more = threading.Condition()
        self._err = bytearray()
        self.start = time.monotonic()
        stdout, slave = subprocess.PIPE, None
        if terminal:
            self._console, slave = pty.openpty()
            stdin = stdout = slave
            more["preexec_fn"] = take_terminal
        self.proc = subprocess.Popen(self.command, stdin=stdin, stdout=stdout,
                                     stderr=subprocess.PIPE, **more)
        if terminal:
            os.close(slave)
        else:
            self._console = self.proc.stdout.fileno()
        self._threads = [threading.Thread(target=self._read_out, daemon=True),
                         threading.Thread(target=self._read_err, daemon=True)]
        for t in self._threads:
            t.start()

    def _read_out(self):
        while data := self._read_console():
            with self._more:
                self._bytes += data
                self.arrived.append((time.monotonic(), len(self._bytes)))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def _read_console(self):
        try:
            return os.read(self._console, 65536)
        except OSError:  # a terminal whose other end is closed
            return b""

    def _read_err(self):
        while data := os.read(self.proc.stderr.fileno(), 65536):
            self._err += data

    def console(self):
        with self._more:
            return self._bytes.decode(errors="replace").replace("\r", "")

    def notices(self):
        return self._err.decode(errors="replace")

    def wait(self, pattern, times=1):
        """The time at which the console had shown `pattern` so often; None if it never does."""
        watch = self._watch()
        while True:
            found = [m.end() for m in re.finditer(pattern.encode(), bytes(self._bytes))]
            if len(found) >= times:
                return next(t for t, n in self.arrived if n >= found[times - 1])
            if self.proc.poll() is not None and not self._threads[0].is_alive():
                return None
            if watch.stuck(len(self._bytes)):
                return None
            with self._more:
                self._more.wait(0.5)

    def _watch(self):
        return progress.Watch(self.proc.pid, cpu=200, idle=60)

    def send(self, text):
        if not self.proc.stdin:
            os.write(self._console, text.encode())
            return
        self.proc.stdin.write(text.encode())
        self.proc.stdin.flush()

    def stop(self):
        """Ends it from outside."""
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        return self.finish()

    def finish(self):
        self.stuck = self._watch().wait(self.proc, lambda: len(self._bytes))
        for t in self._threads:
            t.join(5)
        if self.proc.stdin:
            try:
                self.proc.stdin.close()
            except BrokenPipeError:
                pass
        self.code = self.proc.returncode
        self.out = self.console()
        self.err = self.notices()
        m = re.search(r"^.*Lodge guest: Linux.*?$\n(.*?)^Lodge guest: exit (\d+)$", self.out,
                      re.M | re.S)
        self.value = m[1] if m else None
        self.status = int(m[2]) if m else None
        return self

    def story(self):
        """For a failure's remark: what was run, and how it went."""
        return "\n".join([" ".join(self.command), "exit code %s%s" % (
            self.code, ", was killed: " + self.stuck if self.stuck else ""),
            *self.err.splitlines()[-10:], *self.out.splitlines()[-25:]])

    def cpu_seconds(self):
        """What the process has used so far."""
        with open("/proc/%d/stat" % self.proc.pid) as f:
            part = f.read().rsplit(")", 1)[1].split()
        return (int(part[11]) + int(part[12])) / os.sysconf("SC_CLK_TCK")
