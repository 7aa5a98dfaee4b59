"""Runs the judges named on the command line: `run.py identity` runs every case of `test_identity*.py`.

Last come the cases that look at the SDKs themselves: each is the version that is pinned, and each public method of
its clients was called and worked. What was called goes to the file that CONFORMANCE_RESULTS
names, for docs/emulator-sdks.md. Run by `tests/conformance.rs`.
"""

import importlib
import importlib.metadata
import json
import os
import pathlib
import sys
import unittest

from judge import Sdk

HERE = pathlib.Path(__file__).parent


class TheSdk(unittest.TestCase):
    def __init__(self, sdk, method):
        super().__init__(method)
        self.sdk = sdk

    def __str__(self):
        return f"{self._testMethodName} ({self.sdk.package}, {self.sdk.mode})"

    def every_public_method_was_called_and_worked(self):
        works = {method for method, outcomes in self.sdk.seen.items() if "works" in outcomes}
        public = set(self.sdk.public_methods())
        self.assertTrue(public)
        self.assertEqual(public - works, set(), "nobody saw these work")

    def it_is_the_pinned_version(self):
        pinned = f"{self.sdk.package}=={importlib.metadata.version(self.sdk.package)}"
        self.assertIn(pinned, (HERE / "requirements.txt").read_text().splitlines())


def report(sdk):
    public = sdk.public_methods()
    rows = [
        {
            "name": method,
            "works": "works" in outcomes,
            "refused": sorted((o for o in outcomes if o != "works"), key=str),
        }
        for method, outcomes in sorted(sdk.seen.items())
        if method in public
    ]
    version = importlib.metadata.version(sdk.package)
    name = f"{sdk.package} (Python, {sdk.mode})"
    return {"sdk": name, "version": version, "methods": rows, "notes": {}}


def main(names):
    modules = sorted(path.stem for name in names for path in HERE.glob(f"test_{name}*.py"))
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module)) for module in modules
    )
    for sdk in Sdk.all:
        suite.addTest(TheSdk(sdk, "it_is_the_pinned_version"))
        suite.addTest(TheSdk(sdk, "every_public_method_was_called_and_worked"))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if path := os.environ.get("CONFORMANCE_RESULTS"):
        pathlib.Path(path).write_text(json.dumps([report(sdk) for sdk in Sdk.all]))
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main(sys.argv[1:])
