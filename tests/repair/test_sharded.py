"""initialize_ on shards: every rank writes its own, and all make what one process makes."""

from ranks import initialized, launch


def test_two_ranks(tmp_path):
    launch.run([initialized.shards_gather_to_what_one_process_makes], 2, tmp_path)
