"""The page of a report in Debian's Chromium, through its DOM, as a reader would use it.

Needs chromium, chromium-driver, selenium and axe-selenium-python, and fails without them:
`pytest -m browser` runs it, as `.ci/browser` does.
"""

import re

import pytest
import torch
from cases.reports import layer, mlp
from torch import nn

from initfast.profiling.profile import profile
from initfast.report.report import Report

pytestmark = pytest.mark.browser

ODD = "<img src=x onerror='document.title=1'>\u202egnp\x1b" + "x" * 10_000
WIDTHS = (360, 768, 1400)


@pytest.fixture(scope="module")
def report():
    """Of a net that saturates, whose blocks repeat, with gradients and an odd name."""
    torch.manual_seed(0)
    net = nn.Sequential(mlp(6), nn.Sequential(mlp(2), mlp(2), mlp(2)), nn.Linear(16, 16))
    net._modules[ODD] = nn.Linear(16, 4)
    with torch.no_grad():
        net[0][4].weight.mul_(100)
    return profile(net, torch.randn(32, 16), loss=lambda y: y.square().mean())


@pytest.fixture(scope="module")
def pages(report, tmp_path_factory):
    """Where the pages are, by name."""
    folder = tmp_path_factory.mktemp("pages")
    healthy = profile(mlp(6), torch.randn(32, 16))
    bad = [layer(str(i), std=10.0**i) for i in range(5)]
    reports = {"report": (report, None), "beside": (report, healthy), "empty": (Report([]), None)}
    reports["edge"] = (Report(bad), Report([]))
    for name, (one, beside) in reports.items():
        one.to_html(folder / f"{name}.html", beside=beside)
    return {name: (folder / f"{name}.html").as_uri() for name in reports}


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture
def show(browser, pages):
    """show(name, width, dark, scripts): opens a page; what it complains of fails the test."""

    def open_page(name="report", width=1200, dark=False, scripts=True):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]})
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get("about:blank")
        browser.get(pages[name])
        return browser

    yield open_page
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    complaints = [entry["message"] for entry in browser.get_log("browser")]
    assert not complaints


def find(browser, css):
    return browser.find_elements("css selector", css)


def column(browser, number):
    rows = "[...document.querySelectorAll('#layers tbody tr')]"
    return browser.execute_script(f"return {rows}.map(row => row.cells[{number}].textContent)")


def heading(browser, name):
    return next(b for b in find(browser, "#layers thead button") if b.text == name)


def names_of_columns(browser):
    return [button.text for button in find(browser, "#layers thead button")]


def test_sorting_by_number_and_by_name(show):
    browser = show()
    std = names_of_columns(browser).index("std")
    before = column(browser, std)
    for way, order in (("ascending", 1), ("descending", -1)):
        heading(browser, "std").click()
        now = [float(text) for text in column(browser, std)]
        assert now == sorted(map(float, before), key=lambda v: order * v)
        sorted_by = find(browser, "th[aria-sort]")
        assert [(th.text, th.get_attribute("aria-sort")) for th in sorted_by] == [("std", way)]
    heading(browser, "layer").click()
    names = column(browser, 1)
    assert "0.10" in names and names.index("0.8") < names.index("0.10") < names.index("1.0.0")
    dead = names_of_columns(browser).index("saturated")
    heading(browser, "saturated").click()
    assert [t == "" for t in column(browser, dead)] == sorted(
        t == "" for t in column(browser, dead)
    )
    heading(browser, "#").click()
    assert column(browser, std) == before


def test_filtering_by_words_and_back(show, report):
    browser = show()
    (box,) = find(browser, "#filter")
    box.send_keys("1.1 LINEAR")
    shown = [row for row in find(browser, "#layers tbody tr") if row.is_displayed()]
    fits = [x for x in report if "1.1" in x.name and "linear" in x.op]
    assert 0 < len(fits) == len(shown) < len(report)
    assert find(browser, "#found")[0].text == f"{len(shown)} of {len(report)} layers"
    find(browser, ".tree a")[0].click()  # a link to a row that is hidden shows it
    target = find(browser, "tr:target")
    assert box.get_attribute("value") == "" and target[0].is_displayed()
    box.send_keys("no such layer")
    assert not any(row.is_displayed() for row in find(browser, "#layers tbody tr"))


def test_folding_the_modules(show):
    browser = show()
    items = find(browser, ".tree li")
    unfold, fold = (b for b in find(browser, "button") if b.text in ("Unfold all", "Fold all"))
    assert all(item.is_displayed() for item in items)
    fold.click()
    assert 0 < sum(item.is_displayed() for item in items) < len(items)
    find(browser, ".tree summary")[0].click()
    assert find(browser, ".tree details")[0].get_attribute("open")
    unfold.click()
    assert all(item.is_displayed() for item in items)


