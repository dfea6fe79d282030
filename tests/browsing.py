"""A browser, if one is here: Chromium or Chrome, without a window, with an empty profile."""

import os
import shutil
from importlib import resources

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing but the page itself: no updates, no reports, no other protocol.
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1000,900",
)  # fmt: skip

# Drops files on the page, as (name, base64) pairs.
DROP = """
const dropped = new DataTransfer();
for (const [name, content] of arguments[0]) {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  dropped.items.add(new File([bytes], name));
}
const target = document.getElementById("choose");
for (const kind of ["dragenter", "dragover", "drop"]) {
  const event = new DragEvent(kind, {dataTransfer: dropped, bubbles: true, cancelable: true});
  target.dispatchEvent(event);
}
"""

CUT_OFF = """
const edge = document.documentElement.clientWidth + 1;
return [...document.querySelectorAll("body *")].filter((e) =>
  !e.closest("svg") && e.getClientRects().length &&
  ((["TD", "TH"].includes(e.tagName) && e.scrollWidth > e.clientWidth + 1) ||
   (e.getBoundingClientRect().right > edge && !e.closest(".scroll")))
).map((e) => e.outerHTML.slice(0, 120));
"""


def open_browser(folder):
    """A Selenium driver; skips where there is no browser.

    `folder`: for its temporary files; a short path, since one of them is a socket.
    """
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no Chromium with its chromedriver here (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in (*OPTIONS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver, env=os.environ | {"TMPDIR": str(folder)})
    return webdriver.Chrome(options=options, service=service)


def change_screen(page, width, scheme="light", medium="screen"):
    """Show what is open on a screen of this width in pixels, light or dark, or in print."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": [feature]})


def is_too_wide(page):
    """Whether the page as a whole scrolls sideways."""
    return page.execute_script("return document.documentElement.scrollWidth > window.innerWidth")


def cut_off(page):
    """What does not fit: into its cell of a table, or on the screen and in no box that scrolls."""
    return page.execute_script(CUT_OFF)


def violations(page):
    """What axe finds wrong, by the rules of WCAG 2.1, levels A and AA, and by best practice."""
    script = resources.files("axe_core_python") / "axe.min.js"
    page.execute_script(script.read_text(encoding="utf-8"))
    found = page.execute_async_script(
        "axe.run(document, {iframes: false}).then(arguments[arguments.length - 1])"
    )
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
