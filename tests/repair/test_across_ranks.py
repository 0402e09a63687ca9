"""audit(net, group=): replicas that differ and shards that are equal, in real processes."""

import pytest
from ranks import audits, launch


@pytest.mark.parametrize("number", [2, 4])
def test_ranks_are_compared(number, tmp_path):
    launch.run(audits.CHECKS, number, tmp_path)
