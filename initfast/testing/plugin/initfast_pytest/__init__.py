"""The pytest plugin: the fixture `initfast`, and a baseline for initialisations.

pytest imports it at the start of every run, in any project of the environment. It is a package of
its own because importing anything of `initfast` imports torch: that waits until a test asks for the
fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from initfast.testing.baselines import Baselines, Checks

_KEY: pytest.StashKey[Baselines] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("initfast", "how signals propagate at initialisation")
    group.addoption(
        "--initfast-baseline",
        metavar="FILE",
        help="the reports that initfast.assert_unchanged compares with",
    )
    group.addoption(
        "--initfast-update",
        action="store_true",
        help="write the reports of this run to that file, in the place of comparing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot work before any test runs."""
    if not config.getoption("--initfast-update"):
        return
    if config.getoption("--initfast-baseline") is None:
        raise pytest.UsageError("--initfast-update needs --initfast-baseline FILE, which it writes")
    if hasattr(config, "workerinput"):
        raise pytest.UsageError("--initfast-update writes one file; run it without -n")


@pytest.fixture
def initfast(request: pytest.FixtureRequest) -> Checks:
    """`initfast.assert_healthy(net, x)` and `initfast.assert_unchanged(net, x)`."""
    from initfast.testing.baselines import Baselines, Checks

    config = request.config
    if _KEY not in config.stash:
        path = config.getoption("--initfast-baseline")
        config.stash[_KEY] = Baselines(path, bool(config.getoption("--initfast-update")))
    return Checks(config.stash[_KEY], request.node.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the baseline if it is to be updated."""
    if _KEY in session.config.stash:
        session.config.stash[_KEY].save()
