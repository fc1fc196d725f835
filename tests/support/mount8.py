"""mount(8) and umount(8) with our helpers: they look in /sbin, so a private copy of it is bound there."""

import subprocess

from cloud import BUILD, SLOWNESS, SOURCE


def in_own_sbin(cloud, script, seconds=90):
    """Runs a bash script where /sbin holds our helpers, in a mount name space of its own.

    It has $root, $conf and the mount point $m, and the functions mounted (type, source and options of
    what is there) and gone (waits until nothing is).
    """
    prelude = f"""
      set -eu
      root={cloud.root} helper=$(readlink -f /sbin) conf={cloud.config} m={cloud.root}/m8
      trap 'umount -l $m 2>/dev/null || true' EXIT
      mkdir -p $m
      [ -d $root/sbin ] || cp -a $helper $root/sbin
      ln -sf {BUILD}/bin/mount.datacloud $root/sbin/mount.datacloud
      ln -sf mount.datacloud $root/sbin/mount.fuse.datacloud
      ln -sf {SOURCE}/fs/umount.fuse.datacloud $root/sbin/umount.fuse.datacloud
      mount --bind $root/sbin $helper
      mounted() {{ findmnt -n -o FSTYPE,SOURCE,OPTIONS -M $m; }}
      gone() {{ for i in $(seq 100); do mounted >/dev/null || return 0; sleep 0.1; done; return 1; }}
    """
    return subprocess.run(["unshare", "-m", "bash", "-c", prelude + script], capture_output=True,
                          text=True, timeout=seconds * SLOWNESS)
