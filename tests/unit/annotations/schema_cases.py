"""Judges annotations by schema.json: the case folders, and random changes of a good one.

Cases named yaml-... and zone-... are left out: they are about spellings below the schema, or about the
machine's zones.

usage: schema_cases.py SCHEMA CASES_DIR OUT_DIR SEED COUNT
Prints {"cases": {name: accepted}, "random": [[file, accepted], ...]}; random files go to OUT_DIR.
"""
import copy, json, os, random, re, sys
import jsonschema, yaml


class Core(yaml.SafeLoader):
    """YAML 1.2's core schema: what the parser reads (PyYAML's own is 1.1)."""


Core.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     "-+0123456789."),
):
    Core.add_implicit_resolver("tag:yaml.org,2002:" + tag, re.compile("^(?:%s)$" % pattern), list(first))
Core.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(
    node.value, 0) if node.value[:2] in ("0x", "0o") else int(node.value))
Core.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan")))

VALUES = [
    None, True, False, 0, 1, -1, 4, 5, 20, 21, 64, 65, 100, 101, 256, 257, 10**8, 10**8 + 1, 10**30, 5.0, 1.5, 1e300,
    "", "a", "orders", "Orders", "a" * 40, "a" * 41, "1", "true", "null", "yes", "ä", "a b", "a\tb", "x.y", ".", "a.",
    "full", "sample", "none", "refuse", "logical", "gybe/v1", "gybe/v2", "DatabaseMigration",
    "0ms", "1ms", "9ms", "10ms", "010ms", "250ms", "999ms", "1000ms", "59999ms", "60000ms", "600000ms", "600001ms",
    "0s", "1s", "5s", "59s", "60s", "600s", "601s", "3600s", "3601s", "86400s", "86401s", "10m", "11m", "60m", "61m",
    "1440m", "1441m", "1h", "2h", "24h", "25h", "720h", "721h", "2160h", "2161h", "1d", "2d", "30d", "31d", "90d",
    "91d", "5", "5 s", "-5s", "0.5s", "5us", "5S", "99999999999999999999d",
    "0B", "16777215B", "16777216B", "16383kB", "16384kB", "15MB", "16MB", "20GB", "1024TB", "1025TB", "1048576GB",
    "1048577GB", "1125899906842624B", "1125899906842625B", "20gb", "20G", "9999999999999999999999TB",
    "0%", "1%", "25%", "025%", "9999%", "10000%", "10001%", "25", "25 %", "-1%",
    "Sat 02:00-04:00 UTC", "02:00-04:00 UTC", "Mon-Fri 22:00-01:30 Europe/Berlin", "Fri-Mon 00:00-23:59 US/Eastern",
    "Sat 02:00-02:00 UTC", "Sat 2:00-04:00 UTC", "Sat 02:00-24:00 UTC", "Sat 02:60-04:00 UTC", "sat 02:00-04:00 UTC",
    "Sat  02:00-04:00 UTC", "Sat 02:00-04:00", "Sat 02:00-04:00 Mars", "Sat 02:00-04:00 America/Argentina/Salta",
    " Sat 02:00-04:00 UTC", "Sat 02:00-04:00 UTC ", "Sat-Sun-Mon 02:00-04:00 UTC", "Sat 02:00-04:00 EST5EDT",
    [], ["a"], ["a", 1], [None], [""], ["public.audit_*"], ["audit_*"], ["a.b", ".c"], ["*.*"], [["a.b"]],
    {}, {"a": 1}, {"x-a": 1}, {"p95": "1ms"}, {"p95": "0ms"}, {"jobs": 4}, {"name": "a"},
]
KEYS = ["x-free", "x-", "X-free", "unknown", "jobs", "name", "source", "slo", "spec", "p95", "window", "exclude"]


def places(value, found=None):
    found = [] if found is None else found
    if isinstance(value, dict):
        found.append(value)
        for inner in value.values():
            places(inner, found)
    return found


def change(document, rng):
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        where = rng.choice(places(document) or [document])
        if not isinstance(where, dict):
            return document
        action = rng.random()
        if where and action < 0.8:
            where[rng.choice(list(where))] = copy.deepcopy(rng.choice(VALUES))
        elif where and action < 0.9:
            del where[rng.choice(list(where))]
        else:
            where[rng.choice(KEYS)] = copy.deepcopy(rng.choice(VALUES))
    return document


def ecma(value):
    """A schema's $ is the end; Python's also stands before a last newline."""
    if isinstance(value, dict):
        return {key: re.sub(r"\$(\)?)$", r"\\Z\1", inner) if key == "pattern" and isinstance(inner, str)
                else ecma(inner) for key, inner in value.items()}
    return [ecma(inner) for inner in value] if isinstance(value, list) else value


def main():
    schema_path, cases_dir, out_dir, seed, count = sys.argv[1:]
    with open(schema_path, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(ecma(schema))
    cases, good = {}, []
    for kind in ("good", "bad"):
        for case in sorted(os.listdir(os.path.join(cases_dir, kind))):
            if case.startswith(("yaml-", "zone-")):
                continue
            with open(os.path.join(cases_dir, kind, case, ".gybe.yaml"), "rb") as file:
                document = yaml.load(file.read(), Loader=Core)
            cases[kind + "/" + case] = validator.is_valid(document)
            if kind == "good":
                good.append(document)
    rng = random.Random(int(seed))
    results = []
    for i in range(int(count)):
        document = change(rng.choice(good), rng)
        path = os.path.join(out_dir, "%d.yaml" % i)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file, ensure_ascii=False)
        results.append([path, validator.is_valid(document)])
    json.dump({"cases": cases, "random": results}, sys.stdout)


main()
