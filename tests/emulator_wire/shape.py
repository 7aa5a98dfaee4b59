"""The shape of a JSON value: its keys and types, and what is written for one in fixtures.

A written shape is an object of shapes (a key that ends in `?` may be missing), a list of shapes (each item has one of
them; with a first item "exactly", the items have these in order), or a string: a type (`string`, `integer`, `boolean`,
`null`, `time`, `uuid`, `link`, `map`), several joined by `|`; `=` and the text itself; or `~` and a pattern. Pure.
"""
import re

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|\+00:00)")
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

TYPES = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "time": lambda value: isinstance(value, str) and bool(TIME.fullmatch(value)),
    "uuid": lambda value: isinstance(value, str) and bool(UUID.fullmatch(value)),
    "link": lambda value: isinstance(value, str) and value.startswith(("http://", "https://")),
    "map": lambda value: isinstance(value, dict) and all(isinstance(each, (str, list)) for each in value.values()),
}


def differences(written, value, at="$"):
    """What of a value does not have the written shape, in words."""
    if isinstance(written, str):
        if written.startswith("="):
            return [] if value == written[1:] else [f"{at}: {value!r} is not {written[1:]!r}"]
        if written.startswith("~"):
            is_matched = isinstance(value, str) and re.fullmatch(written[1:], value)
            return [] if is_matched else [f"{at}: {value!r} is not {written[1:]}"]
        if any(TYPES[each](value) for each in written.split("|")):
            return []
        return [f"{at}: {value!r} is no {written}"]
    if isinstance(written, dict):
        if not isinstance(value, dict):
            return [f"{at}: {value!r} is no object"]
        wanted = {key.removesuffix("?"): (key.endswith("?"), each) for key, each in written.items()}
        found = [f"{at}.{key}: missing" for key, (optional, _) in wanted.items() if key not in value and not optional]
        found += [f"{at}.{key}: not expected" for key in value if key not in wanted]
        for key, (_, each) in wanted.items():
            if key in value:
                found += differences(each, value[key], f"{at}.{key}")
        return found
    if not isinstance(value, list):
        return [f"{at}: {value!r} is no list"]
    if written[:1] == ["exactly"]:
        if len(value) != len(written) - 1:
            return [f"{at}: {len(value)} items, not {len(written) - 1}"]
        pairs = zip(written[1:], value)
        return [each for n, (one, item) in enumerate(pairs) for each in differences(one, item, f"{at}[{n}]")]
    found = []
    for n, item in enumerate(value):
        tried = [differences(one, item, f"{at}[{n}]") for one in written]
        if tried and all(tried):
            found += min(tried, key=len)
    return found


def written_of(value, maps=()):
    """The shape of an example, as it would be written. Keys in `maps` hold objects whose keys are free."""
    if isinstance(value, dict):
        return {key: "map" if key in maps and isinstance(each, dict) else written_of(each, maps) for key, each in value.items()}
    if isinstance(value, list):
        kinds = []
        for item in value:
            kind = written_of(item, maps)
            if kind not in kinds:
                kinds.append(kind)
        return kinds
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "time" if TIME.fullmatch(value) else "string"
