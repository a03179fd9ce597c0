#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whether a process gets on, whatever the speed of the host.

    tests/progress.py PID FILE     waits until it has ended; says so, with 1, if it does not get on;
                                   FILE is where its output goes

A time limit judges the day and the machine: tests that were right broke theirs when other jobs ran.
So no test has one. A process is stuck if, since its last output, it and its descendants

    used so many seconds of CPU time         they go round in circles
    had nothing to do at so many looks       they wait for something that will not come

They have something to do if a thread of theirs runs, or waits for a core or a disk. There is a look
a second. One that finds work takes back ten that found none, and not all: a guest that sleeps for
ever is at work at one in a hundred, as its clock ticks. Looks are counted and not time, so that a
host that stands still for a while stops this watch, too."""
import collections
import os
import signal
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")

Task = collections.namedtuple("Task", "state parent ticks")


def read_task(path):
    """A process, or a thread of one; None if it has ended."""
    try:
        with open(path + "/stat", "rb") as f:
            word = f.read().rsplit(b")", 1)[1].split()
    except OSError:
        return None
    # the CPU time with that of children that were waited for
    return None if word[0] == b"Z" else Task(word[0], int(word[1]), sum(map(int, word[11:15])))


def family(root):
    """{number: Task} of a process and its descendants."""
    all_of_them = {int(n): t for n in os.listdir("/proc") if n.isdigit()
                   if (t := read_task("/proc/" + n))}
    found, more = set(), {root}
    while more:
        found |= more
        more = {n for n, t in all_of_them.items() if t.parent in more}
    return {n: all_of_them[n] for n in found if n in all_of_them}


def is_at_work(pid):
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return False
    return any((t := read_task("/proc/%d/task/%s" % (pid, n))) and t.state in (b"R", b"D")
               for n in threads)


def kill(root):
    for pid in family(root):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Watch:
    """Of one process. stuck() may be asked at any time; it looks once a second."""

    def __init__(self, pid, cpu=300, idle=120):
        self.pid, self.cpu, self.idle = pid, cpu, idle
        self.said, self.since, self.looks = None, 0, 0
        self.next = time.monotonic() + 1

    def stuck(self, said):
        """Why it is, or None. `said` is its output, or how long that is."""
        if time.monotonic() < self.next:
            return None
        self.next = time.monotonic() + 1
        alive = family(self.pid)
        used = sum(t.ticks for t in alive.values()) / TICKS
        if said != self.said:
            self.said, self.since, self.looks = said, used, 0
        self.since = min(self.since, used)  # who leaves the family takes its time along
        self.looks = max(0, self.looks - 10) if any(map(is_at_work, alive)) else self.looks + 1
        if used - self.since >= self.cpu:
            return "no output for %d s of CPU time" % self.cpu
        if self.looks >= self.idle:
            return "no output and nothing to do for %d s" % self.idle
        return None

    def wait(self, proc, said):
        """Until a subprocess has ended: None. One that is stuck is killed: why it was."""
        while True:
            try:
                proc.wait(1)
                return None
            except subprocess.TimeoutExpired:
                if why := self.stuck(said()):
                    kill(self.pid)
                    proc.wait()
                    return why


def main():
    pid, path = int(sys.argv[1]), sys.argv[2]
    watch = Watch(pid)
    while read_task("/proc/%d" % pid):
        if why := watch.stuck(os.path.getsize(path)):
            print(why)
            return 1
        time.sleep(0.2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
