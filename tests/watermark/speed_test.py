"""Marking costs no more than a few copies of the samples: speed_test.py BENCH_WATERMARK

The processor's time is compared, which other programs on the machine disturb little, and to memcpy's, which
makes the bound the same on slow and fast machines.
"""

import json
import subprocess
import sys

RATIO_MAX = 20  # measured: 6 with AVX-512, 7 with AVX2, 12 without

done = subprocess.run([sys.argv[1], "--width", "3500", "--height", "3125", "--rounds", "3"], capture_output=True, text=True,
                      check=True, timeout=240)
result = json.loads(done.stdout)
print(f"memcpy: {result['memcpy_cpu_s'] * 1e3:.1f} ms")
bad = []
for run in result["runs"]:
    ratio = run["cpu_s"] / max(result["memcpy_cpu_s"], 1e-4)
    print(f"{run['kernels']}, {run['profile']}, {run['direction']}: {ratio:.1f} times memcpy")
    if run["kernels"] != "portable" and ratio > RATIO_MAX:
        bad.append(run)
sys.exit(f"slower than {RATIO_MAX} times memcpy: {bad}" if bad else 0)
