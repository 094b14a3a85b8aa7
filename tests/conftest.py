"""For all tests."""

import re
import shutil
import signal

import pytest

# A shell starts what it runs in the background with Ctrl-C ignored, and processes pass that on to their
# children. The tests of Ctrl-C need children that hear it, however the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def no_store_left_behind():
    """MLflow writes the address of its store into the environment: the next module's processes must not find it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.setenv(name, "")  # so that the patch knows of it, and undoes what tests do to it
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def chromium():
    """The Chromium of this machine; without one the tests that need it are skipped, and say so."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no Chromium on this machine: none of {', '.join(names)} is on PATH")
    return path


@pytest.fixture(scope="module")
def browser(chromium):
    """Chromium, for a module and not for all: while Playwright runs, Prefect takes its loop of events for its own."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def new_page(browser):
    """A function that opens an empty page. At the end of the test its pages must have logged no error.

    Every address that a page asked for is in its `addresses`; a test that provokes errors says so beforehand with
    `allowed_errors`.
    """
    contexts, errors = [], []

    def new(*, allowed_errors: str = "(?!)", **options):
        context = browser.new_context(**options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.addresses = []
        page.on("request", lambda request: page.addresses.append(request.url))
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning")
                and not re.search(allowed_errors, message.text)
                and errors.append(message.text)
            ),
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: (errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        return page

    yield new
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture(scope="session")
def accessibility_problems():
    """A function that gives what axe finds in a page: rules of serious impact, and where they are broken."""
    from axe_playwright_python.sync_playwright import Axe

    def find(page) -> dict[str, list[str]]:
        violations = Axe().run(page).response["violations"]
        return {
            violation["id"]: [f"{node['target']}: {node['failureSummary']}" for node in violation["nodes"]]
            for violation in violations
            if violation["impact"] in ("serious", "critical")
        }

    return find
