"""What docs/ says of tests: every test that a table names is there."""

import re
import tomllib

from targe import project

_WITHOUT_ARGUMENTS = {"null", "yield", "transfer"}  # transfer: its arguments are the message


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
    names |= {source.stem for source in (project.ROOT / "tests" / "fuzz").glob("fuzz_*.c")}
    missing, found = [], 0
    for page in sorted((project.ROOT / "docs").glob("*.md")):
        for name in _named(page.read_text("utf-8")):
            found += 1
            if not any(f"/{known}/".endswith(f"/{name}/") or f"/{known}/".startswith(f"/{name}/") for known in names):
                missing.append(f"{page.name}: {name}")
    assert found > 150, f"only {found} names of tests found in docs/"
    assert not missing, "no such test: " + ", ".join(missing)


def test_every_call_is_abused(ctx):
    """A call that is new is among those whose every argument is made hostile (tests/abuse/test_arguments.c)."""
    abi = tomllib.loads((project.ROOT / "abi" / "targe.toml").read_text("utf-8"))
    tables = (project.ROOT / "tests" / "abuse" / "test_arguments.c").read_text("utf-8")
    calls = {call["name"] for call in abi["call"]} - _WITHOUT_ARGUMENTS
    assert len(calls) > 30
    missing = [name for name in sorted(calls) if not re.search(rf"\bCALL_{name.upper()}\b", tables)]
    assert not missing, f"not in the tables of hostile arguments: {missing}"
