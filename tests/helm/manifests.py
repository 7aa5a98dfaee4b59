"""Reads YAML for the Helm tests, and asks Kubernetes' own schemas about manifests.

The Rust tests have no YAML reader; they hand text over on standard input and get JSON back.

    manifests.py json                     every document, as a JSON list
    manifests.py validate VERSION...      a JSON list of what the schemas of these Kubernetes versions object to
"""

import json
import sys
import warnings

import yaml


class Strict(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML readers silently keep one."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=deep)
            if name in seen:
                raise yaml.YAMLError(f"{name!r} is given twice, line {key.start_mark.line + 1}")
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def documents():
    return [document for document in yaml.load_all(sys.stdin.read(), Loader=Strict) if document]


def problems(versions):
    import kubernetes_validate

    warnings.simplefilter("ignore")
    for document in documents():
        place = f"{document['kind']}/{document['metadata']['name']}"
        for version in versions:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                yield {"place": place, "version": version, "fault": "no schema"}
            except kubernetes_validate.ValidationError as error:
                yield {"place": place, "version": version, "fault": f"{list(error.path)}: {error.message}"}


def main():
    if sys.argv[1] == "json":
        json.dump(documents(), sys.stdout)
    elif sys.argv[1] == "validate":
        json.dump(list(problems(sys.argv[2:])), sys.stdout)
    else:
        sys.exit(__doc__)


main()
