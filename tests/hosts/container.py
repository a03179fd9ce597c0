# SPDX-License-Identifier: MIT
"""Containers, made as engines make them: by an OCI runtime out of a bundle.

    with container("runc", uid=65534, caps=(), seccomp=True) as made:
        prefix = made(["lodge", "run", ...])       what to execute

crun is what podman has underneath, runsc is gVisor. A container here has the host's /usr and the
directories that lodge is called with, read-only, at their own places; so the same command works
inside and outside. The seccomp filter is the list of the container engines themselves (podman's
package brings it; docker's and containerd's are the same in what matters here), for the
capabilities that the container has. What the runtimes make outside of the container is in
a directory of ours, and they are told to delete it.
"""
import contextlib
import json
import os
import subprocess
import tempfile

from tap import GUEST, LODGE

SECCOMP = GUEST + "/seccomp.json"

# What docker and podman leave to a container.
CAPS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")


def seccomp(caps):
    """The engines' profile as the runtime wants it: rules for these capabilities, on x86-64."""
    with open(SECCOMP) as f:
        profile = json.load(f)

    def applies(rule):
        wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
        return ("amd64" in wanted.get("arches", ["amd64"])
                and all(c in caps for c in wanted.get("caps", ()))
                and not any(c in caps for c in unwanted.get("caps", ())))

    keys = ("names", "action", "args", "errnoRet")
    return {"defaultAction": profile["defaultAction"],
            "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{k: rule[k] for k in keys if rule.get(k) is not None}
                         for rule in profile["syscalls"] if applies(rule)]}


def bind(path):
    return {"destination": path, "source": os.path.realpath(path), "type": "bind",
            "options": ["bind", "ro", "nosuid", "nodev"]}


def tmpfs(path, *options):
    return {"destination": path, "source": "tmpfs", "type": "tmpfs",
            "options": ["nosuid", "mode=1777", *options]}


def config(args, root, uid=0, caps=CAPS, readonly=True, proc=True, filtered=False, limits=None):
    caps = ["CAP_" + c for c in caps]
    inner, outer = uid, os.geteuid()
    mounts = [tmpfs("/dev", "strictatime"), tmpfs("/dev/shm", "noexec", "size=64m"),
              tmpfs("/tmp", "noexec", "size=64m"),
              bind("/usr"), bind(os.path.dirname(LODGE)), bind(GUEST)]
    # a guest's files may be links to elsewhere
    mounts += [bind(os.path.realpath(GUEST + "/cloud"))]
    if proc:
        mounts.insert(0, {"destination": "/proc", "source": "proc", "type": "proc"})
    namespaces = ["pid", "network", "ipc", "uts", "mount"]
    linux = {"namespaces": [{"type": n} for n in namespaces], "resources": limits or {},
             "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"] if proc else [],
             "readonlyPaths": ["/proc/sys", "/proc/bus", "/proc/irq"] if proc else []}
    if outer:
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = [{"containerID": inner, "hostID": outer, "size": 1}]
        linux["gidMappings"] = [{"containerID": inner, "hostID": os.getegid(), "size": 1}]
    if filtered:
        linux["seccomp"] = seccomp(caps)
    sets = ("bounding", "effective", "permitted") if not uid else ("bounding",)
    return {"ociVersion": "1.0.2", "hostname": "box", "mounts": mounts, "linux": linux,
            "root": {"path": root, "readonly": readonly},
            "process": {"args": args, "cwd": "/", "user": {"uid": inner, "gid": inner},
                        "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": True,
                        "capabilities": {s: caps for s in sets}}}


@contextlib.contextmanager
def container(runtime, **options):
    with tempfile.TemporaryDirectory(prefix="lodge-hosts.") as bundle:
        root, name = bundle + "/root", "lodge-" + os.path.basename(bundle).split(".")[1]
        os.mkdir(root)
        for link in ("bin", "lib", "lib64", "sbin"):
            os.symlink("usr/" + link, root + "/" + link)
        for place in ("usr", "proc", "dev", "tmp"):
            os.mkdir(root + "/" + place)
        command = [runtime, "--root", bundle + "/state"]
        if runtime == "runsc":
            command += ["--network=none", "--ignore-cgroups"]

        def made(args):
            with open(bundle + "/config.json", "w") as f:
                json.dump(config(args, root, **options), f)
            return [*command, "run", "--bundle", bundle, name]

        os.chmod(bundle, 0o755)
        try:
            yield made
        finally:
            subprocess.run([*command, "delete", "--force", name], stderr=subprocess.DEVNULL)
