# SPDX-License-Identifier: MIT
"""What the tests share that install a Debian: a mirror at the other side of NAT, and root's shell in what came of it."""
import http.server
import os
import threading
import urllib.error
import urllib.request

from tap import GUEST, is_eq, ok

KEPT = GUEST + "/mirror"
SOURCE = "http://deb.debian.org"


class Mirror(http.server.BaseHTTPRequestHandler):
    """Has of Debian's what it is asked for, and keeps it: a package is fetched once, by whoever asks first, and a list again each time, as it changes. Where
    there is no network it has what it kept. Two that ask for a file at once fetch it twice, which does no harm."""
    own = {}  # what it has beside that: {path: content}

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path in self.own:
            return self.say(self.own[self.path])
        name = os.path.normpath(self.path)
        kept = KEPT + "/" + name.strip("/").replace("/", "%2f")
        if "/dists/" in name or not os.path.exists(kept):
            try:
                part = kept + ".%d" % threading.get_ident()
                with urllib.request.urlopen(SOURCE + name) as r, open(part, "wb") as f:
                    f.write(r.read())
                os.rename(part, kept)
            except urllib.error.URLError as e:
                if not os.path.exists(kept):
                    return self.send_error(getattr(e, "code", 502))
        with open(kept, "rb") as f:
            self.say(f.read())

    def say(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def serve(own):
    os.makedirs(KEPT, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Mirror", (Mirror,), {"own": own}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class Shell:
    """Root's, on a console."""

    def __init__(self, g, name, prompt, password=None):
        self.g, self.n = g, 0
        if ok(g.wait("login: "), name + " boots to its login", g.console()[-1500:]):
            g.send("root\n")
            if password:
                g.wait("Password: ")
                g.send(password + "\n")
            g.wait(prompt)

    def run(self, command):
        """Its exit code, and what it printed."""
        self.n += 1
        self.g.send("echo be''gin %d; %s; echo e''nd %d $?\n" % (self.n, command, self.n))
        self.g.wait(r"end %d \d+\r?\n" % self.n)
        said = self.g.console().split("begin %d\n" % self.n)[-1].split("end %d " % self.n)
        return int(said[1].split()[0]), said[0].splitlines()

    def off(self, name):
        self.g.send("poweroff\n")
        self.g.finish()
        is_eq(self.g.code, 0, name + " switches off")
