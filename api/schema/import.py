#!/usr/bin/env python3
"""Writes types.txt, resources.txt and gates.txt from the fact tables of one Kubernetes minor.

    api/schema/import.py 1.36 FACTS_DIRECTORY

The tables are derived from upstream's tree by a tool of its own (types.csv, fields.csv, enums.csv,
defaults.csv, resources.csv, ...); README.md beside this script explains the format written here.
Only what is on by default or used on the wire is kept (embedded structs are part of their embedder): adding a minor is
running this script and reviewing the diff. The script refuses facts that the format cannot say.
"""
import base64
import collections
import csv
import hashlib
import os
import re
import sys

KEEP = ("default", "wire")
# Wire layouts of types with a codec of their own; api/src/schema.rs knows them by name.
SPECIAL = {"Time", "MicroTime", "Duration", "Quantity", "IntOrString", "RawExtension", "FieldsV1", "JSON",
           "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"}
SCALARS = {"string": "string", "int32": "int32", "int64": "int64", "bool": "bool", "float64": "float",
           "bytes": "bytes", "any": "any"}
# What follows a type says when a field is written: see README.md.
MARKS = {"val-scalar-omitempty": "", "coll-omitempty": "", "time-omitzero": "",
         "val-scalar-emit": "!", "val-struct-emit": "!", "special-emit": "!", "coll-null": "!", "time-null": "!",
         "ptr-scalar": "?", "ptr-struct": "?", "ptr-time": "?", "ptr-special": "?",
         "ptr-scalar-null": "?!", "ptr-struct-null": "?!", "ptr-special-null": "?!"}

# Columns that the fact table lacks: upstream appends them to others, or makes them elsewhere.
MORE_COLUMNS = {
    ("storage", "CSIDriver"): ["TokenRequests|string||0", "RequiresRepublish|boolean||0", "Modes|string||0",
                               "Age|string||0"],
    ("apiregistration", "APIService"): ["Name|string|name|0", "Service|string||0", "Available|string||0",
                                        "Age|string||0"],
}


