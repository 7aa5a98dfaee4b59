#!/usr/bin/env python3
"""Distils Microsoft's OpenAPI files into tests/fixtures/acs/schemas.json: bare facts, no text of theirs.

Swagger 2 becomes JSON schema (2020-12): operation, version, status, and of each body the types, required properties,
enumerations and formats. An object may have no property its schema does not name. Of requests also the parameters. Run
it after the OpenAPI folder changed; a test fails when the file and a fresh distillation differ. It never touches the
network.

    distil.py <folder with identity/, sms/, email/, chat/, common/, eventgrid/> [--write <file>]
"""
import json
import pathlib
import re
import sys

from operations import NAMES, VERSIONS

# What a schema is made of, apart from the parts that hold schemas. Everything else (descriptions, examples) is dropped.
PLAIN = (
    "type", "format", "enum", "required", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems",
    "minProperties",
)
EVENTS = re.compile(r"Acs(Sms|Email|Chat)\w+EventData$")
# Names of event data types that are not the event's name between "Acs" and "EventData".
EVENT_KINDS = {
    "AcsSmsReceivedEventData": "SMSReceived",
    "AcsSmsDeliveryReportReceivedEventData": "SMSDeliveryReportReceived",
    "AcsChatParticipantAddedToThreadEventData": "ChatThreadParticipantAdded",
    "AcsChatParticipantRemovedFromThreadEventData": "ChatThreadParticipantRemoved",
}


