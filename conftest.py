"""For every test, doctests among them."""

from collections.abc import Iterator

import numpy as np
import pytest

_PLAIN = np.get_printoptions()


@pytest.fixture(autouse=True)
def _plain_numbers() -> Iterator[None]:
    """Importing Ultralytics changes how NumPy prints everywhere; doctests compare what is printed."""
    with np.printoptions(**_PLAIN):
        yield
