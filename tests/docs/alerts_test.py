"""docs/alerts.yml as Prometheus takes it: its own tool checks the rules, and plays series of
samples (alerts_test.yml) that must raise each alert, and in time, and must not."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]


def promtool(directory, *words):
    done = subprocess.run(["promtool", *words], cwd=directory, text=True, capture_output=True,
                          timeout=60, check=False)
    print(done.stdout + done.stderr)
    if done.returncode != 0:
        sys.exit(f"FAILED: promtool {' '.join(words)}")


def main():
    if not shutil.which("promtool"):
        sys.exit("promtool is not here: tools/install-deps.sh --test")
    series = Path(__file__).parent / "alerts_test.yml"
    alerts = set(re.findall(r"alert: (\w+)", (SOURCE / "docs/alerts.yml").read_text()))
    raised = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", series.read_text()))
    if not alerts or alerts != raised:
        sys.exit(f"FAILED: alerts without a test, or tests without an alert: {alerts ^ raised}")
    with tempfile.TemporaryDirectory() as directory:
        for path in (SOURCE / "docs/alerts.yml", series):
            shutil.copy(path, directory)
        promtool(directory, "check", "rules", "alerts.yml")
        promtool(directory, "test", "rules", series.name)


if __name__ == "__main__":
    main()
