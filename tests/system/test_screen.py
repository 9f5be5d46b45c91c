"""Device memory as pages: apps/screen draws the map of memory into a frame buffer."""

from harness.context import until
from harness.system import limit
from targe import project

_MANIFEST = project.ROOT / "apps" / "screen" / "manifest"
_WIDTH, _HEIGHT = 800, 600


def _picture(ctx, machine, name):
    """What the screen shows: its pixels as bytes, three each."""
    path = ctx.folder / name
    assert machine.screendump(path), "QEMU writes no picture of the screen"
    magic, size, most, pixels = path.read_bytes().split(b"\n", 3)
    assert (magic, most) == (b"P6", b"255")
    assert tuple(map(int, size.split())) == (_WIDTH, _HEIGHT)
    assert len(pixels) == _WIDTH * _HEIGHT * 3
    return pixels


def _colours(pixels):
    return {pixels[at:at + 3] for at in range(0, len(pixels), 3 * 7)}


def _drawn(ctx, machine):
    """A picture that is not being drawn for the first time."""
    pictures = [_picture(ctx, machine, "first.ppm")]

    def still():
        pictures.append(_picture(ctx, machine, "next.ppm"))
        return sum(pictures[-1]) > 0 and len(_colours(pictures[-1])) >= 5

    until(still, 20, "the screen shows at least five colours")
    return pictures[-1]


@limit(100)
def test_memory_is_drawn_and_changes(ctx):
    """The picture has many owners, and one less when one is killed: its pages change colour."""
    machine = ctx.serving(manifest=str(_MANIFEST), screen="none")
    assert machine.expect(r"screen: 800 x 600", 20)
    before = _drawn(ctx, machine)
    machine.write(b"kill web\n")
    assert machine.expect("init: web was killed", 20)

    def changed():
        after = _picture(ctx, machine, "after.ppm")
        differ = sum(before[at:at + 3] != after[at:at + 3] for at in range(0, len(after), 3))
        return differ > 1000 and len(_colours(after)) >= 4

    until(changed, 20, "more than a thousand pixels change")
    assert "ended:" not in machine.output


@limit(60)
def test_without_a_display(ctx):
    """A machine without the device says so; the others run."""
    machine = ctx.serving(manifest=str(_MANIFEST))
    assert machine.expect("there is no device 1234:1111", 10)
    assert machine.expect("screen: there is no display to draw on", 10)
