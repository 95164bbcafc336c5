"""Times the first run of N trivial commands, two at once, by two versions of this program in turn.

    python benches/peers/fresh.py --other PATH [--repro PATH] [--folder DIR] [--runs 5] [--removed]
                                  [N ...]

The cache is in a new folder below DIR, on a disk or in memory (`/dev/shm`). With `--removed` it is
created and removed right before the timed run: file systems may be slow to create files then.
Prints medians of the time and of the processor time of all processes.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from engine import built


def project(below, n):
    folder = Path(tempfile.mkdtemp(prefix="fresh-", dir=below))
    values = ", ".join(map(str, range(n)))
    (folder / "pipeline.yaml").write_text(
        "stages:\n  one:\n    command: { run: 'echo $REPRO_PARAM_N > out', "
        f"params: {{ n: [{values}] }}, outputs: [out] }}\n"
    )
    return folder


def run(program, folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([program, "-q", "run", "-j", "2"], cwd=folder, check=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = lambda usage: usage.ru_utime + usage.ru_stime
    return seconds, processor(after) - processor(before)


def first_run(program, below, n, removed):
    folder = project(below, n)
    if removed:
        run(program, folder)
        shutil.rmtree(folder / "cache")
    times = run(program, folder)
    shutil.rmtree(folder)
    # So that the removal does not count in the next run.
    os.sync()
    time.sleep(6)
    return times


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--repro", default=built(), type=os.path.abspath)
    parser.add_argument("--other", required=True, type=os.path.abspath)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--runs", default=5, type=int)
    parser.add_argument("--removed", action="store_true")
    parser.add_argument("sizes", nargs="*", type=int, default=[1000])
    options = parser.parse_args()
    print("| nodes | other | this | ratio | processor: other | this | ratio |")
    print("|---|---|---|---|---|---|---|")
    for n in options.sizes:
        pairs = []
        for _ in range(options.runs):
            programs = [options.other, options.repro]
            run = lambda program: first_run(program, options.folder, n, options.removed)
            pairs.append([run(program) for program in programs])
        median = lambda of: statistics.median(map(of, pairs))
        cells = []
        for which in range(2):
            other, this = median(lambda pair: pair[0][which]), median(lambda pair: pair[1][which])
            ratio = median(lambda pair: pair[1][which] / pair[0][which])
            cells.append(f"{other:.2f} s | {this:.2f} s | {ratio:.2f}")
        print(f"| {n:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