def table(name):
    with open(os.path.join(sys.argv[2], name + ".csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def fail(message):
    sys.exit("import.py: " + message)


def resource_list(row):
    """Marks Go's ResourceList, whose quantities have a default rule (thousandths) of their own."""
    return "@milli" if row["go_type"].endswith("ResourceList") else ""


class Types:
    def __init__(self):
        self.rows = {row["definition"]: row for row in table("types")}
        self.kept = {name for name, row in self.rows.items() if row["served"] in KEEP}
        self.fields = collections.defaultdict(list)
        for row in table("fields"):
            self.fields[row["definition"]].append(row)
        self.defaults = Defaults(self)
        self.enums = collections.defaultdict(list)
        for row in table("enums"):
            self.enums[row["alias"]].append(row["value"])

    def package(self, definition):
        return self.rows[definition]["go_package"]

    def ref(self, definition, package):
        row = self.rows[definition]
        if definition.endswith("runtime.Unknown"):
            return "RawExtension"
        name = definition.rsplit(".", 1)[1]
        if definition not in self.kept:
            fail(f"{definition} is used but not kept")
        return name if row["go_package"] == package else f"{row['go_package']}.{name}"

    def type_of(self, value, alias, package):
        for prefix, mark in (("array:", "[]"), ("map:", "{}")):
            if value.startswith(prefix):
                return mark + self.type_of(value[len(prefix):], alias, package)
        if value.startswith("ref:"):
            return self.ref(value[4:], package)
        if value in SPECIAL:
            return value
        if value not in SCALARS:
            fail(f"unknown value type {value}")
        named = "" if not alias else f"<{alias.removeprefix(package + '.')}>"
        return SCALARS[value] + named

    def line(self, row, package):
        words = [row["json"]]
        hops = [] if row["inlined_from"] in ("", "TypeMeta") else row["inlined_from"].split("/")
        tags = [hop.split(":")[0] for hop in hops] + [row["proto_tag"] or "-"]
        words.append(".".join(tags))
        text = self.type_of(row["value_type"], row["alias"], package)
        if row["value_type"] == "array:string" and row["proto_kind"].startswith("message:"):
            text = "[]string@" + row["alias"].removeprefix(package + ".")
        words.append(text + MARKS[row["presence"]])
        value, ssa = row["value_type"], row["ssa"]
        if row["key_alias"]:
            words.append("key=" + row["key_alias"].removeprefix(package + "."))
        if (row["definition"], row["json"]) in self.defaults.rounded:
            words.append("milli")
        if row["required"]:
            words.append("required")
        words += self.topology(row, value, ssa)
        if row["patch_strategy"] or row["patch_merge_key"]:
            merge = row["patch_strategy"] or "none"
            words.append(f"patch={merge}" + (f":{row['patch_merge_key']}" if row["patch_merge_key"] else ""))
        if row["default"]:
            words.append("default=" + row["default"])
        implied = row["presence"] in ("val-scalar-emit", "val-struct-emit") and row["openapi"] == "1"
        if bool(row["zero_default"]) != implied:
            words.append("zero" if row["zero_default"] else "nozero")
        if row["immutable"]:
            words.append("immutable")
        if row["feature_gate"]:
            words.append("gate=" + row["feature_gate"].replace(" ", "+"))
        if row["item_default"] or any(" " in word for word in words):
            fail(f"cannot say {row['definition']}.{row['json']}: {words}")
        return "  " + " ".join(words)

    def topology(self, row, value, ssa):
        if value.startswith("array:"):
            if ssa == "map":
                return ["map=" + row["list_map_keys"].replace(" ", ",")]
            return {"set": ["set"], "atomic": [], "": []}[ssa]
        if value.startswith("map:"):
            return ["atomic"] if ssa == "atomic" else []
        if value.startswith("ref:") and ssa:
            natural = self.rows[value[4:]]["ssa_struct"]
            if ssa != natural and natural:
                return [ssa]
        return []

    def emit(self, out):
        packages = collections.defaultdict(list)
        for definition in sorted(self.kept):
            row = self.rows[definition]
            if row["kind_of"] in ("object", "list", "struct") and not definition.endswith("runtime.Unknown"):
                packages[(row["go_package"], definition.rsplit(".", 1)[0])].append(definition)
        for (package, prefix), definitions in sorted(packages.items()):
            protos = {self.rows[d]["proto_message"].rsplit(".", 1)[0] for d in definitions} - {""}
            if len(protos) > 1:
                fail(f"{package} has several protobuf packages")
            out.write(f"\npackage {package} {prefix} {protos.pop() if protos else '-'}\n")
            self.emit_enums(out, package, definitions)
            for definition in definitions:
                self.emit_type(out, package, definition)

    def emit_enums(self, out, package, definitions):
        used = set()
        for definition in definitions:
            for row in self.fields[definition]:
                used |= {row["alias"], row["key_alias"]}
        for alias in sorted(used):
            if alias.startswith(package + ".") and self.enums[alias]:
                values = " ".join(value or '""' for value in self.enums[alias])
                out.write(f"enum {alias.removeprefix(package + '.')} {values}\n")

    def emit_type(self, out, package, definition):
        row = self.rows[definition]
        words = [row["kind_of"], definition.rsplit(".", 1)[1]]
        words += ["atomic"] if row["ssa_struct"] == "atomic" else []
        words += ["noproto"] if not row["proto_message"] else []
        if row["kind_of"] != "struct" and row["gvk"]:
            gvks = row["gvk"].split(";")
            words.append("group=" + ("*" if len(gvks) > 1 or gvks[0].startswith("*") else gvks[0].rsplit("/", 2)[0]))
        for union in filter(None, row["unions"].split(";")):
            words.append("union=" + union)
        out.write(" ".join(words) + "\n")
        for field in sorted(self.fields[definition], key=lambda field: int(field["order"] or 0)):
            if field["inlined_from"] == "TypeMeta" or field["json"] == "-":
                continue
            out.write(self.line(field, package) + "\n")
        for rule in self.defaults.rules.get("ref:" + definition, []):
            out.write("  ~ " + rule + "\n")


class Defaults:
    """Folds the rules, which the table expands per kind and path, into rules per type."""

    def __init__(self, types):
        self.types = types
        self.by_json = {d: {f["json"]: f for f in rows} for d, rows in types.fields.items()}
        instances = collections.defaultdict(list)
        # Fields whose quantities are rounded: those of the packages that have defaulting functions.
        self.rounded = set()
        kinds = collections.defaultdict(list)
        for row in table("defaults"):
            if row["definition"] in types.kept and types.rows[row["definition"]]["kind_of"] != "list":
                kinds[row["definition"]].append(row)
        for definition, rows in kinds.items():
            bases = collections.defaultdict(list)
            for row in rows:
                bases[row["base"]].append(self.say(row))
            for base, rules in bases.items():
                instances[self.at(definition, base)].append(rules)
        self.rules = {}
        for name, all_rules in instances.items():
            if any(rules != all_rules[0] for rules in all_rules):
                fail(f"the defaults of {name} depend on where it stands")
            self.rules[name] = all_rules[0]
        for definition, rows in kinds.items():
            found = list(self.expand("ref:" + definition, "$"))
            wanted = [(row["base"], self.say(row)) for row in rows]
            if found != wanted:
                odd = [pair for pair in zip(found + [None], wanted + [None]) if pair[0] != pair[1]][:1]
                fail(f"the defaults of {definition} cannot be folded: {odd or (len(found), len(wanted))}")

    def say(self, row):
        field = row["field"].removeprefix("@").removeprefix(".") or "."
        condition = row["condition"].replace(f"({row['field']})", "").replace("@.", "")
        return f"{field} = {row['value'].replace('@.', '')} if {condition}"

    def at(self, definition, path):
        name = "ref:" + definition
        for segment in path.split(".")[1:]:
            field, suffix = re.match(r"([^\[{]+)((?:\[\*\]|\{k\})*)$", segment).groups()
            row = self.by_json[name[4:]][field]
            name = row["value_type"]
            if resource_list(row):
                name += resource_list(row)
                self.rounded.add((row["definition"], field))
            for _ in re.findall(r"\[\*\]|\{k\}", suffix):
                name = name.split(":", 1)[1]
        return name

    def expand(self, name, path, above=()):
        """The rules below a type in upstream's order: a type's own first, then its fields'."""
        for rule in self.rules.get(name, []):
            yield (path, rule)
        if not name.startswith("ref:"):
            return
        for row in sorted(self.types.fields[name[4:]], key=lambda row: int(row["order"] or 0)):
            value, suffix = row["value_type"], ""
            if resource_list(row):
                yield from self.expand(value + resource_list(row), f"{path}.{row['json']}")
            while value.startswith(("array:", "map:")):
                suffix += "[*]" if value.startswith("array:") else "{k}"
                value = value.split(":", 1)[1]
            if value.startswith("ref:") and value not in above:
                yield from self.expand(value, f"{path}.{row['json']}{suffix}", (*above, name))


def resources(out):
    on = {(r["group"], r["version"], r["resource"]) for r in table("resource_controllers")
          if r["enabledByDefault"] == "true"}
    columns = collections.defaultdict(list)
    for row in table("printer_columns"):
        package, kind = row["internalKind"].split(".")
        columns[({"api": "", "nodeapi": "node.k8s.io", "metav1": "meta"}.get(package, package), kind)].append(row)
    for key, added in MORE_COLUMNS.items():
        columns[key] += [dict(zip(("name", "type", "format", "priority"), column.split("|"))) for column in added]
    labels = collections.defaultdict(list)
    for row in table("field_labels"):
        if not row["label"].startswith("metadata."):
            labels[(row["group"], row["version"], row["resource"])].append(row)
    rows = [r for r in table("subresources") if (r["group"], r["version"], r["resource"]) in on]
    hashes = {r["storage_version_hash"]: r for r in rows if r["storage_version_hash"]}
    for row in rows:
        gvr = (row["group"], row["version"], row["resource"])
        verbs = row["verbs"].replace(" ", ",")
        verbs = {"create,delete,deletecollection,get,list,patch,update,watch": "all",
                 "get,patch,update": "status"}.get(verbs, verbs)
        if row["subresource"]:
            words = ["  sub", row["subresource"], row["kind_gvk"].lstrip("/"), verbs]
            words += ["connect"] if row["connect_methods"] else []
            words += ["path"] if row["path_suffix"] else []
            out.write(" ".join(words) + "\n")
            continue
        words = ["\nresource", row["resource"], f"{row['group']}/{row['version']}".lstrip("/"),
                 row["kind_gvk"].rsplit("/", 1)[1], "namespaced" if row["namespaced"] == "1" else "cluster", verbs,
                 "singular=" + row["singular"]]
        words += ["short=" + row["short_names"].replace(" ", ",")] if row["short_names"] else []
        words += ["categories=" + row["categories"].replace(" ", ",")] if row["categories"] else []
        words += ["storage=" + storage_version(row, on)] if row["storage_version_hash"] else []
        out.write(" ".join(words) + "\n")
        kind = row["kind_gvk"].rsplit("/", 1)[1]
        prefix = row["group"].split(".")[0] if "." in row["group"] else row["group"]
        prefix = {"events": "", "rbac": "rbac", "node": "node.k8s.io"}.get(prefix, prefix)
        for column in columns[(prefix, kind)]:
            out.write("  column " + "|".join(column[k] for k in ("name", "type", "format", "priority")) + "\n")
        for label in labels[gvr]:
            words = ["  label", label["label"], label["path"] or "-", label["value_form"].removesuffix("-text")]
            words += ["key=" + label["canonical_label"]] if label["canonical_label"] != label["label"] else []
            words += ["rejected"] if label["accepted"] == "0" else []
            words += ["indexed"] if label["indexed"] else []
            out.write(" ".join(words) + "\n")
    out.write("\ntable autoscaling/v1 Scale\n")
    for column in columns[("autoscaling", "Scale")]:
        out.write("  column " + "|".join(column[k] for k in ("name", "type", "format", "priority")) + "\n")


def gates(out):
    for name, on in sorted({(row["gate"], row["default"]) for row in table("feature_gates")}):
        out.write(f"{name} {'on' if on == '1' else 'off'}\n")


def storage_version(row, on):
    """The version whose hash upstream publishes: the first 8 bytes of sha256(group/version/kind)."""
    kind = row["kind_gvk"].rsplit("/", 1)[1]
    groups = {row["group"], "" if row["group"] == "events.k8s.io" else row["group"]}
    for group in groups:
        for version in sorted({v for (_, v, _) in on} | {"v1beta1"}):
            name = f"{group}/{version}/{kind}".encode()
            if base64.b64encode(hashlib.sha256(name).digest()[:8]).decode() == row["storage_version_hash"]:
                return f"{group}/{version}".lstrip("/")
    fail(f"no version has the storage hash of {row['resource']}")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    here = os.path.dirname(os.path.abspath(__file__))
    for name, write in (("types", Types().emit), ("resources", resources), ("gates", gates)):
        with open(os.path.join(here, name + ".txt"), "w", encoding="utf-8") as out:
            out.write(f"# Kubernetes {sys.argv[1]}; written by import.py, explained in README.md\n")
            write(out)


main()
