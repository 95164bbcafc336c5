"""Times the first run and unchanged runs of N trivial stages in repro, Snakemake and DVC, in turn.

    python benches/peers/engine.py [--repro PATH] [--runs 5] [--folder DIR] [N ...]

The program is the one that `cargo build --release` builds: below CARGO_TARGET_DIR, if that is set.
The projects and their caches are created in DIR, on a disk or in memory. Each stage writes one
small file by the shell. Prints the median of the unchanged runs, including the start of the
process. DVC runs with at most 100 stages, which take it seconds.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DVC_AT_MOST = 100


def repro(folder, n, program):
    values = ", ".join(map(str, range(n)))
    (folder / "pipeline.yaml").write_text(
        "stages:\n  one:\n    command: { run: 'echo $REPRO_PARAM_N > out', "
        f"params: {{ n: [{values}] }}, outputs: [out] }}\n"
    )
    return [program, "-q", "run", "-j", "2"]


def snakemake(folder, n, _):
    (folder / "Snakefile").write_text(
        f"rule all:\n    input: expand('out/{{n}}', n=range({n}))\n\n"
        "rule one:\n    output: 'out/{n}'\n    shell: 'echo {wildcards.n} > {output}'\n"
    )
    return [str(Path(sys.executable).parent / "snakemake"), "-c2", "-q", "all"]


def dvc(folder, n, _):
    program = str(Path(sys.executable).parent / "dvc")
    values = "".join(f"      - {i}\n" for i in range(n))
    (folder / "dvc.yaml").write_text(
        f"stages:\n  one:\n    foreach:\n{values}    do:\n"
        "      cmd: echo ${item} > out${item}\n"
        "      outs:\n        - out${item}\n"
    )
    subprocess.run([program, "init", "--no-scm", "-q"], cwd=folder, check=True)
    return [program, "repro", "-q"]


def built():
    """The program that cargo builds."""
    root = Path(__file__).resolve().parents[2]
    return root / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "repro"


def timed(command, folder):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    began = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, cwd=folder, check=True, env=environment, **quiet)
    return time.perf_counter() - began


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--repro", default=built(), type=os.path.abspath)
    parser.add_argument("--runs", default=5, type=int)
    parser.add_argument("--folder", type=os.path.abspath)
    parser.add_argument("sizes", nargs="*", type=int, default=[100, 1000])
    options = parser.parse_args()
    if not os.access(options.repro, os.X_OK):
        hint = "build it with `cargo build --release`, or pass `--repro PATH`"
        parser.error(f"there is no program `{options.repro}`; {hint}")
    print("| stages | tool | first run | unchanged | ratio to repro |")
    print("|---|---|---|---|---|")
    for n in options.sizes:
        tools = {"repro": repro, "Snakemake": snakemake, "DVC": dvc}
        if n > DVC_AT_MOST:
            del tools["DVC"]
        folder = lambda: Path(tempfile.mkdtemp(prefix="peers-", dir=options.folder))
        folders = {name: folder() for name in tools}
        commands = {name: tool(folders[name], n, options.repro) for name, tool in tools.items()}
        first = {name: timed(command, folders[name]) for name, command in commands.items()}
        time.sleep(3)  # a tool may read a file again that was written just before
        unchanged = {name: [] for name in tools}
        for _ in range(options.runs):
            for name, command in commands.items():
                unchanged[name].append(timed(command, folders[name]))
        medians = {name: statistics.median(times) for name, times in unchanged.items()}
        for name, median in medians.items():
            ratio = f"{median / medians['repro']:.0f}x" if name != "repro" else ""
            row = [f"{n:,}", name, f"{first[name]:.2f} s", f"{1e3 * median:,.0f} ms", ratio]
            print(f"| {' | '.join(row)} |", flush=True)
        for folder in folders.values():
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
