"What tests share: a browser, looked for once, when the first test that needs it runs."
import pytest
from chromium import find_chromium


@pytest.fixture(scope="session")
def chromium_path():
    "Where a Chromium is; where none can be had, the test skips and says why."
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = find_chromium()
    if found.path is None: pytest.skip(f"no Chromium: {found.why}")
    return found.path
