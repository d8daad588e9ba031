"""Every promise of SECURITY.md names a test that is there."""

import re

from .conftest import ROOT


def test_every_promise_has_its_test():
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(?:(tests/[\w/]+\.py))?(?:::(\w+))?`", text)
    file = None
    checked = 0
    for path, test in named:
        file = path or file
        if file and (path or test):
            source = (ROOT / file).read_text()
            assert not test or f"def {test}(" in source, f"{file} has no {test}"
            checked += 1
    assert checked >= 10
