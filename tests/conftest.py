"""Fixtures that several tests share, and where the data shared between projects is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from browser import Site
    from playwright.async_api import Browser

SHARED = Path(os.environ.get("EGWALKER_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FIXTURES = Path(__file__).with_name("fixtures")

settings.register_profile(
    "default",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("default")


def shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set EGWALKER_SHARED to where the shared data is")
    return folder


@pytest.fixture(scope="session")
def conformance_folder() -> Path:
    """The shared conformance histories."""
    return shared_folder("conformance")


@pytest.fixture(scope="session")
def traces_folder() -> Path:
    """The shared editing traces."""
    return shared_folder("traces")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine() -> AsyncIterator[Browser]:
    """One browser for all tests, which share its event loop."""
    import browser  # noqa: PLC0415  (few tests need it, and it takes long to load)

    async with browser.launched() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def site(engine: Browser, tmp_path: Path) -> AsyncIterator[Site]:
    """A server of an empty folder, and people with browsers; fails the test if their pages did wrong."""
    import browser  # noqa: PLC0415

    screenshots = os.environ.get(browser.SCREENSHOTS)
    found = browser.Site(engine, tmp_path / "documents", Path(screenshots) if screenshots else None)
    await found.server.start()
    try:
        yield found
    finally:
        await found.close()
