"""The page in a real browser: click, drop, keyboard, a narrow screen, errors, accessibility."""

import base64
from importlib import resources

import pytest
import trees
from browsing import DROP, open_browser
from PIL import Image

WAIT = 60  # seconds


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("given") / "anna.jpg"
    Image.fromarray(trees.draw_person(3)).save(path, quality=95)
    return path


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    driver = open_browser(tmp_path_factory.mktemp("browser"))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, server):
    """The page, just opened; afterwards nothing may have gone wrong in the browser."""
    driver.set_window_size(1000, 900)
    driver.get(server.url)
    yield driver
    driver.get("about:blank")
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def find(page, selector):
    return page.find_element("css selector", selector)


def wait(page, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, WAIT, 0.05).until(condition)


def wait_for(page, text):
    """Until the newest file is in this state."""
    wait(page, lambda page: text in find(page, "#jobs li .state").text)


def press(page, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def drop(page, *files):
    pairs = [(name, base64.b64encode(content).decode()) for name, content in files]
    page.execute_script(DROP, pairs)


def violations(page):
    """What axe finds wrong, by the rules of WCAG 2.1 at levels A and AA."""
    script = resources.files("axe_core_python") / "axe.min.js"
    page.execute_script(script.read_text(encoding="utf-8"))
    found = page.execute_async_script(
        "axe.run(document, {iframes: false}).then(arguments[arguments.length - 1])"
    )
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]


def test_a_photograph_gets_its_verdict(page, server, photograph):
    """Chosen by a click; the verdict is the API's, and the visit ends with the page."""
    find(page, "#files").send_keys(str(photograph))
    wait(page, lambda page: find(page, "#result").is_displayed())
    title = find(page, "#result-title").text
    job = server.wait(server.post("anna.jpg", photograph.read_bytes()))
    verdict = job["prediction"]["status"]
    assert title.lower() == f"{verdict}: anna.jpg"
    assert f"{job['prediction']['fidelity']:.3f}" in find(page, "#result-meaning").text
    assert find(page, "#news").get_attribute("textContent").lower() == f"anna.jpg: {verdict}"
    assert violations(page) == []
    server.client.delete(f"/api/jobs/{job['id']}")
    page.get("about:blank")
    wait(page, lambda _: not server.files())


def test_dropped_files_are_all_taken(page, photograph):
    named = "<img src=x onerror=document.title=1>.jpg"
    drop(page, ("notes.txt", b"words"), (named, photograph.read_bytes()), ("cut.jpg", cut(photograph)))
    wait(page, lambda page: len(page.find_elements("css selector", "#jobs progress:not([hidden])")) == 0)
    entries = page.find_elements("css selector", "#jobs li")
    told = {e.find_element("css selector", ".name").text: e.find_element("css selector", ".state").text for e in entries}
    assert told["notes.txt"] == "this cannot be scored: not a photograph or video"
    assert told["cut.jpg"] == "Not readable"
    assert told[named] in ("Real", "Fake", "Uncertain")
    assert page.title.startswith("Real or fake?")
    assert violations(page) == []


def cut(path):
    content = path.read_bytes()
    return content[: len(content) // 2]
