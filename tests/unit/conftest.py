"""What unit tests of many files share."""

from __future__ import annotations

import pytest
from core_toys import small_model

from v2w_core.testing import geometric_config, tiny_config

#: Configurations whose rollouts are held to the same rules: with and without geometry.
KINDS = {"plain": tiny_config, "geometric": geometric_config}


@pytest.fixture(scope="module", params=KINDS)
def make_config(request):
    """Configuration of a small model, by its size."""
    return KINDS[request.param]


@pytest.fixture(scope="module")
def model():
    """One for the tests of a file: they leave it as it is."""
    return small_model()
