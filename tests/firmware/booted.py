# SPDX-License-Identifier: MIT
"""Guests that firmware boots from a disk: what the tests of this directory share."""
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from tap import GUEST, LODGE, TOP, WARNINGS, Guest, need_lodge, ok, skip_all  # noqa: E402

WORK = tempfile.TemporaryDirectory()
ENV = {**os.environ, "XDG_RUNTIME_DIR": WORK.name}
LINE = "console=ttyS0 quiet panic=-1 "
LOOK = ("cat /sys/class/dmi/id/sys_vendor; " + WARNINGS + "; nproc; grep MemTotal /proc/meminfo; "
        "head -c 1048576 /dev/vda >/dev/null && echo disk; grep -c . /proc/iomem")


def path(name):
    return os.path.join(WORK.name, name)


def disk(name, more="", efi=False, kernel="cloud"):
    """One that boots, to a shell on its console."""
    subprocess.run([TOP + "/tools/guest/grub", *(["--efi"] if efi else []), path(name), GUEST + "/%s/vmlinuz" % kernel, GUEST + "/%s/initrd" % kernel,
                    *(LINE + more).split()], check=True, stdout=subprocess.DEVNULL)
    return path(name)


def boot(image, *options, **more):
    return Guest(instead=("run", image), options=("--engine", "soft", *options), env=ENV, **more)


def from_usb(firmware, name, image):
    """Firmware, boot loader and kernel read the same disk at USB, each with its own driver."""
    g = Guest(instead=("run",), options=("--engine", "soft", "--firmware", firmware, "--disk", image + ",bus=usb"), env=ENV)
    got = ask(g, "until [ -b /dev/sda ]; do sleep 0.1; done; head -c 1048576 /dev/sda | md5sum")
    with open(image, "rb") as f:
        want = hashlib.md5(f.read(1 << 20)).hexdigest()
    ok(got == [want + "  -"], name + ", GRUB, Linux, from a USB disk", g.story())


def run(*words):
    return subprocess.run([LODGE, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, env=ENV)


def ask(g, command):
    """What it prints, at the guest's shell; which then switches the guest off."""
    g.wait("lodge:~#")
    g.send("echo be''gin; %s; echo e''nd; poweroff -f\n" % command)
    g.finish()
    m = re.search(r"^begin\n(.*)^end$", g.out, re.M | re.S)
    return m[1].splitlines() if m else []


def is_there(g, name):
    """Returns when it has begun: it is not there at once, for its network comes first."""
    while g.proc.poll() is None and '"running"' not in run("info", name, "-o", "json").stdout:
        time.sleep(0.01)


def shell_answers(g, name):
    g.send("echo is-$((6*7))\n")
    return ok(g.wait("is-42"), name, g.console()[-600:])


def refused(name, words, *command):
    r = run("run", "--engine", "soft", *command)
    said = [line for line in r.stderr.splitlines() if not line.startswith("lodge: engine: ")]
    ok(r.returncode and len(said) == 1 and words in r.stderr, name, r.stderr)


def main(tests):
    """Those whose names were given, or all."""
    tests = {n[5:]: f for n, f in tests.items() if n.startswith("test_")}
    need_lodge()
    if not os.path.exists(GUEST + "/cloud/vmlinuz"):
        skip_all("there is no guest: tools/guest/fetch cloud")
    for each in sys.argv[1:] or tests:
        tests[each]()
