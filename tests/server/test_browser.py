"""The page in a real browser: click, drop, keyboard, a narrow screen, errors, accessibility."""

import base64
import signal

import pytest
import trees
from browsing import DROP, change_screen, is_too_wide, open_browser, violations
from PIL import Image
from serving import Server

pytestmark = pytest.mark.e2e
WAIT = 150  # seconds, on a busy machine
BUSY = "#jobs progress:not([hidden])"


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("given") / "anna.jpg"
    Image.fromarray(trees.draw_person(3)).save(path, quality=95)
    return path


@pytest.fixture(scope="module")
def wall(tmp_path_factory):
    """A photograph without a face, which takes no time."""
    path = tmp_path_factory.mktemp("given") / "wall.jpg"
    Image.new("RGB", (64, 48), "grey").save(path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video that takes its time."""
    path = tmp_path_factory.mktemp("given") / "clip.mp4"
    trees.write_video(path, trees.film(1, count=40) * 20)
    return path.read_bytes()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    driver = open_browser(tmp_path_factory.mktemp("browser"))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, server):
    """The page, just opened; afterwards nothing may have gone wrong in it, nor be left of it."""
    change_screen(driver, 1000)
    driver.get(server.url)
    yield driver
    driver.get("about:blank")
    wait(driver, lambda _: not server.files())


def find(page, selector):
    return page.find_element("css selector", selector)


def find_all(page, selector):
    return page.find_elements("css selector", selector)


def wait(page, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, WAIT, 0.05).until(condition)


def press(page, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page).send_keys(*keys).perform()


def drop(page, *files):
    pairs = [(name, base64.b64encode(content).decode()) for name, content in files]
    page.execute_script(DROP, pairs)


def states(page):
    """What the list says of each file, by its name."""
    entries = find_all(page, "#jobs li")
    return {find(entry, ".name").text: find(entry, ".state").text for entry in entries}


def complaints(page):
    """What the browser logged as an error: foreign content, scripts that fail."""
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_chosen_photograph_gets_the_verdict_of_the_api(page, server, photograph):
    assert violations(page) == []
    find(page, "#files").send_keys(str(photograph))
    wait(page, lambda page: find(page, "#result").is_displayed())
    job = server.wait(server.post("anna.jpg", photograph.read_bytes()))
    server.client.delete(f"/api/jobs/{job['id']}")
    verdict = job["prediction"]["status"]
    assert find(page, "#result-title").text.lower() == f"{verdict}: anna.jpg"
    assert f"{job['prediction']['fidelity']:.4f}" in find(page, "#result-meaning").text
    assert find(page, "#news").get_attribute("textContent").lower() == f"anna.jpg: {verdict}"
    page.switch_to.frame(find(page, "#result-page"))
    assert "anna.jpg" in find(page, "body").text
    page.switch_to.default_content()
    assert violations(page) == []
    change_screen(page, 360, "dark")
    assert not is_too_wide(page)
    assert violations(page) == []
    assert complaints(page) == []


def test_all_dropped_files_are_taken_and_errors_are_told(page, wall):
    content = wall.read_bytes()
    named = "<img src=x onerror=document.title=1>.jpg"
    drop(page, ("notes.txt", b"words"), ("cut.jpg", content[: len(content) // 2]), (named, content))
    wait(page, lambda page: not find_all(page, BUSY))
    told = states(page)
    assert told.pop("notes.txt") == "this cannot be scored: not a photograph or video"
    assert told.pop("cut.jpg") == "Cannot be read"
    assert told.pop(named) == "No face to score"
    assert not told
    assert page.title.startswith("Real or fake?")
    assert violations(page) == []
    change_screen(page, 360, "dark")
    assert not is_too_wide(page)
    assert violations(page) == []
    # The server's own refusal is all that is logged.
    assert [line for line in complaints(page) if "415" not in line] == []


def test_too_large_a_file_is_not_even_sent(page):
    most = page.execute_async_script(
        "fetch('/api/limits').then((a) => a.json()).then((l) => arguments[0](l.bytes))"
    )
    # A file of holes: it takes no memory until it is read.
    page.execute_script("take([{name: 'long.mp4', size: arguments[0] + 1}])", most)
    assert states(page) == {"long.mp4": f"the file has more than {most // 2**20} MiB"}


def test_everything_works_from_the_keyboard(page, wall):
    from selenium.webdriver.common.keys import Keys

    page.execute_script(
        "document.getElementById('files').addEventListener('click',"
        " (event) => { event.preventDefault(); document.title = 'asked'; })"
    )
    press(page, Keys.TAB)
    assert page.switch_to.active_element.get_attribute("id") == "choose"
    press(page, Keys.ENTER)  # opens the system's own dialog, which no script can reach
    assert page.title == "asked"
    find(page, "#files").send_keys(str(wall))
    wait(page, lambda page: not find_all(page, BUSY))
    press(page, Keys.TAB)
    assert page.switch_to.active_element.get_attribute("aria-label") == "Show wall.jpg"
    press(page, Keys.ENTER)
    wait(page, lambda page: page.switch_to.active_element.get_attribute("id") == "result")
    press(page, Keys.TAB)
    assert page.switch_to.active_element.get_attribute("id") == "result-tab"
    press(page, Keys.SHIFT, Keys.TAB)
    find(page, ".remove").send_keys(Keys.ENTER)
    assert not find(page, "#visit").is_displayed()
    assert not find(page, "#result").is_displayed()
    assert page.switch_to.active_element.get_attribute("id") == "choose"
    assert find(page, "#news").get_attribute("textContent") == "wall.jpg: removed"


def test_a_file_can_be_cancelled(page, server, wall):
    drop(page, ("wall.jpg", wall.read_bytes()))
    wait(page, lambda page: states(page)["wall.jpg"] not in ("uploading", ""))
    find(page, ".remove").click()
    assert states(page) == {}
    assert find(page, "#news").get_attribute("textContent") == "wall.jpg: cancelled"
    wait(page, lambda _: not server.files())


def test_the_page_that_somebody_chose_stays(page, wall):
    content = wall.read_bytes()

    def give(name):
        drop(page, (name, content))
        wait(page, lambda page: states(page).get(name) == "No face to score")

    give("a.jpg")
    give("b.jpg")
    assert find(page, "#result-title").text == "No face to score: b.jpg"
    find(page, "[aria-label='Show a.jpg']").click()
    wait(page, lambda page: find(page, "#result-title").text == "No face to score: a.jpg")
    give("c.jpg")
    assert find(page, "#result-title").text == "No face to score: a.jpg"
    page.switch_to.frame(find(page, "#result-page"))
    assert "a.jpg" in find(page, "body").text
    page.switch_to.default_content()
    find(page, "[aria-label='Remove a.jpg']").click()
    give("d.jpg")
    assert find(page, "#result-title").text == "No face to score: d.jpg"


def test_a_page_that_has_expired_is_not_shown(page, server, wall):
    drop(page, ("wall.jpg", wall.read_bytes()))
    wait(page, lambda page: find(page, "#result").is_displayed())
    job = find(page, "#result-page").get_attribute("src").removesuffix("/page")
    assert server.client.delete(job).status_code == 204
    find(page, "[aria-label='Show wall.jpg']").click()
    wait(page, lambda page: states(page) == {"wall.jpg": "the server no longer has this page"})
    assert not find(page, ".show").is_displayed()
    assert page.switch_to.active_element.get_attribute("aria-label") == "Remove wall.jpg"


def test_the_page_about_a_file_opens_in_its_own_tab(page, wall):
    drop(page, ("wall.jpg", wall.read_bytes()))
    wait(page, lambda page: find(page, "#result").is_displayed())
    here = page.current_window_handle
    find(page, "#result-tab").click()
    (other,) = wait(page, lambda page: set(page.window_handles) - {here})
    page.switch_to.window(other)
    wait(page, lambda page: "wall.jpg" in find(page, "body").text)
    page.close()
    page.switch_to.window(here)


def test_files_beyond_the_limit_of_jobs_wait_for_room(driver, tmp_path_factory, wall):
    server = Server(tmp_path_factory.mktemp("small"), jobs=1)
    try:
        driver.get(server.url)
        drop(driver, *[(f"{letter}.jpg", wall.read_bytes()) for letter in "abc"])
        wait(driver, lambda page: "waiting for room" in states(page).values())
        find(driver, "[aria-label='Cancel b.jpg']").click()
        wait(driver, lambda page: not find_all(page, BUSY))
        assert states(driver) == dict.fromkeys(("c.jpg", "a.jpg"), "No face to score")
        driver.get("about:blank")
    finally:
        server.end(signal.SIGTERM)


def test_a_page_can_be_had_while_many_files_wait(page, wall, clip):
    """The last test of this file, as it leaves the worker in the middle of a video.

    A browser opens six connections to a server: were each file to keep one, none would be left.
    """
    drop(page, ("wall.jpg", wall.read_bytes()))
    wait(page, lambda page: find(page, "#result").is_displayed())
    drop(page, *[(f"{number}.mp4", clip) for number in range(8)])
    wait(page, lambda page: not {"uploading", "waiting to be sent"} & set(states(page).values()))
    about = page.execute_async_script(
        "fetch(arguments[0]).then((answer) => answer.text()).then(arguments[1])",
        find(page, "#result-page").get_attribute("src"),
    )
    assert "wall.jpg" in about
    assert len(find_all(page, BUSY)) == 8
