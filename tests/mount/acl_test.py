"""POSIX ACLs: the same operations give the same on a mount and on the local file system, by system calls
and by programs; what one mount sets holds on another at once; listings cost no request for each file.
And more extended attributes of a file than anybody wants."""

import errno
import os
import pickle
import random
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import acls  # noqa: E402
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402

USER, GROUP = 1001, 1003


def apart(call):
    """What call() gives in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            seen = call()
            with os.fdopen(write, "wb") as out:
                pickle.dump(seen, out)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as source:
        data = source.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("the process failed")
    return pickle.loads(data)


def as_user(call, user=USER, group=USER):
    """call()'s value, or an errno's name."""
    def run():
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
        try:
            return call()
        except OSError as error:
            return errno.errorcode[error.errno]
    return apart(run)


def may(path, flags=os.O_RDONLY):
    return as_user(lambda: os.close(os.open(path, flags))) is None


def random_operations(mount, local, rng, count, length):
    for _ in range(count):
        seed = rng.randrange(1 << 32)
        script = acls.random_script(random.Random(seed), length)
        seen = []
        for base in (mount.point, local):
            root = base / "random"
            root.mkdir()
            os.chmod(root, 0o777)
            seen.append(apart(lambda root=root: acls.run(root, script)))
            shutil.rmtree(root)
        for number, (ours, theirs) in enumerate(zip(*seen)):
            if ours != theirs:
                what = script[number] if number < len(script) else "the tree at the end"
                history = "\n".join(f"    {script[i]} -> {seen[1][i]}"
                                    for i in range(max(0, number - 12), min(number, len(script))))
                check(False, f"script {seed}, operation {number}: {what}",
                      f"mount {ours}, local {theirs}\n  before it:\n{history}")
        check_equal(len(seen[0]), len(seen[1]), f"script {seed} of {length} operations: no difference")


# Everything that it prints is compared.
PROGRAMS = r"""
exec 2>&1
export LC_ALL=C
see() { getfacl -n "$@"; stat -c '%n %a %u %g %F' "$@"; }
umask 027
mkdir d; setfacl -m u:1001:rwx,g:1003:r-x,d:u:1001:rwX,d:g:1003:r-x,d:o::- d; see d
touch d/f; mkdir d/sub; mkfifo d/p; ln -s f d/l; mknod d/n c 1 3; see d/f d/sub d/p d/n
touch d/sub/g; chmod 640 d/sub/g; see d/sub/g; chmod g+w d/sub/g; see d/sub/g
setfacl -x u:1001 d/f; see d/f; setfacl -b d/f; see d/f
setfacl -k d/sub; touch d/sub/h; see d/sub d/sub/h
setfacl -m m::r d/sub/h; see d/sub/h; setfacl -n -m u:7:rwx d/sub/h; see d/sub/h
cp -a d copy; see copy copy/f copy/sub copy/sub/g copy/p
cp d/sub/g plain; see plain; cp -p d/sub/g kept; see kept
mv d/sub/g moved; see moved; ln moved linked; setfacl -m u:8:r linked; see moved
mkdir synced untarred; rsync -aA d/ synced/; see synced synced/f synced/sub synced/sub/h
tar --acls -C d -cf - . | tar --acls -C untarred -xpf -; see untarred untarred/f untarred/sub untarred/sub/h
getfacl -R -n d > saved; setfacl -R -b d; see d d/sub; setfacl --restore=saved; see d d/f d/sub
setfacl -m u:1001:rw l d/l; setfacl -d -m u:1001:rw d/f; echo $?
chmod 2770 d; chgrp 1003 d; mkdir d/grouped; see d d/grouped
install -m 604 /dev/null d/installed; see d/installed
ls -l d | tail -n +2 | cut -c1-11
"""


def programs(mount, local):
    seen = []
    for base in (mount.point, local):
        root = base / "programs"
        root.mkdir()
        done = subprocess.run(["bash", "-c", PROGRAMS], cwd=root, capture_output=True, text=True, check=False)
        seen.append(done.stdout.splitlines())
        shutil.rmtree(root)
    check(len(seen[1]) > 200, "the programs work on the local file system", seen[1][-3:])
    differing = [pair for pair in zip(*seen) if pair[0] != pair[1]]
    check(seen[0] == seen[1], f"{len(seen[1])} lines of setfacl, getfacl, cp, rsync, tar and ls are the same",
          (differing[:3], len(seen[0]), len(seen[1])))


def between_mounts(one, two):
    for top, path in ((one / "f", two / "f"), (one / "open", two / "open" / "inside")):
        directory = path.name == "inside"
        top.mkdir() if directory else top.write_text("text")
        if directory:
            (top / "inside").write_text("text")
        os.chmod(top, 0o700 if directory else 0o600)
        steps = []
        for _ in range(5):
            steps.append(may(path))
            os.setxattr(top, acls.ACCESS, acls.acl(7, 0, 0, users=[(USER, 5)]))
            steps.append(may(path))
            os.chmod(top, 0o700)  # the mask
            steps.append(may(path))
            os.chmod(top, 0o750)
            steps.append(may(path))
            os.removexattr(top, acls.ACCESS)
            os.chmod(top, 0o700)
        check_equal(steps, [False, True, False, True] * 5, f"{path.name}: the other mount's program may at once")
    (one / "shared").mkdir()
    default = acls.acl(7, 0, 0, users=[(USER, 6)])
    seen = []
    for i in range(5):
        os.setxattr(one / "shared", acls.DEFAULT, default)
        (two / "shared" / f"with{i}").touch()
        os.removexattr(one / "shared", acls.DEFAULT)
        (two / "shared" / f"without{i}").touch()
        seen += [may(one / "shared" / f"with{i}", os.O_RDWR), may(one / "shared" / f"without{i}", os.O_RDWR)]
    os.chmod(one / "shared", 0o755)
    check_equal(seen, [True, False] * 5, "what is made on the other mount has the default ACL of that moment")


def requests(cloud):
    return cloud.status()["operations"].get("getxattr", 0)


def counted(cloud, one):
    top = one / "many"
    top.mkdir()
    for i in range(60):
        (top / f"f{i}").touch()
        if i % 2:
            os.setxattr(top / f"f{i}", "user.x", b"1")  # attributes, and no ACL
    os.mkdir(top / "plain")
    for i in range(60):
        (top / "plain" / f"f{i}").touch()
    look, look_plain = ["ls", "-l", str(top)], ["ls", "-l", str(top / "plain")]
    one.remount()
    before = requests(cloud)
    for _ in range(3):
        as_user(lambda: subprocess.run(look_plain, check=True, capture_output=True).returncode)
    check_equal(requests(cloud), before, "ls -l of 60 files without attributes makes no request for any")
    as_user(lambda: subprocess.run(look, check=True, capture_output=True).returncode)
    first = requests(cloud) - before
    check(first <= 30, "of those with attributes one, for security.selinux", first)
    for _ in range(3):
        as_user(lambda: subprocess.run(look, check=True, capture_output=True).returncode)
    check_equal(requests(cloud) - before, first, "and none when looking again")
    for i in range(10):
        os.setxattr(top / f"f{i}", acls.ACCESS, acls.acl(6, 4, 4, users=[(77, 4)]))
    shown = as_user(lambda: subprocess.run(look, check=True, capture_output=True, text=True).stdout)
    check_equal(sum("+" in line.split()[0] for line in shown.splitlines()[1:]), 10, "ls -l shows ten ACLs")
    before = requests(cloud)
    for _ in range(3):
        os.chmod(top, 0o755)  # has the kernel ask for the directory again
        as_user(lambda: subprocess.run(look, check=True, capture_output=True).returncode)
    check_equal(requests(cloud), before, "those that are known cost none either")
    os.setxattr(one.point, acls.ACCESS, acls.acl(7, 5, 5, users=[(USER, 5)]))
    before = requests(cloud)
    as_user(lambda: [os.stat(top / f"f{i}") for i in range(60)] and 0)
    check(requests(cloud) - before <= 1, "nor does an ACL of the root, which the kernel never keeps")
    os.removexattr(one.point, acls.ACCESS)
    os.chmod(one.point, 0o755)


def without_the_feature(cloud, one):
    top = one / "before"
    top.mkdir()
    expect_errno(errno.EOPNOTSUPP, "a cloud without the feature keeps no ACL", os.setxattr, top, acls.ACCESS,
                 acls.acl(7, 5, 5, users=[(USER, 7)]))
    check_equal((acls.attribute(top, acls.ACCESS), acls.attribute(top, acls.DEFAULT)), ("ENODATA",) * 2,
                "and says that there is none")
    old = os.umask(0o027)
    (top / "f").touch()
    (top / "d").mkdir()
    os.umask(old)
    check_equal((oct(os.stat(top / "f").st_mode), oct(os.stat(top / "d").st_mode)), ("0o100640", "0o40750"),
                "the umask is applied")
    os.chmod(top, 0o711)
    check(may(top / "d") is False and as_user(lambda: os.stat(top / "f").st_size) == 0, "modes hold")
    cloud.tool("feature", "enable", "posix-acl")


def can_set(directory):
    try:
        os.setxattr(directory, acls.DEFAULT, acls.acl(7, 5, 5, users=[(USER, 7)]))
    except OSError:
        return False
    (directory / "probe").touch()
    made = acls.attribute(directory / "probe", acls.ACCESS) != "ENODATA"
    os.unlink(directory / "probe")
    os.removexattr(directory, acls.DEFAULT)
    return made


def mapped(cloud, one):
    ids = cloud.root / "ids"
    ids.write_text("uid 0 0\nuid 1001 2001\ngid 0 0\ngid 1003 2003\n")
    there = cloud.mount(f"uidmap={ids}", name="mapped")
    path = one / "mapped file"
    path.write_text("text")
    os.chmod(path, 0o600)
    os.setxattr(path, acls.ACCESS, acls.acl(6, 0, 0, users=[(1001, 4), (77, 6)], groups=[(1003, 2)]))
    seen = acls.attribute(there / path.name, acls.ACCESS)
    check_equal([(tag, who) for tag, _, who in seen if who != acls.NO_ID],
                [(acls.USER, 2001), (acls.USER, 0xFFFFFFFE), (acls.GROUP, 2003)], "ids inside ACLs are mapped")
    check_equal([as_user(lambda who=who: os.close(os.open(there / path.name, os.O_RDONLY)), user=who, group=who)
                 for who in (2001, 1001, 77, 65534)], [None, "EACCES", "EACCES", "EACCES"],
                "the mapped user may read, nobody else")
    expect_errno(errno.EOVERFLOW, "an ACL that shows nobody's id is not written back", os.setxattr,
                 there / path.name, acls.ACCESS, acls.encode(seen))
    os.setxattr(there / path.name, acls.ACCESS, acls.acl(6, 0, 0, users=[(2001, 6)], groups=[(2003, 2)]))
    check_equal([(tag, bits, who) for tag, bits, who in acls.attribute(path, acls.ACCESS) if who != acls.NO_ID],
                [(acls.USER, 6, 1001), (acls.GROUP, 2, 1003)], "and back")
    there.unmount()


def large(one):
    path = one / "large"
    path.touch()
    for count, made in ((507, "done"), (508, "E2BIG")):
        wanted = acls.acl(7, 5, 5, users=[(10_000 + i, i % 8) for i in range(count)])
        try:
            os.setxattr(path, acls.ACCESS, wanted)
            seen = "done"
        except OSError as error:
            seen = errno.errorcode[error.errno]
        check_equal(seen, made, f"an ACL of {count + 4} entries")
    check_equal(len(acls.attribute(path, acls.ACCESS)), 511, "which is read whole")


def many_attributes(cloud, one):
    path = one / "attributed"
    path.write_text("text")
    wanted = {f"user.attribute-{i:04}": b"%d" % i for i in range(2000)}
    for name, value in wanted.items():
        os.setxattr(path, name, value)
    one.remount()
    check_equal(set(os.listxattr(path)), set(wanted), "2000 attributes are listed")
    names = sorted(wanted)[::97]
    check_equal({n: os.getxattr(path, n) for n in names}, {n: wanted[n] for n in names}, "and read")
    long = "x" * 240
    made = 0
    try:
        for made in range(400):
            os.setxattr(path, f"user.{long}{made:04}", b"")
    except OSError as error:
        check_equal(error.errno, errno.ENOSPC, "more than 64 KiB of names are refused")
    check(50 < made < 150, "as many as fit are taken", made)
    check(len("\0".join(os.listxattr(path))) < 65536, "the listing is what the kernel passes on")
    for name in sorted(wanted)[:1000]:
        os.removexattr(path, name)
    check_equal(len(os.listxattr(path)), 1000 + made, "removed ones are gone")
    os.unlink(path)
    wait_for(lambda: cloud.run_tool("fsck", "-n").returncode == 0, 30, "fsck to find nothing")
    note("ok: the file is freed with its attributes")


def test(options):
    rng = random.Random(options.seed)
    with Cloud(features="times,trees,file-flags,shared-slots") as cloud:
        local = cloud.root / "local"
        local.mkdir()
        os.chmod(cloud.root, 0o755)
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        without_the_feature(cloud, one)
        # Mounts hear of features with their next keepalive; ACLs hold all the same.
        wait_for(lambda: can_set(one / "before") and can_set(two / "before"), 20, "the mounts to know the feature")
        programs(one, local)
        random_operations(one, local, rng, 6, 250)
        between_mounts(one, two)
        counted(cloud, one)
        mapped(cloud, one)
        large(one)
        many_attributes(cloud, one)
        (one / "kept").mkdir()
        os.setxattr(one / "kept", acls.DEFAULT, acls.acl(7, 5, 5, users=[(USER, 7)]))
        (one / "kept" / "f").touch()
        before = [acls.look(one / "kept"), acls.look(one / "kept" / "f")]
        subprocess.run(["sync", one.point], check=True)
        cloud.kill_daemon()
        cloud.start_daemon()
        check_equal([acls.look(two / "kept"), acls.look(two / "kept" / "f")], before, "the daemon's end changes none")
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "fsck finds nothing")
        one.unmount()
        two.unmount()


if __name__ == "__main__":
    harness.main(test, 200)
