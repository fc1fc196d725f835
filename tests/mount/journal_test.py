"""A cloud with a journal at three sites: switched on in place; what was fsynced is there after kill -9
of the daemon under load, with one site away, and with the daemon's state put back from an old backup;
without a quorum fsync waits, and nothing fails."""

import json
import os
import shutil
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402


def journal(cloud):
    return json.loads(cloud.tool("journal", "status", "--json"))


class Writer(threading.Thread):
    """Makes files and fsyncs them, until told to stop."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.directory, self.synced, self.failure = directory, {}, None
        self.stopping = threading.Event()
        directory.mkdir()

    def run(self):
        number = 0
        try:
            while not self.stopping.is_set():
                name, contents = f"file{number}", os.urandom(100 + number % 7000)
                with open(self.directory / name, "wb") as file:
                    file.write(contents)
                    os.fsync(file.fileno())
                self.synced[name] = contents
                number += 1
        except OSError as error:
            self.failure = error

    def finish(self):
        self.stopping.set()
        self.join(60)
        check(not self.is_alive() and self.failure is None, "the writer met no error",
              str(self.failure))


def all_there(mount, writer, what):
    found = {name: (mount / writer.directory.name / name).read_bytes() for name in writer.synced}
    check(found == writer.synced, f"{len(found)} fsynced files are there {what}")


def enabled_in_place(cloud):
    (cloud.root / "mnt" / "before").write_text("from before the journal")
    check_equal(journal(cloud), {"used": False}, "a cloud without a journal says so")
    refused = cloud.run_tool("journal", "enable", "--site", "site1")
    check(refused.returncode == 1 and "--accept-weaker" in refused.stderr,
          "a journal weaker than the files is refused", refused.stderr)
    now = json.loads(cloud.tool("journal", "enable", "--json"))
    check_equal((now["used"], now["commit_sites"], now["losses_survived"], len(now["sites"])),
                (True, 2, 1, 3), "three sites hold the journal, two commit")
    again = json.loads(cloud.tool("journal", "enable", "--json"))
    check_equal(again["epoch"], now["epoch"], "switched on twice is switched on once")
    check_equal((cloud.root / "mnt" / "before").read_text(), "from before the journal",
                "what was there before")


def killed_under_load(cloud, mount):
    writer = Writer(mount / "load")
    writer.start()
    wait_for(lambda: len(writer.synced) > 20, 60, "the first files")
    cloud.take_away("site3")
    before = len(writer.synced)
    wait_for(lambda: len(writer.synced) > before + 20, 60, "files without a site")
    for _ in range(2):
        cloud.kill_daemon()
        cloud.start_daemon()
        before = len(writer.synced)
        wait_for(lambda: len(writer.synced) > before + 10, 60, "files after kill -9")
    writer.finish()
    cloud.put_back_and_wait("site3")
    wait_for(lambda: all(s["state"] == "ok" and s["behind"] == 0 for s in journal(cloud)["sites"]),
             60, "the site that was away to catch up")
    return writer


def no_quorum(cloud, mount):
    cloud.take_away("site2", "site3")
    wait_for(lambda: journal(cloud)["margin"] < 0, 30, "the journal to notice")
    check_equal(cloud.status()["health"], "failing", "status says that nothing becomes durable")
    os.mkdir(mount / "meanwhile")  # applied: its author is told
    done = threading.Event()

    def sync():
        directory = os.open(mount / "meanwhile", os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
        done.set()
    waiting = threading.Thread(target=sync, daemon=True)
    waiting.start()
    check(not done.wait(1.5), "fsync waits for a quorum")
    cloud.put_back("site2", "site3")
    check(done.wait(60), "and ends with it")
    waiting.join(10)
    wait_for(lambda: journal(cloud)["margin"] == 1, 60, "both sites to take entries again")


def put_back_from_backup(cloud, mount, backup, writer):
    mount.unmount()
    cloud.stop_daemon()
    shutil.rmtree(cloud.root / "state")
    shutil.copytree(backup, cloud.root / "state")
    cloud.start_daemon()
    mount.process = cloud.start_mount_process(mount.point, mount.log, mount.options)
    all_there(mount, writer, "after a backup of the state from before them was put back")


def test(options):
    with Cloud(sites=3, code="rs-2-1", create=False) as cloud:
        with open(cloud.config, "a") as config:
            config.write('\n[journal]\nsegment_bytes = "1MiB"\nbytes_max = "16MiB"\n')
        cloud.tool("create")
        old, backup = cloud.root / "state-old", cloud.root / "state-backup"
        shutil.copytree(cloud.root / "state", old)
        cloud.start_daemon()
        mount = cloud.mount()
        enabled_in_place(cloud)
        # A copy of a stopped daemon's directory, as operations.md has it.
        cloud.stop_daemon()
        shutil.copytree(cloud.root / "state", backup)
        cloud.start_daemon()
        writer = killed_under_load(cloud, mount)
        all_there(mount, writer, "after two kills with a site away")
        no_quorum(cloud, mount)
        put_back_from_backup(cloud, mount, backup, writer)
        check_equal((mount / "before").read_text(), "from before the journal", "and the first file")

        mount.unmount()
        cloud.stop_daemon()
        shutil.rmtree(cloud.root / "state")
        shutil.copytree(old, cloud.root / "state")
        try:
            cloud.start_daemon()
            raise harness.CheckFailed("a state from before the journal was served")
        except Exception as error:
            check("holds a journal of the cloud" in str(error),
                  "a state from before the journal is refused, with the reason", str(error))


if __name__ == "__main__":
    harness.main(test, 240)
