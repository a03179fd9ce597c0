# SPDX-License-Identifier: MIT
"""What query-qmp-schema says, of Lodge or of QEMU: whether a value is what a type says, and whether one schema is a part of another."""

BUILTIN = {
    "string": lambda v: isinstance(v, str), "boolean": lambda v: isinstance(v, bool), "null": lambda v: v is None,
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool), "value": lambda v: True,
}


class Schema:
    def __init__(self, entries):
        self.entries = {e["name"]: e for e in entries}
        self.twice = len(entries) - len(self.entries)

    def __getitem__(self, name):
        return self.entries[name]

    def kind(self, kind):
        return [e["name"] for e in self.entries.values() if e["meta-type"] == kind]

    def members(self, entry, value):
        """Those of an object that has this value: its variant's, too."""
        every = list(entry["members"])
        for v in entry.get("variants", ()):
            if v["case"] == value.get(entry["tag"]):
                every += self[v["type"]]["members"]
        return every

    def wrong(self, name, value, at="", more=False):
        """What is wrong with it, as a list of sentences. With `more` an object may have members that the type has not."""
        e = self[name]
        meta = e["meta-type"]
        if meta == "builtin":
            return [] if BUILTIN[e["json-type"]](value) else ["%s is %r, no %s" % (at, value, name)]
        if meta == "enum":
            words = e.get("values") or [m["name"] for m in e["members"]]
            return [] if value in words else ["%s is %r, no %s" % (at, value, name)]
        if meta == "array":
            if not isinstance(value, list):
                return ["%s is no array" % at]
            return [w for i, v in enumerate(value) for w in self.wrong(e["element-type"], v, "%s[%d]" % (at, i), more)]
        if not isinstance(value, dict):
            return ["%s is no object" % at]
        members = {m["name"]: m for m in self.members(e, value)}
        sentences = ["%s.%s is missing" % (at, n) for n, m in members.items() if "default" not in m and n not in value]
        for key, v in value.items():
            if key in members:
                sentences += self.wrong(members[key]["type"], v, "%s.%s" % (at, key), more)
            elif not more:
                sentences.append("%s.%s is none of its members" % (at, key))
        return sentences

    def lacks(self):
        """Names that entries use, and that no entry has."""
        used = set()
        for e in self.entries.values():
            used |= {e[k] for k in ("arg-type", "ret-type", "element-type") if k in e}
            used |= {m["type"] for m in e.get("members", ()) if "type" in m} | {v["type"] for v in e.get("variants", ())}
        return used - set(self.entries)

    def beyond(self, other, mine, theirs, seen=()):
        """What a value of our type `mine` may have that is none of the other's `theirs`."""
        a, b = self[mine], other[theirs]
        if (mine, theirs) in seen or b.get("json-type") == "value":
            return []
        if b["meta-type"] == "alternate": # one of several types
            return min((self.beyond(other, mine, m["type"], seen + ((mine, theirs),)) for m in b["members"]), key=len)
        if a["meta-type"] != b["meta-type"]:
            return ["%s is %s, theirs %s" % (mine, a["meta-type"], b["meta-type"])]
        if a["meta-type"] == "builtin":
            return [] if a["json-type"] == b["json-type"] else ["%s is not %s" % (mine, theirs)]
        if a["meta-type"] == "enum":
            return ["%s of %s" % (w, mine) for w in a["values"] if w not in b["values"]]
        seen += ((mine, theirs),)
        if a["meta-type"] == "array":
            return self.beyond(other, a["element-type"], b["element-type"], seen)
        members = {m["name"]: m for m in b["members"]}
        found = []
        for m in a["members"]:
            if m["name"] not in members:
                found.append("member %s of %s" % (m["name"], mine))
            else:
                found += self.beyond(other, m["type"], members[m["name"]]["type"], seen)
        cases = {v["case"]: v["type"] for v in b.get("variants", ())}
        for v in a.get("variants", ()):
            found += self.beyond(other, v["type"], cases[v["case"]], seen) if v["case"] in cases else ["case " + v["case"]]
        return found
