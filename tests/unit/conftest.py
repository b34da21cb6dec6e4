"""What unit tests of many files share."""

from __future__ import annotations

import pytest
from core_toys import small_model


@pytest.fixture(scope="module")
def model():
    """One for the tests of a file: they leave it as it is."""
    return small_model()
