"""What a mount has read from its sites, by its metrics."""

import re
import socket
import time
import urllib.request


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetched(port):
    """Bytes of file data so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(value) for labels, value in
               re.findall(r"^datacloud_mount_site_read_bytes_total\{(.*)\} (\S+)$", text, re.M)
               if 'purpose="client"' in labels)


def settled(port, pause=0.4):
    """The same once it stands still: what is fetched ahead comes after the read that caused it."""
    last = -1.0
    while (now := fetched(port)) != last:
        last = now
        time.sleep(pause)
    return now
