"""The harness itself: links delay, are cut and heal; counters count; nothing outlives its owner."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BASE, SLOWNESS, wait_for  # noqa: E402
from harness import check, note  # noqa: E402

SUPPORT = Path(__file__).resolve().parents[1] / "support"


def control(directory, *words):
    return subprocess.run([SUPPORT / "ceph-sites.sh", *words, "--dir", directory], check=True,
                          capture_output=True, text=True, timeout=120).stdout


def seconds_to_connect(address, port, patience):
    """None when there is no answer."""
    began = time.monotonic()
    try:
        socket.create_connection((address, port), patience).close()
    except TimeoutError:
        return None
    return time.monotonic() - began


def processes_of(directory):
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{directory}/".encode() in words:
                found.append(words.replace(b"\0", b" ").decode())
    return found


def links_do_as_told(directory):
    site = json.loads(control(directory, "status", "--json"))["sites"][0]
    place = site["address"], site["port"]
    slow = seconds_to_connect(*place, 10)
    check(0.08 <= slow < 0.08 + 2 * SLOWNESS, f"a round trip of 80 ms takes {slow * 1e3:.0f} ms")
    control(directory, "link", "site1", "--cut")
    check(seconds_to_connect(*place, 1.5) is None, "nothing passes a cut link")
    dropped = json.loads(control(directory, "counters", "--json"))[0]["to_site"]["dropped"]
    check(dropped > 0, "and is counted as lost")
    control(directory, "link", "1", "--heal", "--rtt", "0ms")
    before = json.loads(control(directory, "counters", "--json"))[0]["to_site"]
    check(seconds_to_connect(*place, 5) is not None, "a healed link passes")
    after = json.loads(control(directory, "counters", "--json"))[0]["to_site"]
    check(after["packets"] > before["packets"], "and counts")


def test(options):
    del options.rounds
    starter = subprocess.Popen([SUPPORT / "with-ceph-sites.sh", "1", "--no-class", "--rtt", "80ms",
                                "--", "sleep", "300"], start_new_session=True)
    directory = BASE / f"dcsites-{starter.pid}"
    try:
        began = time.monotonic()

        def serves():
            return "rtt" in subprocess.run([SUPPORT / "ceph-sites.sh", "status", "--json", "--dir",
                                            directory], capture_output=True, text=True,
                                           timeout=60).stdout and links_are_set()

        def links_are_set():
            return json.loads(control(directory, "counters", "--json"))[0]["rtt_ms"] == 80

        wait_for(serves, 60, "the site")
        note(f"up after {time.monotonic() - began:.1f} s")
        links_do_as_told(directory)
        device = json.loads((directory / "sites.json").read_text())["device"]
        check(len(processes_of(directory)) >= 3, "relay, monitor and OSD run",
              processes_of(directory))
    finally:
        # The shell and its command, without a chance to clean up.
        os.killpg(starter.pid, signal.SIGKILL)
        starter.wait()
    # The kernel takes a device away a moment after its last owner.
    wait_for(lambda: not directory.exists() and not processes_of(directory)
             and not Path("/sys/class/net", device).exists(), 40,
             "processes, files and devices of a killed owner to be gone")


if __name__ == "__main__":
    harness.main(test, 180)
