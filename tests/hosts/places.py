# SPDX-License-Identifier: MIT
"""Places to start lodge in: here, in a container, in a guest.

    place = Container("runc", filtered=True)
    result = place.boot("grep Seccomp: /proc/self/status")

boot() goes there, runs the shell command `proof`, whose output shows that the place is what it
is said to be, and then `lodge run` with Debian's cloud kernel and a guest that says its uname.
Nothing of a place is left when boot() returns: no mount, no cgroup, no process, no file.
"""
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time

import progress
from container import container
from tap import GUEST, LODGE, TOP

SAYS = "echo innermost: $(uname -sr)"
APPEND = 'console=ttyS0 quiet panic=-1 lodge.run="%s"' % SAYS
KERNEL, INITRD = GUEST + "/cloud/vmlinuz", GUEST + "/cloud/initrd"


def lodge(path=LODGE, kernel=KERNEL, initrd=INITRD, append=APPEND, memory="256M", options=()):
    return [path, "run", "--kernel", kernel, "--initrd", initrd, "--append", append,
            "--memory", memory, *options]


def script(proof, command):
    """Runs proof, marks the end of what it printed, and becomes lodge."""
    return "{ %s; } 2>&1; echo; echo proven; exec %s" % (proof, shlex.join(command))


class Result:
    """What came of it. `proof`: what the proof printed, None if that was never run; `booted`: seconds
    from lodge's start until its guest spoke, or None; `sentence`: what lodge said instead."""

    def __init__(self, lines, code):
        text = "".join(line for _, line in lines)
        self.story = "exit code %s\n%s" % (code, text[-4000:])
        self.proof = self.booted = self.sentence = None
        self.why_not = (text.strip() or "exit code %s" % code).splitlines()[-1]
        start = next((i for i, (_, line) in enumerate(lines) if line == "proven\n"), None)
        if start is None:
            return
        self.proof = "".join(line for _, line in lines[:start])
        for when, line in lines[start:]:
            if re.match(r"innermost: Linux \d", line) and not code:
                self.booted = when - lines[start][0]
            if m := re.match(r"lodge: (?!engine: |warning: )(.*)", line):
                self.sentence = m[1]


def run(command, **more):
    lines = []
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace", **more)

    def read():
        for line in p.stdout:
            lines.append((time.monotonic(), line.replace("\r", "")))

    reader = threading.Thread(target=read)
    reader.start()
    stuck = progress.Watch(p.pid, cpu=3000).wait(p, lambda: len(lines))
    reader.join()
    return Result(lines, stuck or p.returncode)


class Here:
    """This machine, by way of a command that forbids something and then executes the rest, or of
    a function that is called before."""

    def __init__(self, *prefix, before=None, **options):
        self.prefix, self.before, self.options = prefix, before, options

    def boot(self, proof):
        command = script(proof, lodge(**self.options))
        return run([*self.prefix, "sh", "-c", command], preexec_fn=self.before)


class Container:
    """See container.py."""

    def __init__(self, runtime, **options):
        self.runtime, self.options = runtime, options

    def boot(self, proof):
        if not shutil.which(self.runtime):
            return Result([(0, "there is no %s\n" % self.runtime)], 127)
        with container(self.runtime, **self.options) as made:
            return run(made(["sh", "-c", script(proof, lodge())]))


class Nested:
    """A guest. `outer` takes kernel, initrd and command line, and returns the command. Before the
    proof the guest runs `first`."""

    def __init__(self, outer, append="", first=":"):
        self.outer, self.append, self.first = outer, append, first

    def boot(self, proof):
        with tempfile.TemporaryDirectory(prefix="lodge-hosts.") as work:
            inner = lodge("/tests/lodge", "/tests/vmlinuz", "/tests/initrd")
            with open(work + "/inner", "w") as f:
                f.write("#!/bin/sh\n%s\n%s\n" % (self.first, script(proof, inner)))
            os.chmod(work + "/inner", 0o755)
            shutil.copy(INITRD, work + "/initrd")
            add = [work + "/inner=/tests/inner", LODGE + "=/tests/lodge",
                   KERNEL + "=/tests/vmlinuz", INITRD + "=/tests/initrd"]
            libraries = subprocess.run(["ldd", LODGE], stdout=subprocess.PIPE, text=True).stdout
            add += ["%s=%s" % (p, p) for p in re.findall(r"(/\S+) \(0x", libraries)]
            subprocess.run([TOP + "/tools/guest/initrd", "--add", work + "/initrd", *add],
                           check=True)
            line = "console=ttyS0 quiet panic=-1 lodge.test=inner " + self.append
            return run(self.outer(KERNEL, work + "/initrd", line))


def in_lodge(*options):
    return lambda kernel, initrd, line: lodge(
        kernel=kernel, initrd=initrd, append=line, memory="1G", options=options)


QEMU = ["qemu-system-x86_64", "-m", "1G", "-nodefaults", "-nographic", "-no-reboot", "-serial",
        "stdio"]


def in_qemu(*options, env=()):
    return lambda kernel, initrd, line: [
        "env", *env, *QEMU, *options, "-kernel", kernel, "-initrd", initrd, "-append", line]
