"""The command as a process: interrupts, and readers that leave."""

import signal
import subprocess
import sys

import pytest
from cases.commands import NETS

pytestmark = pytest.mark.usefixtures("folder")


def start(folder, *arguments):
    """The console script, in a folder with a package of our name."""
    (folder / "initfast").mkdir()
    (folder / "initfast" / "__init__.py").write_text("raise SystemExit('the wrong initfast')")
    (folder / "bin").mkdir()
    script = folder / "bin" / "run"
    script.write_text("import sys\nfrom initfast.cli.main import run\nsys.exit(run())\n")
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_interrupt_is_one_line_and_leaves_nothing_half_written(folder):
    (folder / "slow.py").write_text(
        NETS
        + "\n\ndef slow():\n    import time\n    print('here', flush=True)\n    time.sleep(60)\n"
    )
    process = start(folder, "profile", "slow:slow", "--input", "1", "--output", "out.txt")
    while process.stderr.readline() != "here\n":
        pass
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "initfast: interrupted\n"
    assert process.returncode == 130
    assert not (folder / "out.txt").exists()


def test_a_reader_that_leaves_gets_the_runs_status(folder):
    process = start(folder, "profile", "toys:loud", "--input", "16,64")
    process.stdout.close()
    assert process.stderr.read() == "printed by the user\n"
    assert process.wait() == 1
    process.stderr.close()