def test_copying_the_code_of_a_finding(show, report):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    browser = show()
    code = next(finding.code for finding in report.findings if finding.code)
    button = next(b for b in find(browser, "button") if b.text == "Copy the code")
    button.click()
    WebDriverWait(browser, 4, 0.1).until(lambda _: button.text == "Copied")
    (box,) = find(browser, "#filter")
    box.send_keys(Keys.CONTROL, "v")
    assert box.get_attribute("value").split() == code.split()


def test_a_finding_leads_to_its_row(show, report):
    browser = show()
    finding = report.findings[0]
    find(browser, ".card a")[0].click()
    (row,) = find(browser, "tr:target")
    assert row.get_attribute("id") == f"layer-{finding.first}"
    top = browser.execute_script("return arguments[0].getBoundingClientRect().top", row)
    assert 0 <= top < 900


def test_the_chart_is_read_by_keyboard_and_by_pointer(show, report):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser = show()
    (slider,) = find(browser, "#reader input")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    (reading,) = find(browser, "#reader output")
    assert f"layer {report[2].name}" in reading.text and f"std {report[2].std:#.4g}" in reading.text
    slider.send_keys(Keys.END)
    assert f"# {len(report) - 1}" in reading.text
    heading(browser, "std").click()  # the order of the rows does not matter
    slider.send_keys(Keys.HOME)
    assert f"layer {report[0].name}" in reading.text
    (svg,) = find(browser, "svg.chart")
    ActionChains(browser).move_to_element(svg).perform()
    middle = int(slider.get_attribute("value"))
    assert abs(middle - (len(report) - 1) / 2) < 2 and f"# {middle}" in reading.text
    x = float(
        browser.execute_script(
            "return arguments[0].querySelector('.cursor').getAttribute('x1')", svg
        )
    )
    assert 80 < x < 744


def test_everything_is_reached_by_tab(show):
    from selenium.webdriver.common.keys import Keys

    browser = show()
    buttons = browser.execute_script(
        "return document.querySelectorAll('button,input,a[href],summary,[tabindex]').length"
    )
    reached, active = set(), browser.switch_to.active_element
    for _ in range(buttons):
        active.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        reached.add(active.id)
    assert len(reached) == buttons
    (summary, *_) = find(browser, ".tree summary")
    summary.send_keys(Keys.ENTER)
    assert not find(browser, ".tree details")[0].get_attribute("open")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["beside", "edge"])
def test_nothing_is_wider_than_the_window(show, name, width):
    browser = show(name, width)
    inner, whole = browser.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert inner == width and whole <= width
    for box in find(browser, "h1, h2, .card, pre, svg, #tools > *"):
        left, right = box.rect["x"], box.rect["x"] + box.rect["width"]
        scrolled = find(browser, ".scrolled svg")
        assert left >= 0 and (right <= width or box in scrolled)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name, width", [("report", 360), ("beside", 768), ("empty", 1400)])
def test_axe_finds_no_violation(show, name, width, dark):
    from axe_selenium_python import Axe

    axe = Axe(show(name, width, dark))
    axe.inject()
    found = axe.run()
    assert not found["violations"], axe.report(found["violations"])
    assert len(found["passes"]) > 10


def test_without_scripts_everything_can_be_read(show, report):
    browser = show(scripts=False)
    assert not find(browser, "button") and not find(browser, "#filter")
    assert len(find(browser, "#layers tbody tr")) == len(report)
    assert [th.text for th in find(browser, "#layers thead th")][:2] == ["#", "layer"]
    details = find(browser, ".tree details")[0]
    assert details.get_attribute("open")
    find(browser, ".tree summary")[0].click()
    assert not details.get_attribute("open")
    assert find(browser, "svg .curve") and find(browser, "article.card")


def test_odd_names_are_text(show):
    browser = show()
    assert not find(browser, "img") and browser.title.startswith("1 ")
    assert any("<img src=x" in name.text for name in find(browser, "bdi"))


def test_no_script_of_a_page_that_was_tampered_with_runs(browser, pages, tmp_path, report):
    text = report.to_html()
    path = tmp_path / "tampered.html"
    path.write_text(
        text.replace(
            "<main>",
            "<main><script>document.title = 'run'</script><img src=x onerror="
            "\"document.title = 'run'\">",
        ),
        encoding="utf-8",
    )
    browser.get(path.as_uri())
    assert browser.title != "run"
    assert any("Content Security Policy" in e["message"] for e in browser.get_log("browser"))


def test_dark_and_light_have_their_own_colours(show):
    def paper(dark):
        browser = show(dark=dark)
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert paper(dark=False) > 700 and paper(dark=True) < 100


def test_on_paper_all_is_there_but_the_controls(show):
    browser = show(dark=True)
    find(browser, ".tree summary")[0].click()  # what is folded is printed too
    hidden = find(browser, ".tree details li")[0]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = [e for e in find(browser, "#tools, #reader, pre + button") if e.is_displayed()]
    assert not shown and hidden.rect["height"] > 0
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    printed = browser.print_page()
    assert len(printed) > 10_000
