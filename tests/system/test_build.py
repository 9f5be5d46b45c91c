"""The tree builds without a warning by both compilers, and the archive is as promised."""

import io
import signal
import subprocess
import sys
import tarfile
from contextlib import redirect_stderr

from harness.context import processes_with, until
from harness.sites import make
from harness.system import limit
from targe import archive, project
from targe.build import build
from targe.report import Failure

_PAGE = 4096
# What the command line does with signals.
_HANDLE = """import signal, sys
sys.path[0] = "."
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.default_int_handler)
"""


@limit(300)
def test_clang(_ctx):
    """clang finds nothing to complain about either."""
    build("release", settings=["CC=clang", "OUT=build/clang"])


def test_make_errors(_ctx):
    """What make itself complains of is shown."""
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            build(goals=["no-such-goal"])
        raise AssertionError("a goal that does not exist was made")
    except Failure:
        pass
    assert "No rule to make target 'no-such-goal'" in errors.getvalue(), errors.getvalue()


def test_missing_source(ctx):
    """A program that was built from a source that is gone now is not up to date."""
    makefile = ctx.folder / "Makefile"
    source = ctx.folder / "gone.c"
    source.write_text("int main(void);\nint main(void) {\n    return 0;\n}\n", encoding="ascii")
    makefile.write_text(f"include Makefile\n$(eval $(call program,gone,{source},,))\n",
                        encoding="ascii")
    out = ctx.folder / "out"
    settings = ["-f", str(makefile), f"OUT={out}"]
    goals = [f"{out}/gone/{source}.o"]
    build(goals=goals, settings=settings)
    source.unlink()
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            build(goals=[f"{out}/programs/gone.elf"], settings=settings)
        raise AssertionError("a program without its source was built")
    except Failure:
        pass
    assert f"No rule to make target '{source}'" in errors.getvalue(), errors.getvalue()


def test_broken_off(ctx):
    """SIGINT and SIGTERM end all that make has started before the command ends."""
    makefile = ctx.folder / "Makefile"
    mark = str(ctx.folder / "mark")
    makefile.write_text(f"all:\n\tsh -c 'while sleep 0.1; do :; done' {mark}; true\n",
                        encoding="ascii")
    program = f"from targe.build import build; build(settings=['-f', {str(makefile)!r}])"
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen([sys.executable, "-B", "-c", _HANDLE + program],
                              cwd=project.ROOT / "tools", stderr=subprocess.DEVNULL) as command:
            until(lambda: processes_with(mark), 60, "the slow build")
            command.send_signal(number)
            command.wait(20)
        assert not processes_with(mark), "a part of the build still runs"


def test_archive_layout(ctx):
    """Every file's data begins a page, the size is whole pages, and tar reads it."""
    site = make(ctx.folder / "site")
    members = archive.boot_members(site / "index.html", b"# manifest\n",
                                   {"web.elf": site / "a.css"}, site)
    file = io.BytesIO()
    archive.write(members, file)
    data = file.getvalue()
    assert len(data) % _PAGE == 0 and len(data) == archive.size(members)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = [member for member in tar if member.name != "pad"]
        for member in found:
            assert member.offset_data % _PAGE == 0, member.name
        assert [member.name for member in found] == [member.name for member in members]
        assert [member.name for member in found][:3] == ["init", "manifest", "web.elf"]
        for member in found[3:]:
            content = (site / member.name.removeprefix("site/")).read_bytes()
            assert tar.extractfile(member).read() == content, member.name


def test_archive_links(ctx):
    """Links inside the site are followed; those that lead out or in circles are not."""
    site = ctx.folder / "site"
    (site / "real").mkdir(parents=True)
    (site / "real" / "file").write_bytes(b"content")
    (site / "link").symlink_to("real/file")
    (site / "folder").symlink_to("real")
    (site / "out").symlink_to("/etc/hostname")
    (site / "dangling").symlink_to("nothing")
    (site / "real" / "circle").symlink_to("../real")
    names = [member.name for member in archive.site_members(site)]
    assert names == ["site/folder/file", "site/link", "site/real/file"], names


def test_archive_long_names(ctx):
    """A name that ustar cannot hold is refused in one line."""
    site = ctx.folder / "site"
    site.mkdir()
    (site / ("n" * 150)).touch()
    try:
        archive.write(archive.site_members(site), io.BytesIO())
        raise AssertionError("a name of 150 bytes was taken")
    except Failure as failure:
        assert "is too long" in str(failure)
