"""Checks of a net for test suites, and of a parametrisation against its width."""
