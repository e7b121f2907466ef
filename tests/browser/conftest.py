"""A headless Chromium, and a real operator door with a seeded fleet behind it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.fakes.operator_site import NAME, PASSWORD, OperatorSite, operator_site
from tests.fakes.seeded_fleet import SeededFleet, seed_fleet

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; each test has a context (cookies, theme) of its own."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield made
        made.close()


class Tab:
    """A page with all that went wrong on it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._own(request.url))
        page.add_init_script(WATCH)

    def _own(self, address: str) -> None:
        if not address.startswith((self.url, "data:", "blob:")):
            self.errors.append(f"asked another server: {address}")

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def faults(self) -> list[str]:
        return self.errors + list(self.page.evaluate("window.violations"))

    def sign_in(self, name: str = NAME, password: str = PASSWORD) -> None:
        """Fill the form in, and wait for its answer: a page that is opened before would take it away unread."""
        self.open("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        with self.page.expect_navigation(wait_until="commit"):
            self.page.get_by_role("button", name="Sign in").click()


NewTab = Callable[..., Tab]


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[NewTab]:
    """``new_tab(site, width=, scheme=, scripts=)``: a fresh browser context with one page."""
    contexts = []

    def make(site: OperatorSite, *, width: int = 1280, scheme: str = "light", scripts: bool = True) -> Tab:
        # A browser whose locale is POSIX has no valid language; people's have one.
        made = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, locale="en-GB", java_script_enabled=scripts
        )  # fmt: skip
        contexts.append(made)
        return Tab(made.new_page(), site.url)

    yield make
    for each in contexts:
        each.close()


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OperatorSite, SeededFleet]]:
    """A site with an admin and the seeded fleet, shared by the tests of one file."""
    with operator_site(tmp_path_factory.mktemp("site") / "data") as site:
        site.add_operator()
        yield site, seed_fleet(site.context)


@pytest.fixture
def empty_site(tmp_path: Path) -> Iterator[OperatorSite]:
    """A site that nobody has set up yet."""
    with operator_site(tmp_path / "data") as site:
        yield site
