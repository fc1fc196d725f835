"""Nodes with certificates of an organisation's own authority, made by the commands of docs/nodes.md."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, SOURCE, Cloud  # noqa: E402
from harness import check, check_equal  # noqa: E402
from joined_nodes import Node, free_port, listen_on, refused  # noqa: E402


def openssl(where, *words):
    return subprocess.run(["openssl", *map(str, words)], cwd=where, check=True,
                          capture_output=True, text=True).stdout


def documented(where):
    """Runs the block of the document there: an authority, and the certificate of gpu07."""
    text = (SOURCE / "docs/nodes.md").read_text()
    block = re.search(r"```sh organisation\n(.*?)```", text, re.S)[1]
    done = subprocess.run(["sh", "-euc", block], cwd=where, capture_output=True, text=True,
                          timeout=60, check=False)
    check_equal(done.returncode, 0, f"the documented commands run {done.stderr}")
    return done.stdout.strip().split("=")[-1]


def certify(where, name, days=90, authority="organisation.pem", key="ca.key",
            extensions="client.ext"):
    """Another certificate for the request of gpu07."""
    openssl(where, "x509", "-req", "-in", "gpu07.csr", "-CA", authority, "-CAkey", key,
            "-CAcreateserial", "-days", days, "-extfile", extensions, "-out", name)
    return where / name


def test(options):
    del options
    with Cloud(create=False) as cloud:
        pki = cloud.root / "pki"
        pki.mkdir()
        fingerprint = documented(pki)
        cloud.write_config(daemon={"authorities": pki / "organisation.pem"})
        listen_on(cloud, f"tls://127.0.0.1:{free_port()}")
        cloud.tool("create")
        cloud.start_daemon()

        node = Node(cloud, None, "gpu07")
        add = ["node", "add", "gpu07", "--role", "mount"]
        refused(cloud.run_tool(*add, "--fingerprint", "12:34"), "no SHA-256 fingerprint")
        cloud.tool(*add, "--certificate", pki / "gpu07.pem", "--output", node.directory, "--dir",
                   node.directory)
        shutil.copy(pki / "gpu07.key", node.directory / "test.node.key")
        (node.directory / "test.node.key").chmod(0o600)
        shown = json.loads(cloud.tool("node", "show", "gpu07", "--json"))["nodes"][0]
        check_equal(shown["certificates"][0]["serial"], fingerprint.replace(":", "").lower(),
                    "the record has the fingerprint that openssl prints")
        point = node.mount()
        (point / "file").write_text("from afar")
        check_equal((point / "file").read_text(), "from afar", "the node mounts and works")
        row = cloud.status()["mounts"][0]
        check_equal((row["node"], row["roles"]), ("gpu07", ["mount"]), "by its record")
        node.unmount()
        refused(node.tool("node", "renew"), "your organisation's")
        refused(node.tool("status"), "role")

        def shows(certificate, *words):
            shutil.copy(certificate, node.directory / "test.node.crt")
            refused(node.tool("status"), *words)
        other = certify(pki, "other.pem")
        printed = openssl(pki, "x509", "-noout", "-fingerprint", "-sha256", "-in", other)
        digits = printed.strip().split("=")[-1].replace(":", "").lower()
        shows(other, "CN=gpu07", f"--fingerprint {digits}", "no node")
        expired = certify(pki, "expired.pem", days=0)
        cloud.tool(*add, "--certificate", expired)
        shows(expired, "CN=gpu07", "expired")
        (pki / "server.ext").write_text("extendedKeyUsage=serverAuth\n")
        shows(certify(pki, "server.pem", extensions="server.ext"), "is not one of a node")
        openssl(pki, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Example CA",
                "-keyout", "wrong.key", "-out", "wrong.pem")
        shows(certify(pki, "foreign.pem", authority="wrong.pem", key="wrong.key"), "not signed")
        # What it says of itself decides nothing.
        uuid = cloud.status()["cloud"]["uuid"]
        (pki / "claims.ext").write_text("extendedKeyUsage=clientAuth\n"
                                        f"subjectAltName=URI:datacloud://{uuid}/laptop?admin\n")
        shows(certify(pki, "claims.pem", extensions="claims.ext"), "no node")

        cloud.tool(*add, "--certificate", other)  # the next certificate of the same node
        shows(other, "role")
        refused(cloud.run_tool("node", "add", "gpu07", "--role", "admin", "--certificate", expired),
                "another role")
        refused(cloud.run_tool("node", "add", "gpu08", "--role", "mount", "--certificate", other),
                "gpu07 has this certificate")
        cloud.tool("node", "revoke", "gpu07")
        shows(other, "no node")
        done = cloud.run_tool("fsck", "-n")
        check_equal(done.returncode, 0, f"fsck finds nothing {done.stdout}")
        cloud.stop_daemon()
        text = cloud.config.read_text()
        cloud.config.write_text(text.replace("organisation.pem", "gpu07.pem"))
        done = subprocess.run([BUILD / "bin" / "datacloudd", "--config", cloud.config, "-f"],
                              capture_output=True, text=True, timeout=60, check=False)
        check("may not sign others" in done.stderr, "a wrong file is told", done.stderr)
        cloud.config.write_text(text)


if __name__ == "__main__":
    harness.main(test, 120)
