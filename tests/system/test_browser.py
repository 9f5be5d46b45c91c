"""A real browser opens the live home page."""

import time

from harness.browser import Browser
from harness.system import limit

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


@limit(180)
def test_desktop(ctx):
    """The home page at desktop width shows the machine and changes by itself."""
    _look(ctx, "desktop")


@limit(180)
def test_phone(ctx):
    """The home page at phone width fits, shows the machine and changes by itself."""
    _look(ctx, "phone")
