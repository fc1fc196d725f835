"""datacloud watch: what two mounts change, in inotifywait's lines; with the daemon's end in between."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, SLOWNESS, Cloud, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402


class Watch:
    """A watch under way, and its lines so far."""

    def __init__(self, cloud, *arguments):
        self.lines = []
        self.process = subprocess.Popen([BUILD / "bin" / "datacloud", "--config", cloud.config, "watch",
                                         *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check_equal(self.process.stderr.readline(), "Watches established.\n", "it says when it has begun")
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def expect(self, *wanted):
        """These lines come, in this order, among others."""
        def there():
            rest = iter(list(self.lines))
            return all(line in rest for line in wanted)

        wait_for(there, 30 * SLOWNESS, f"the lines {wanted}")
        harness.note(f"ok: {len(wanted)} lines, the last is {wanted[-1]}")

    def end(self):
        self.process.terminate()
        self.process.wait()


def two_mounts(cloud, one, two):
    top = one / "watched"
    (top / "sub").mkdir(parents=True)
    (top / "old").write_bytes(b"x")
    watch = Watch(cloud, "-m", "-r", str(top))
    there = two / "watched"
    (there / "f").write_bytes(b"hello")
    with open(there / "f", "r+b") as file:
        os.fsync(file.fileno())
    os.chmod(there / "f", 0o600)
    os.rename(there / "f", there / "sub" / "g")
    (one / "watched" / "sub" / "deep").mkdir()
    (two / "watched" / "sub" / "deep" / "n").touch()
    os.unlink(two / "watched" / "sub" / "g")
    (one / "unwatched").touch()
    watch.expect(f"{top}/ CREATE f", f"{top}/ MODIFY f", f"{top}/ CLOSE_WRITE,CLOSE f", f"{top}/ ATTRIB f",
                 f"{top}/ MOVED_FROM f", f"{top}/sub/ MOVED_TO g", f"{top}/sub/ CREATE,ISDIR deep",
                 f"{top}/sub/deep/ CREATE n", f"{top}/sub/ DELETE g")
    check(not [line for line in watch.lines if "unwatched" in line], "nothing of what is elsewhere")
    cloud.kill_daemon()
    cloud.start_daemon()
    wait_for(lambda: "Q_OVERFLOW" in watch.lines, 60 * SLOWNESS, "the watch to tell of the daemon's end")
    (there / "after").touch()
    watch.expect(f"{top}/ CREATE after")
    watch.end()


def options(cloud, one, two):
    watch = Watch(cloud, "-e", "delete,close_write", "--json", str(one / "watched"))
    (two / "watched" / "p").touch()
    os.unlink(two / "watched" / "p")
    check_equal(watch.process.wait(timeout=60 * SLOWNESS), 0, "without -m it ends with the first event")
    watch.reader.join()
    check_equal([json.loads(line) for line in watch.lines],
                [{"directory": f"{one.point}/watched/", "events": ["DELETE"], "name": "p"}], "--json, -e")
    done = cloud.run_tool("watch", "-q", "-t", "1", str(one / "watched"))
    check_equal((done.returncode, done.stdout, done.stderr), (2, "", ""), "its time-out has inotifywait's code")
    outside = cloud.run_tool("watch", "/")
    check(outside.returncode == 1 and "below a mount" in outside.stderr, "elsewhere there is nothing to watch")


def test(_):
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        two_mounts(cloud, one, two)
        options(cloud, one, two)
        one.unmount()
        two.unmount()


if __name__ == "__main__":
    harness.main(test, 120)
