"""What docs/ says of tests: every test that a table names is there."""

import re

from targe import project


def _cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _named(text):
    """Tests that the tables of a page name: the words in backquotes of columns that are called test or tests."""
    columns = None
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = None
        elif columns is None:
            columns = [i for i, cell in enumerate(_cells(line)) if re.match(r"tests?\b", cell)]
        else:
            for i in columns:
                yield from re.findall(r"`([a-z][a-z0-9_]*(?:/[a-z0-9_]+)*)`", _cells(line)[i])


def test_tests_named_are_there(ctx):
    """A reader who looks for the test of a sentence finds it by the name that the page gives."""
    process = ctx.targe("test", "--list")
    names = {name.split("@")[0] for name in process.communicate(timeout=60)[0].decode().split()}
    missing, found = [], 0
    for page in sorted((project.ROOT / "docs").glob("*.md")):
        for name in _named(page.read_text("utf-8")):
            found += 1
            if not any(f"/{known}/".endswith(f"/{name}/") or f"/{known}/".startswith(f"/{name}/") for known in names):
                missing.append(f"{page.name}: {name}")
    assert found > 150, f"only {found} names of tests found in docs/"
    assert not missing, "no such test: " + ", ".join(missing)
