"""Every file of a site arrives as it is."""

import time

from harness import sites
from harness.system import limit


def _address(machine):
    return f"http://127.0.0.1:{machine.config.port}"


def _folder(ctx, name):
    folder = ctx.folder / name
    folder.mkdir()
    return folder


def test_bundled_site(ctx):
    """The site that comes with the machine."""
    from targe import project
    machine = ctx.serving()
    sites.fetch_all(project.DEFAULT_SITE, _address(machine), _folder(ctx, "got"), 60)


def test_every_file(ctx):
    """Odd names, odd sizes, folders in folders."""
    site = sites.make(_folder(ctx, "site"))
    machine = ctx.serving(site=str(site))
    sites.fetch_all(site, _address(machine), _folder(ctx, "got"), 60)


@limit(180)
def test_fifty_megabytes(ctx):
    """Within 60 seconds from the start, all of a 50 MB site has been fetched."""
    site = sites.make(_folder(ctx, "site"), megabytes=50, files=120)
    began = time.monotonic()
    machine = ctx.serving(site=str(site))
    sites.fetch_all(site, _address(machine), _folder(ctx, "got"), 120)
    seconds = time.monotonic() - began
    assert seconds < 60, f"took {seconds:.0f} s"


@limit(300)
def test_two_hundred_megabytes(ctx):
    """A site of 200 MB boots and is served whole."""
    site = sites.make(_folder(ctx, "site"), megabytes=200, files=40)
    machine = ctx.serving(site=str(site), seconds=60)
    sites.fetch_all(site, _address(machine), _folder(ctx, "got"), 220)


def test_many_files(ctx):
    """A site of 5,000 small files."""
    site = _folder(ctx, "site")
    for number in range(5000):
        path = site / f"{number % 50}" / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"file {number}\n", encoding="ascii")
    machine = ctx.serving(site=str(site))
    connection = ctx.connect(machine)
    for number in range(0, 5000, 97):
        answer = connection.get(f"/{number % 50}/{number}.txt")
        assert answer.body == b"file %d\n" % number, answer


def test_empty_site(ctx):
    """A folder without a file: the machine answers 404."""
    machine = ctx.serving(site=str(_folder(ctx, "site")))
    assert ctx.connect(machine).get("/").status == 404
