"""Options of mount(8) and fstab, remounting, and what is mounted already, all through mount(8)."""

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, Cloud, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402
from mount8 import in_own_sbin  # noqa: E402

# What is written stays in the mount's memory: only what is asked for becomes durable.
LAZY = "flush_after_ms=3600000,close_flush_after_ms=3600000"
# SIGKILL for the process of the mount, and away with the dead mount point.
KILL = """
  kill_mount() {
    for p in $(pgrep -x mount.datacloud); do
      if tr '\\0' '\\n' </proc/$p/cmdline | grep -qxF $m; then kill -9 $p; fi
    done
  }
"""


def lines_of(done):
    return [line.strip() for line in done.stdout.splitlines()]


def flags_are_set(cloud):
    """(options for mount -o, what the kernel's table shows, what it does not show)."""
    cases = [
        ("defaults,auto,_netdev,nofail,nouser,diratime,x-initrd.mount,comment=a-word",
         "rw relatime", "nosuid nodev noexec"),
        ("nodiratime,lazytime,nosuid,nodev,noexec", "nodiratime lazytime nosuid nodev noexec", ""),
        ("noauto,user,exec", "nosuid nodev", "noexec"),
        ("noatime,strictatime,dirsync,nosymfollow", "dirsync nosymfollow", "noatime relatime"),
        ("ro,sync,relatime,noatime", "ro sync noatime", "relatime"),
    ]
    script = "".join(f"mount -t datacloud $conf $m -o {options}; mounted; umount $m; gone\n"
                     for options, _, _ in cases)
    done = in_own_sbin(cloud, script)
    check(done.returncode == 0, "every option of mount(8) is taken", done.stderr)
    for (options, shown, hidden), line in zip(cases, lines_of(done), strict=True):
        seen = set(line.split()[2].split(","))
        check(seen.issuperset(shown.split()) and not seen & set(hidden.split()),
              f"mount -o {options}", line)


def wrong_options_are_one_line(cloud):
    for options, words in [
        ("noload", ["-o noload", "unknown option"]),
        ("rw,errors=remount-ro", ["-o errors=remount-ro", "unknown option"]),
        ("iversion", ["-o iversion"]),
        ("mand", ["-o mand"]),
        ("threads=0", ["threads", "between 1 and 256"]),
        ("cache_bytes_max", ["cache_bytes_max", "needs a value"]),
        ("user_id=0", ["-o user_id=0", "unknown option"]),
    ]:
        done = in_own_sbin(cloud, f"mount -t datacloud $conf $m -o {options}")
        text = done.stderr.strip()
        check(done.returncode == 1 and "\n" not in text and "mount.datacloud(8)" in text
              and all(w in text for w in words), f"mount -o {options}: one line and a pointer",
              f"status {done.returncode}: {text}")
    sloppy = in_own_sbin(cloud, "mount -s -t datacloud $conf $m -o noload; mounted; umount $m; gone")
    check(sloppy.returncode == 0, "mount -s leaves unknown options out", sloppy.stderr)


def wrong_words_are_one_line(_cloud):
    """Wrong arguments of every program: its exit code for them, the word, and where to read on."""
    cases = [
        ("mount.datacloud", 1, "mount.datacloud(8)", [
            ([], "configuration file"), (["only-one"], "mount point"), (["a", "b", "c"], '"c"'),
            (["--wrong", "a", "b"], "--wrong"), (["a", "b", "-o"], "-o needs")]),
        ("datacloudd", 2, "datacloudd(8)", [
            ([], "--config"), (["--config"], "--config"), (["--wrong"], "--wrong"),
            (["--config", "a", "b"], '"b"')]),
        ("datacloud", 2, "datacloud(1)", [
            ([], "subcommand"), (["locat"], "locat"), (["status", "--wrong"], "--wrong"),
            (["locate"], "PATH"), (["key"], "subcommand"), (["key", "bakup"], "bakup"),
            (["gc", "more"], "more"), (["status", "--interval", "0"], "--interval"),
            (["--config"], "--config"), (["repair", "--plan", "x"], "--plan")]),
        ("datacloud", 16, "datacloud(1)", [(["fsck", "--wrong"], "--wrong")]),
        ("datacloud-audit", 2, "datacloud-audit(8)", [([], "--bundle"), (["--wrong"], "--")]),
    ]
    for program, status, page, wrong in cases:
        for arguments, word in wrong:
            done = subprocess.run([BUILD / "bin" / program, *arguments], capture_output=True,
                                  text=True, timeout=30)
            check(done.returncode == status and done.stderr.strip().count("\n") == 0
                  and not done.stdout and word in done.stderr and page in done.stderr,
                  f"{program} {' '.join(arguments)}: a line with the word and a pointer",
                  f"status {done.returncode}: {done.stdout}{done.stderr}")


