"""Assertions of the shared checks explain themselves."""

import pytest

pytest.register_assert_rewrite("contract.exactness", "contract.rows")
