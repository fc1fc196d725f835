"""tools/quickstart.sh --two-nodes: runs to its end, and leaves nothing behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, SOURCE  # noqa: E402
from harness import check, check_equal  # noqa: E402


def processes(word):
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (directory / "cmdline").read_bytes():
                found.append(int(directory.name))
        except OSError:
            continue
    return found


def test(options):
    state = Path(f"/tmp/datacloud-two-nodes-{os.getpid()}")
    quickstart = [SOURCE / "tools" / "quickstart.sh", "--two-nodes", "--built"]
    environment = {**os.environ, "DATACLOUD_BUILD": str(BUILD), "DATACLOUD_TWO_NODES": str(state),
                   "DATACLOUD_TWO_NODES_MB": "16"}
    before = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    done = subprocess.run(quickstart, env=environment, capture_output=True, text=True, timeout=150)
    check_equal(done.returncode, 0, f"it runs to its end {done.stderr[-2000:]}{done.stdout[-500:]}")
    for told in ("The link is back: the copy went on by itself", "laptop", "Both files are exact"):
        check(told in done.stdout, f"it says {told!r}", done.stdout[-2000:])

    def leaves_nothing(how):
        check(not state.exists(), f"{how}: its directory is gone")
        check_equal(processes(str(state)), [], f"{how}: no process is left")
        check_equal(subprocess.run(["ip", "netns"], capture_output=True, text=True,
                                   check=True).stdout, before, f"{how}: no name space is left")
    leaves_nothing("after its end")
    # Interrupted while it works.
    process = subprocess.Popen(quickstart, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    for _ in range(300):
        if (state / "node").exists() and list((state / "node").glob("*.toml")):
            break
        time.sleep(0.1)
    process.terminate()
    check_equal(process.wait(60), 130, "an interrupted one says so")
    leaves_nothing("interrupted")


if __name__ == "__main__":
    harness.main(test, 200)