def remount_loses_nothing(cloud):
    """Data that nobody synced is durable once a mount is read-only."""
    (cloud.root / "fstab").write_text(
        f"{cloud.config} {cloud.root}/m8 datacloud defaults,_netdev,nofail,{LAZY} 0 0\n")
    done = in_own_sbin(cloud, KILL + """
      mount --fstab $root/fstab $m
      head -c 3000000 /dev/urandom >$root/local; cp $root/local $m/unsynced
      exec 7>>$m/open
      status=0; mount --fstab $root/fstab -o remount,ro $m || status=$?; echo $status; mounted
      echo line >&7; exec 7>&-
      mount --fstab $root/fstab -o remount,ro $m; mounted
      touch $m/x || echo refused
      cmp $root/local $m/unsynced
      kill_mount; umount -l $m; gone
      mount --fstab $root/fstab $m; cmp $root/local $m/unsynced; cat $m/open
      umount $m; gone
    """)
    check(done.returncode == 0, "mount -o remount,ro with unsynced data, then kill -9",
          done.stdout + done.stderr)
    busy, after_busy, now_ro, refused, content = lines_of(done)
    check(busy == "32" and " rw" in after_busy and "open for writing" in done.stderr,
          "a file that is open for writing: EBUSY with the remedy, still writable", done.stderr)
    check(" ro" in now_ro and refused == "refused", "read-only after its close", now_ro)
    check_equal(content, "line", "what the open file got in between is there too")


def remount_fails_whole(cloud):
    """When the data cannot be stored the mount stays writable, and keeps them."""
    done = in_own_sbin(cloud, f"""
      mount -t datacloud $conf $m -o {LAZY},put_deadline_ms=2000
      head -c 300000 /dev/urandom >$root/local; cp $root/local $m/waiting
      for s in 1 2 3; do mv $root/sites/site$s $root/away$s; done
      status=0; mount -o remount,ro $m || status=$?; echo $status; mounted
      for s in 1 2 3; do mv $root/away$s $root/sites/site$s; done
      for i in $(seq 60); do mount -o remount,ro $m 2>/dev/null && break; sleep 0.5; done
      mounted; umount $m; gone
      mount -t datacloud $conf $m; cmp $root/local $m/waiting; umount $m; gone
    """)
    check(done.returncode == 0, "remount,ro without enough sites, and with", done.stdout + done.stderr)
    status, still, now = lines_of(done)
    check(status == "32" and " rw" in still and "not read-only, because data could not be written"
          in done.stderr, "it fails, and the mount stays writable", done.stdout + done.stderr)
    check(" ro" in now, "and works once the sites are back", now)


def remount_changes_flags(cloud):
    """By the kernel's table alone (no fstab), and back."""
    changes = [("noatime,nosuid", "rw noatime nosuid"), ("ro", "ro noatime nosuid"),
               ("rw,suid,relatime", "rw relatime"), ("nodiratime,strictatime", "rw nodiratime"),
               ("relatime,diratime,lazytime,noexec,nodev", "rw relatime lazytime noexec nodev"),
               ("sync,nolazytime", "rw relatime sync noexec nodev"),
               ("async,exec,dev", "rw relatime")]
    script = ("mount -t datacloud $conf $m\n"
              + "".join(f"mount -o remount,{o} $m; mounted\n" for o, _ in changes)
              + "mount -o remount $m; mounted; umount $m; gone")
    done = in_own_sbin(cloud, script)
    check(done.returncode == 0, "mount -o remount with flags", done.stderr)
    known = {"rw", "ro", "noatime", "nosuid", "relatime", "nodiratime", "lazytime", "noexec",
             "nodev", "sync", "dirsync", "nosymfollow"}
    for (options, shown), line in zip(changes + [("(none)", "rw relatime")], lines_of(done),
                                      strict=True):
        check_equal(set(line.split()[2].split(",")) & known, set(shown.split()),
                    f"mount -o remount,{options}")


def own_options_stay(cloud):
    done = in_own_sbin(cloud, """
      mount -t datacloud $conf $m -o site=site1,cache_bytes_max=64MiB
      for o in cache_bytes_max=64MiB,ro cache_bytes_max=1GiB,rw site=site2 noallow_other dirsync; do
        status=0; mount -o remount,$o $m || status=$?; echo $o $status
      done
      mounted; umount $m; gone
      status=0; mount -t datacloud -o remount,ro $conf $m || status=$?; echo none $status
    """)
    check_equal(lines_of(done)[:5],
                ["cache_bytes_max=64MiB,ro 0", "cache_bytes_max=1GiB,rw 1", "site=site2 1",
                 "noallow_other 1", "dirsync 1"], "options of the mount itself cannot change")
    check(" ro" in lines_of(done)[5], "a refused remount changes nothing", done.stdout)
    check_equal(lines_of(done)[6], "none 32", "a remount of what is not mounted")
    errors = done.stderr.strip().splitlines()
    check(len(errors) == 5 and "-o cache_bytes_max=1GiB: cannot change" in errors[0]
          and "no Data Cloud mount" in errors[4], "and each is told in a line", done.stderr)