class Files:
    """The OpenAPI files, and of them the definitions that were asked for, by a name that no other has."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.files = {}
        self.definitions = {}

    def file(self, path):
        if path not in self.files:
            self.files[path] = json.loads((self.folder / path).read_text(encoding="utf-8"))
        return self.files[path]

    def target(self, reference, here):
        """The file and name that a reference leads to. The folders here are flatter than those the files were made for."""
        place, _, name = reference.partition("#/definitions/")
        if not place:
            return here, name
        if place.endswith("common-types/data-plane/v1/types.json"):
            return "common-types/data-plane-v1-types.json", name
        version = re.search(r"Common/stable/([^/]+)/common\.json$", place)
        if not version:
            raise SystemExit(f"{here}: do not know where {reference} leads")
        return f"common/{version[1]}.json", name

    def refer(self, path, name):
        """A reference to a definition, which is kept if it was not yet. What is but another name is followed."""
        source = self.file(path)["definitions"][name]
        if "$ref" in source:
            return self.refer(*self.target(source["$ref"], path))
        # A slash in the name would end it in a JSON pointer.
        key = f"{name}@{path.removesuffix('.json').replace('/', '.')}"
        if key not in self.definitions:
            self.definitions[key] = None
            self.definitions[key] = self.polymorphic(source, path, name) or self.schema(source, path)
        return {"$ref": f"#/definitions/{key}"}

    def polymorphic(self, source, path, name):
        """A base type with a discriminator: one of the types derived from it, told apart by that property."""
        kind = source.get("discriminator")
        if not kind:
            return None
        kinds = []
        for other in self.file(path)["definitions"].values():
            bases = [self.target(base["$ref"], path)[1] for base in other.get("allOf", []) if "$ref" in base]
            if name in bases:
                properties = {**source["properties"], **other.get("properties", {})}
                required = source.get("required", []) + other.get("required", [])
                made = self.schema({"type": "object", "properties": properties, "required": required}, path)
                made["properties"][kind] = {"const": other["x-ms-discriminator-value"]}
                kinds.append(made)
        return {"oneOf": kinds}

    def flat(self, source, path):
        """The properties and required names of a type and all it is made of."""
        properties, required = {}, []
        for base in source.get("allOf", []):
            where, name = self.target(base["$ref"], path)
            inherited, needed = self.flat(self.file(where)["definitions"][name], where)
            properties.update(inherited)
            required += needed
        properties.update({name: (value, path) for name, value in source.get("properties", {}).items()})
        return properties, required + source.get("required", [])

    def schema(self, source, path):
        if "$ref" in source:
            return self.refer(*self.target(source["$ref"], path))
        made = {key: source[key] for key in PLAIN if key in source}
        properties, required = self.flat(source, path)
        if properties:
            made["properties"] = {name: self.schema(value, where) for name, (value, where) in sorted(properties.items())}
            made["additionalProperties"] = False
        if required:
            made["required"] = sorted(set(required))
        if isinstance(source.get("additionalProperties"), dict):
            made["additionalProperties"] = self.schema(source["additionalProperties"], path)
        if "items" in source:
            made["items"] = self.schema(source["items"], path)
        # The specification gives lists a length in characters; what is meant is the number of items.
        for length, items in (("minLength", "minItems"), ("maxLength", "maxItems")):
            if source.get("type") == "array" and length in made:
                made[items] = made.pop(length)
        return made


    def request(self, operation, shared, path):
        """What is sent: query, headers and body by name, whether each must be there, and the media types of the body."""
        made = {}
        for parameter in shared + operation.get("parameters", []):
            if "$ref" in parameter:
                place, _, name = parameter["$ref"].partition("#/parameters/")
                if place:
                    raise SystemExit(f"{path}: do not know where {parameter['$ref']} leads")
                parameter = self.file(path)["parameters"][name]
            known = {"required": True} if parameter.get("required") else {}
            if parameter["in"] == "body":
                schema = self.schema(parameter["schema"], path)
                made["body"] = {**known, "name": parameter["name"], "schema": schema, "types": operation["consumes"]}
            elif parameter["in"] in ("query", "header"):
                known.update({key: parameter[key] for key in PLAIN if key in parameter and key != "required"})
                made.setdefault(parameter["in"], {})[parameter["name"]] = known
        return made


def merged(distilled):
    """The same with one definition where several files have the same one, under the bare name where that is enough."""
    definitions = distilled.pop("definitions")
    classes = {key: key.split("@")[0] for key in definitions}

    def renamed(value, names):
        text = json.dumps(value, sort_keys=True)
        return re.sub(r'"#/definitions/([^"]+)"', lambda found: f'"#/definitions/{names[found[1]]}"', text)

    while True:
        contents = {key: (key.split("@")[0], renamed(definitions[key], classes)) for key in definitions}
        first = {}
        for key in sorted(definitions):
            first.setdefault(contents[key], key)
        split = {key: first[contents[key]] for key in definitions}
        if split == classes:
            break
        classes = split
    bare = {}
    for key in sorted(set(classes.values())):
        bare.setdefault(key.split("@")[0], []).append(key)
    short = {key: name if len(keys) == 1 else key for name, keys in bare.items() for key in keys}
    names = {key: short[classes[key]] for key in definitions}
    kept = {names[key]: json.loads(renamed(definitions[key], names)) for key in definitions}
    distilled = json.loads(renamed(distilled, names))
    distilled["definitions"] = dict(sorted(kept.items()))
    return distilled


def distil(folder):
    files = Files(folder)
    operations, requests = {}, {}
    for service, versions in VERSIONS.items():
        for version in versions:
            path = f"{service}/{version}.json"
            for place, methods in files.file(path)["paths"].items():
                for method, operation in methods.items():
                    if method == "parameters":
                        continue
                    name = NAMES[f"{method.upper()} {re.sub(r'{[^}]*}', '{}', place)}"]
                    answers = {
                        status: files.schema(answer["schema"], path) if "schema" in answer else None
                        for status, answer in sorted(operation["responses"].items())
                    }
                    operations.setdefault(name, {})[version] = answers
                    requests.setdefault(name, {})[version] = files.request(operation, methods.get("parameters", []), path)
    path = "eventgrid/AzureCommunicationServices-2018-01-01.json"
    events = {}
    for name, source in files.file(path)["definitions"].items():
        if EVENTS.match(name):
            kind = EVENT_KINDS.get(name, name.removeprefix("Acs").removesuffix("EventData"))
            events[kind] = files.schema(source, path)
    return merged({"operations": operations, "requests": requests, "events": events, "definitions": files.definitions})


def written(distilled):
    """One line per operation and version, event and definition: short, and readable as a difference."""
    def line(key, value):
        return f"{json.dumps(key)}: {json.dumps(value, sort_keys=True)}"

    def block(lines, indent):
        return "{\n" + ",\n".join(f"{' ' * indent}{each}" for each in lines) + "\n" + " " * (indent - 2) + "}"

    parts = []
    for part in ("operations", "requests"):
        operations = [
            f"{json.dumps(name)}: " + block([line(*version) for version in sorted(versions.items())], 6)
            for name, versions in sorted(distilled[part].items())
        ]
        parts.append(f'"{part}": {block(operations, 4)}')
    for part in ("events", "definitions"):
        parts.append(f'"{part}": ' + block([line(*item) for item in sorted(distilled[part].items())], 4))
    return block(parts, 2) + "\n"


if __name__ == "__main__":
    text = written(distil(sys.argv[1]))
    if sys.argv[2:3] == ["--write"]:
        pathlib.Path(sys.argv[3]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
