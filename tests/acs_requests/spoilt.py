"""Spoils records of requests, so that the judge can be shown to see what is wrong. Judges and sends nothing."""
import copy
import json
import re
import urllib.parse

from deliberate import DELIBERATE


def leaves(value, place=()):
    """The places of all plain values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        if isinstance(each, (dict, list)):
            yield from leaves(each, (*place, key))
        else:
            yield (*place, key)


def instead(headers, name, value):
    return [[each, value if each == name else old] for each, old in headers]


def spoilt(record):
    """The record with one thing wrong in its request, in every way that is known here."""
    def made(name, change):
        other = copy.deepcopy(record)
        change(other["sent"])
        return name, other

    def put(name, value):
        return lambda sent: sent.update({name: value})

    def headers(change):
        return lambda sent: sent.update(headers=change(sent["headers"]))

    sent = record["sent"]
    path, _, query = sent["target"].partition("?")
    version = urllib.parse.parse_qs(query)["api-version"][0]
    yield made("another method", put("method", "PUT"))
    yield made("a longer path", put("target", f"{path}/more?{query}"))
    yield made("another path", put("target", f"/v2{path}?{query}"))
    yield made("no version", put("target", path))
    yield made("another version", put("target", sent["target"].replace(version, "2020-01-01")))
    yield made("an unknown query parameter", put("target", f"{sent['target']}&limit=3"))
    yield made("a parameter twice", put("target", f"{sent['target']}&api-version={version}"))
    yield made("an unknown header", headers(lambda all_of: [*all_of, ["repeatability-first-sent", "now"]]))
    yield made("no authorization", headers(lambda all_of: [pair for pair in all_of if pair[0] != "authorization"]))
    yield made("another authorization", headers(lambda all_of: instead(all_of, "authorization", "Basic x")))
    yield made("no accept", headers(lambda all_of: [pair for pair in all_of if pair[0] != "accept"]))
    for name, _ in sent["headers"]:
        if name in ("operation-id", "repeatability-request-id", "content-type", "x-ms-client-request-id"):
            yield made(f"no {name}", headers(lambda all_of, name=name: [pair for pair in all_of if pair[0] != name]))
    if not sent["body"]:
        yield made("a body", put("body", "{}"))
        return
    body = json.loads(sent["body"])

    def with_body(changed):
        text = json.dumps(changed)
        length = str(len(text.encode()))
        return lambda sent: sent.update(body=text, headers=instead(sent["headers"], "content-length", length))

    yield made("the body is a list", with_body([body]))
    yield made("an unknown key", with_body({**body, "unknown": 1}))
    yield made("another content type", headers(lambda all_of: instead(all_of, "content-type", "text/json")))
    for place in leaves(body):
        for name, change in (("lacks", None), ("renames", "rename"), ("changes", "change")):
            other = copy.deepcopy(body)
            inner = other
            for key in place[:-1]:
                inner = inner[key]
            old = inner.pop(place[-1])
            if change == "rename" and isinstance(inner, dict):
                inner[f"{place[-1]}s"] = old
            elif change == "change":
                new = not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else f"{old}~"
                inner.insert(place[-1], new) if isinstance(inner, list) else inner.update({place[-1]: new})
            at = ".".join(map(str, place))
            if not unseen(record, at, change):
                yield made(f"{name} {at}", with_body(other))


def unseen(record, place, change):
    """Whether nobody could see it: what the client adds of its own the case says nothing of."""
    found = re.sub(r"\.\d+", "[]", place)
    added = [key for name, done, key in DELIBERATE if (name, done) == (record["operation"], "adds")]
    own = [key for key in added if found == key or found.startswith(f"{key}.")]
    return bool(own) and change != "rename" and not said(record, place)


def said(record, place):
    value = next((each for each in record["parameters"].values() if isinstance(each, dict)), {})
    for key in place.split("."):
        key = int(key) if isinstance(value, list) else key
        if isinstance(value, dict) and key not in value:
            return False
        value = value[key]
    return True
