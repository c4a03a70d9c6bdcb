"""Fixtures that several files here share."""

from tests.unit.study_fixture import lived, lived_once

__all__ = ["lived", "lived_once"]
