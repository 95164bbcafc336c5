"""An unchanged run of N trivial stages in repro, Snakemake and DVC, in turn, and the first run of them.

    python benches/peers/engine.py [--repro PATH] [--runs 5] [--folder DIR] [N ...]

The program is the one that `cargo build --release` makes: below CARGO_TARGET_DIR, if that is set.
The projects and their caches are made in DIR, which may be on a disk or in memory.
Each stage writes one small file by the shell. The median of the unchanged runs is told, start of the process included; DVC
runs only up to 100 stages, since it takes seconds for these.
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
        f"stages:\n  one:\n    foreach:\n{values}    do:\n      cmd: echo ${{item}} > out${{item}}\n      outs:\n        - out${{item}}\n"
    )
    subprocess.run([program, "init", "--no-scm", "-q"], cwd=folder, check=True)
    return [program, "repro", "-q"]


def built():
    """Where cargo puts the program."""
    root = Path(__file__).resolve().parents[2]
    return root / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "repro"


def timed(command, folder):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repro", default=built(), type=os.path.abspath)
    parser.add_argument("--runs", default=5, type=int)
    parser.add_argument("--folder", type=os.path.abspath)
    parser.add_argument("sizes", nargs="*", type=int, default=[100, 1000])
    asked = parser.parse_args()
    if not os.access(asked.repro, os.X_OK):
        parser.error(f"there is no program {asked.repro}: build it (`cargo build --release`), or name it (`--repro PATH`)")
    print("| stages | tool | first run | unchanged | over repro's |")
    print("|---|---|---|---|---|")
    for n in asked.sizes:
        tools = {"repro": repro, "Snakemake": snakemake, "DVC": dvc}
        if n > DVC_AT_MOST:
            del tools["DVC"]
        folders = {name: Path(tempfile.mkdtemp(prefix="peers-", dir=asked.folder)) for name in tools}
        commands = {name: tool(folders[name], n, asked.repro) for name, tool in tools.items()}
        first = {name: timed(command, folders[name]) for name, command in commands.items()}
        time.sleep(3)  # what was written a moment ago is trusted by nobody
        unchanged = {name: [] for name in tools}
        for _ in range(asked.runs):
            for name, command in commands.items():
                unchanged[name].append(timed(command, folders[name]))
        medians = {name: statistics.median(times) for name, times in unchanged.items()}
        for name, median in medians.items():
            ratio = f"{median / medians['repro']:.0f}x" if name != "repro" else ""
            print(f"| {n:,} | {name} | {first[name]:.2f} s | {1e3 * median:,.0f} ms | {ratio} |", flush=True)
        for folder in folders.values():
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
