"""Fixtures that several tests share, and where the data shared between projects is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