def sync_is_durable(cloud):
    """-o sync, set by a remount: what a program has written survives kill -9 of the mount."""
    done = in_own_sbin(cloud, KILL + f"""
      mount -t datacloud $conf $m -o {LAZY}
      mount -o remount,sync $m
      head -c 300000 /dev/urandom >$root/local; cp $root/local $m/synced; mkdir $m/made
      kill_mount; umount -l $m; gone
      mount -t datacloud $conf $m; cmp $root/local $m/synced; stat -c %F $m/made; umount $m; gone
    """)
    check(done.returncode == 0, "mount -o remount,sync: writes are durable", done.stdout + done.stderr)


def nothing_is_hidden(cloud):
    """A living mount is not mounted over; a dead one, and other file systems, do not stand in the way."""
    done = in_own_sbin(cloud, KILL + """
      mount -t datacloud $conf $m
      status=0; mount -t datacloud $conf $m || status=$?; echo $status
      cd $m; status=0; $root/sbin/mount.datacloud $conf . || status=$?; echo $status; cd /
      grep -c " $m " /proc/self/mountinfo
      mkdir -p $root/second; mount -t datacloud $conf $root/second
      echo seen >$m/one; cat $root/second/one
      umount $root/second
      echo kept >$m/kept; sync $m
      kill_mount; for i in $(seq 100); do stat $m >/dev/null 2>&1 || break; sleep 0.1; done
      stat $m || true
      mount -t datacloud $conf $m; cat $m/kept; grep -c " $m " /proc/self/mountinfo; umount $m; gone
      mount -t tmpfs none $m; mount -t datacloud $conf $m; cat $m/kept; umount $m; umount $m; gone
    """)
    check(done.returncode == 0, "mounting twice, after a death, and over a tmpfs", done.stdout + done.stderr)
    check_equal(lines_of(done), ["32", "32", "1", "seen", "kept", "1", "kept"], "what each did")
    errors = done.stderr.splitlines()
    point = f"{cloud.root}/m8"
    for line in errors[:2]:
        check(f"{cloud.config} is mounted there already (mount.datacloud, process " in line
              and line.endswith(f"umount {point}"), "who is there, and how to unmount it", line)
    check("not connected" in errors[2], "after kill -9 the mount point is dead", errors[2])
    check(f"{point}: removed the mount of {cloud.config}, whose process had died" in errors[3],
          "and mounting again says that it removed it", errors[3])
    check_equal(len(errors), 4, "no other words")


def two_at_once(cloud):
    point = cloud.root / "race"
    point.mkdir()
    both = [subprocess.Popen([BUILD / "bin" / "mount.datacloud", cloud.config, point],
                             stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=90)[1] for p in both]
    check_equal(sorted(p.returncode for p in both), [0, 32], "of two mounts at once one succeeds")
    check(any("mounted there already" in s for s in said), "the other says why not", said)
    subprocess.run(["umount", point], check=True, timeout=60)


def access_times_are_daily(cloud):
    """With -o atime_daily opening for reading is told once a day, and changes nothing else."""
    day = 24 * 3600 * 10**9
    one, two = cloud.mount("atime_daily", name="daily"), cloud.mount(name="never")
    (one / "f").write_bytes(b"contents")

    def read(mount, flags=os.O_RDONLY):
        fd = os.open(mount / "f", flags)
        os.read(fd, 10)
        os.close(fd)

    def atime(mount):
        fd = os.open(mount / "f", os.O_WRONLY)  # the other mount asks anew
        os.close(fd)
        return os.stat(mount / "f").st_atime_ns
    old = time.time_ns() - 2 * day
    os.utime(one / "f", ns=(old, old))
    before = os.stat(one / "f")
    read(two)
    read(one, os.O_RDONLY | os.O_NOATIME)
    check_equal(atime(two), old, "without the option, or with O_NOATIME, reading changes no times")
    read(one)
    wait_for(lambda: atime(two) > old, 20, "the new access time")
    told = atime(two)
    check(time.time_ns() - told < day // 24, "opening for reading sets it")
    after = os.stat(two / "f")
    check_equal((after.st_mtime_ns, after.st_ctime_ns), (before.st_mtime_ns, before.st_ctime_ns), "no other time")
    read(one)
    os.utime(two / "f", ns=(told + 1, told + 1))
    read(one)
    check_equal(atime(two), told + 1, "and not twice a day")
    one.unmount()
    two.unmount()


def test(_options):
    with Cloud() as cloud:
        cloud.start_daemon()
        flags_are_set(cloud)
        wrong_options_are_one_line(cloud)
        wrong_words_are_one_line(cloud)
        remount_loses_nothing(cloud)
        remount_fails_whole(cloud)
        remount_changes_flags(cloud)
        own_options_stay(cloud)
        sync_is_durable(cloud)
        nothing_is_hidden(cloud)
        two_at_once(cloud)
        access_times_are_daily(cloud)
        wait_for(lambda: not any(m.get("connected") for m in cloud.status()["mounts"]), 60,
                 "all mounts to have said goodbye")


if __name__ == "__main__":
    harness.main(test, 300)
