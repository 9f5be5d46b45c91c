"""A real browser opens the live home page."""

import re
import time

from harness.browser import Browser
from harness.system import limit
from targe import project

_SIZES = {"desktop": (1280, 900, False), "phone": (360, 740, True)}


def _look(ctx, name):
    width, height, mobile = _SIZES[name]
    machine = ctx.serving(smp=2)
    with Browser(ctx.folder / "profile") as browser:
        browser.open(f"http://127.0.0.1:{machine.config.port}/", width, height, mobile)
        assert browser.value("document.title")
        before = _settled(browser)
        limit_time = time.monotonic() + 15
        while browser.value("document.body.innerText") == before:
            assert time.monotonic() < limit_time, "the page does not change"
            time.sleep(0.5)
        browser.screenshot(ctx.artifact("page.png"))
        overflow = browser.value("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0, f"the page is {overflow} pixels too wide"
        for word in ("web", "flow", "slice"):
            assert word in browser.value("document.body.innerText").lower(), word
        browser.press("Tab", 9)
        focus = browser.value("document.activeElement.tagName")
        assert focus != "BODY", "the Tab key reaches nothing"
        assert not browser.failures, browser.failures


def _settled(browser):
    """The page's text once it shows the machine."""
    limit_time = time.monotonic() + 15
    while "web" not in browser.value("document.body.innerText"):
        assert time.monotonic() < limit_time, "the page shows no environment"
        time.sleep(0.2)
    return browser.value("document.body.innerText")


def _rows(browser):
    """The chart's table: by name, the share now and over the last minute, in hundredths."""
    rows = browser.value("[...document.querySelectorAll('#shares-table tbody tr')].map("
                         "row => [...row.cells].map(cell => cell.textContent)).join('|')")
    cells = [row.split(",") for row in rows.split("|") if row]
    return {name: (float(now.split()[0]), float(mean.split()[0])) for name, now, mean in cells}


@limit(240)
def test_shares(ctx):
    """The chart shows 3:2:1 of apps/stride, as areas, as a table, and to the keyboard, on a phone."""
    width, height, mobile = _SIZES["phone"]
    machine = ctx.serving(manifest=str(project.ROOT / "apps" / "stride" / "manifest"))
    with Browser(ctx.folder / "profile") as browser:
        browser.open(f"http://127.0.0.1:{machine.config.port}/", width, height, mobile)
        _settled(browser)
        end = time.monotonic() + 60
        while browser.value("shares.points.length") < 12:
            assert time.monotonic() < end, "the chart has no points"
            time.sleep(0.5)
        means = {name: mean for name, (_, mean) in _rows(browser).items()}
        ran = [means[name] for name in ("red", "green", "blue")]
        assert sum(ran), means
        for got, tickets in zip(ran, (3, 2, 1)):
            assert abs(got / sum(ran) - tickets / 6) < 0.08, f"{means} are not 3:2:1"
        areas = browser.value("document.querySelectorAll('#shares path').length")
        assert areas >= 4, f"{areas} areas are drawn"
        browser.value("document.querySelector('#shares').focus()")
        for _ in range(3):
            browser.press("ArrowLeft", 37)
        text = browser.value("document.querySelector('#shares-readout').textContent")
        assert "red" in text and "%" in text, f"the arrow keys read: {text}"
        browser.screenshot(ctx.artifact("shares.png"))
        overflow = browser.value("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0, f"the page is {overflow} pixels too wide"
        assert not browser.failures, browser.failures


def _pages_of(browser, name):
    """What the home page says that an environment owns."""
    text = browser.value("[...document.querySelectorAll('#envs tbody tr')].map("
                         "row => [...row.cells].map(cell => cell.textContent).join(';')).join('|')")
    for row in text.split("|"):
        cells = [cell.strip() for cell in row.split(";")]
        if cells[0].split()[:1] == [name]:
            return next(int(re.sub(r"[^0-9]", "", cell)) for cell in cells[2:] if re.search(r"[0-9]", cell))
    return 0


@limit(240)
def test_pressure(ctx):
    """apps/pressure on the home page: the cache grows, gives back when another needs memory, and that one grows."""
    width, height, mobile = _SIZES["desktop"]
    machine = ctx.serving(manifest=str(project.ROOT / "apps" / "pressure" / "manifest"), memory="160M")
    with Browser(ctx.folder / "profile") as browser:
        browser.open(f"http://127.0.0.1:{machine.config.port}/", width, height, mobile)
        _settled(browser)
        most = 0
        end = time.monotonic() + 180
        while True:
            has, hungry = _pages_of(browser, "cache"), _pages_of(browser, "hungry")
            most = max(most, has)
            if most > 8000 and has < most - 500 and hungry > 2000:
                break
            assert time.monotonic() < end, f"cache: {most} pages at most, {has} now; hungry: {hungry}"
            time.sleep(0.5)
        browser.screenshot(ctx.artifact("pressure.png"))
        assert not browser.failures, browser.failures


@limit(180)
def test_desktop(ctx):
    """The home page at desktop width shows the machine and changes by itself."""
    _look(ctx, "desktop")


@limit(180)
def test_phone(ctx):
    """The home page at phone width fits, shows the machine and changes by itself."""
    _look(ctx, "phone")
