"""Compares `repro` with PyTorch, SciPy and NumPy, and writes the tables of benches/README.md.

    python benches/peers/run.py            # half an hour on two cores
    python benches/peers/run.py --quick    # minutes; prints the tables

Ours is the program that `cargo bench` builds, a process per run; the peers are worker processes
(peer.py). Runs alternate, A B A B, so that a change in the machine's speed affects both; the
results are medians.
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
README = HERE.parent / "README.md"
MARKS = "<!-- tables -->", "<!-- /tables -->"

WIDTHS = {10: 8, 50: 8, 100: 7, 500: 5, 1000: 5, 2000: 4}  # and the required ratio of training
DEEP = {"512x512x512": 2.5, "1000x1000": 1.5}  # the same, with and without biases
BIASES = ["", "+bias"]
LEARNED = [500, 2000]  # widths of learned curves
PRIORS = ["none", "dropout", "normal"]
VARIANTS = ["default", "foreach", "fused"]  # of optim.SGD, under autograd
BY_HAND = ["by hand", "numpy"]
# Compiling takes as long as all other settings together, so it is tried with two processes only;
# NumPy reads its number of threads when it starts.
LEFT_OUT = [("compile", "1 thread"), ("compile", "2 threads"), ("numpy", "1 thread")]
BATCH = 128
WIDE = 2000
POINTS, REFITS, STRAIGHT = 61, 20, 20  # of a curve; of WA, without A itself


def say(text):
    print(f"[{time.perf_counter() - BEGAN:4.0f} s] {text}", file=sys.stderr, flush=True)


# Ours.


def build():
    """Paths of the benchmark and of `repro`, by name."""
    command = ["cargo", "bench", "--no-run", "--message-format=json-render-diagnostics"]
    artifacts = [json.loads(line) for line in output(command).splitlines()]
    return {a["target"]["name"]: a["executable"] for a in artifacts if a.get("executable")}


def output(command):
    """The standard output of a command in the project."""
    options = {"cwd": PROJECT, "stdout": subprocess.PIPE, "check": True, "text": True}
    return subprocess.run(command, **options).stdout


def ours(*benchmarks, runs=1):
    """The results of our benchmarks, by name."""
    command = [PROGRAMS["speed"], "--json", "--runs", str(runs), *benchmarks]
    results = map(json.loads, output(command).splitlines())
    return {result["benchmark"]: result for result in results}


def digits(folder):
    """Writes the generated digits under MNIST's names, so that both sides read the same files."""
    (folder / "pipeline.yaml").write_text("stages: { data: { fetch: { dataset: digits } } }\n")
    for command in (["run", "data"], ["export", "data", folder / "out"]):
        repro = [PROGRAMS["repro"], "-q", "-C", folder]
        subprocess.run([*repro, *command], check=True, stdout=subprocess.DEVNULL)
    for file in (folder / "out").glob("test-*"):
        file.rename(file.with_name(file.name.replace("test", "t10k")))
    return folder / "out"


# Peers.


class Worker:
    """A process of peer.py."""

    def __init__(self, threads):
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
        environment = os.environ | dict.fromkeys(names, str(threads))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, HERE / "peer.py"]
        self.process = subprocess.Popen(command, env=environment, **pipes)

    def send(self, do, **request):
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()

    def receive(self):
        return json.loads(self.process.stdout.readline())

    def call(self, do, **request):
        self.send(do, **request)
        response = self.receive()
        if "error" in response:
            raise RuntimeError(f"{do} {request}: {response['error']}")
        return response["result"]


def trainer(workers, variant, threads, hidden, seconds):
    """A function that trains one net in each worker at once for about `seconds`.

    It returns images per second, summed, or None if the variant does not work.
    """

    def all_at_once(do, **request):
        for worker in workers:
            worker.send(do, variant=variant, threads=threads, hidden=hidden, **request)
        responses = [worker.receive() for worker in workers]
        if any("error" in response for response in responses):
            return None
        return [response["result"] for response in responses]

    prepared = all_at_once("prepare")
    if prepared is None:
        return lambda: None
    count = max(10, int(seconds / max(prepared)))
    return lambda: sum(BATCH * count / seconds for seconds in all_at_once("train", count=count))


def trainers(variants, hidden, seconds):
    """Every variant on one thread, on two, and as two processes of one thread each."""
    settings = {"1 thread": ([SINGLE], 1), "2 threads": ([SINGLE], 2), "2 processes": (PAIR, 1)}
    return {
        f"{variant}, {setting}": trainer(workers, variant, threads, hidden, seconds)
        for variant in variants
        for setting, (workers, threads) in settings.items()
        if (variant, setting) not in LEFT_OUT
    }


def duel(mine, fields, rounds, best):
    """Our runs, and of each field of peers the best setting with its median.

    All settings are tried once. Then ours and the best two of each field alternate, and the better
    median counts.
    """
    finalists = []
    for field in fields:
        results = {name: run() for name, run in field.items()}
        tried = {name: result for name, result in results.items() if result is not None}
        say(", ".join(f"{name}: {result:,.4g}" for name, result in tried.items()))
        finalists.append(sorted(tried, key=tried.get, reverse=best is max)[:2])
    ours_by_turn, theirs = [], [{name: [] for name in names} for names in finalists]
    for _ in range(rounds):
        ours_by_turn.append(mine())
        for field, results in zip(fields, theirs):
            for name, runs in results.items():
                runs.append(field[name]())
    medians = lambda results: ((name, statistics.median(runs)) for name, runs in results.items())
    second = lambda pair: pair[1]
    return ours_by_turn, [best(medians(results), key=second) for results in theirs]


# The rows of the tables: ratios are [benchmark, ours, peer, setting, ratio, target, met, machine
# limit], facts about ours alone are [measurement, result, target, met].


def ratio_row(benchmark, mine, peer, setting, unit, target, share=None):
    """`share`, where it was measured, is the least time on this machine over our time."""
    ratio = peer / mine if unit == "s" else mine / peer
    digits = 3 if unit == "s" else 0
    numbers = [f"{number:,.{digits}f} {unit}" for number in (mine, peer)]
    limit = times(ratio / share) if share else ""
    met = verdict(ratio >= target)
    return [benchmark, *numbers, setting, times(ratio), times(target), met, limit]


def fact_row(measurement, result, at_most, form):
    return [measurement, form(result), f"at most {form(at_most)}", verdict(result <= at_most)]


def training(options, ratios, facts, hand):
    all_ratios = []
    for hidden, target in WIDTHS.items():
        if options.quick and hidden not in (10, 100):
            continue
        seconds = 0.2 if options.quick else 1
        variants = VARIANTS if options.quick or options.eager else [*VARIANTS, "compile"]
        fields = [trainers(variants, hidden, seconds), trainers(BY_HAND, hidden, seconds)]
        mine, [peer, by_hand] = duel(lambda: ours(f"train/{hidden}"), fields, options.rounds, max)

        of = lambda prior, field: [run[f"train/{hidden}/{prior}"][field] for run in mine]
        rates = {prior: of(prior, "images_per_second") for prior in PRIORS}
        none = statistics.median(rates["none"])
        all_ratios.append(none / peer[1])
        loaded = statistics.median(of("none", "loaded_share"))
        name = f"training, h = {hidden}"
        ratios.append(ratio_row(name, none, peer[1], peer[0], "images/s", target, loaded))
        facts.append([f"share of the limit with loads, h = {hidden}", f"{loaded:.0%}", "", ""])
        rate = f"{by_hand[1]:,.0f} images/s"
        hand.append([hidden, rate, by_hand[0], times(none / by_hand[1])])
        if hidden >= 100:
            share = statistics.median(of("none", "share"))
            name = f"share of the sparse limit, h = {hidden}"
            facts.append([name, f"{share:.0%}", "at least 55%", verdict(share >= 0.55)])
        for prior in PRIORS[1:]:
            pairs = zip(rates["none"], rates[prior])
            slower = statistics.median(none / other - 1 for none, other in pairs)
            name = f"{prior} slower than none, h = {hidden}"
            facts.append(fact_row(name, slower, 0.15, "{:.0%}".format))
    mean = statistics.geometric_mean(all_ratios)
    row = ["training, geometric mean", "", "", "", times(mean), times(6), verdict(mean >= 6), ""]
    ratios.append(row)


def deep_training(options, ratios):
    seconds = 0.5 if options.quick else 2
    variants = VARIANTS if options.quick or options.eager else [*VARIANTS, "compile"]
    for hidden, target in ((f"{deep}{bias}", DEEP[deep]) for deep in DEEP for bias in BIASES):
        name = f"train/{hidden}/none"
        fields = [trainers(variants, hidden, seconds)]
        mine, [peer] = duel(lambda: ours(name)[name], fields, options.rounds, max)
        median = lambda field: statistics.median(run[field] for run in mine)
        row = [f"training, {hidden}", median("images_per_second"), peer[1], peer[0], "images/s"]
        ratios.append(ratio_row(*row, target, median("loaded_share")))


def learned_curves(options, ratios, facts):
    """A Bezier curve against PyTorch's, and against a net of ours."""
    seconds = 0.5 if options.quick else 2
    for hidden in LEARNED:
        names = [f"learn/{hidden}/{what}" for what in ("net", "bezier")]
        fields = [trainers([f"bezier, {variant}" for variant in VARIANTS], hidden, seconds)]
        mine, [peer] = duel(lambda: ours(*names), fields, options.rounds, max)
        rates = [[run[name]["images_per_second"] for run in mine] for name in names]
        rate = statistics.median(rates[1])
        name = f"learning a Bezier curve, h = {hidden}"
        ratios.append(ratio_row(name, rate, peer[1], peer[0], "images/s", 3))
        slower = statistics.median(net / curve for net, curve in zip(*rates))
        facts.append(fact_row(f"{name}, over training a net", slower, 1.5, "{:.2f}".format))


def curves(options, ratios, facts):
    def point(library, threads):
        request = {"hidden": WIDE, "library": library, "threads": threads, "count": 2}
        return lambda: POINTS * SINGLE.call("curve", **request)

    settings = {
        "PyTorch, 1 thread": ("torch", 1),
        "PyTorch, 2 threads": ("torch", 2),
        "NumPy, 2 threads": ("numpy", 2),
    }
    field = {name: point(*setting) for name, setting in settings.items()}
    mine, [(setting, peer)] = duel(lambda: ours("curve"), [field], options.rounds, min)
    for name in ("linear", "arc"):
        of = lambda run, name: run[f"curve/{name}"]["median"]
        seconds = statistics.median(of(run, name) for run in mine)
        benchmark = f"{name}, {POINTS} points, h = {WIDE}"
        ratios.append(ratio_row(benchmark, seconds, peer, setting, "s", 25))
        passes = statistics.median(of(run, name) / of(run, "two-forward-passes") for run in mine)
        facts.append(fact_row(f"{name}, over two forward passes", passes, 3, "{:.1f}".format))


def weight_adjustment(options, ratios, facts):
    def whole(library):
        def run():
            request = {"hidden": WIDE, "library": library, "threads": 2, "count": 1}
            refit, straight = SINGLE.call("refit", **request)
            return REFITS * refit + STRAIGHT * straight

        return run

    field = {"PyTorch, 2 threads": whole("torch"), "NumPy and SciPy, 2 threads": whole("numpy")}
    our_time = lambda: ours("wa")["wa"]["median"]
    mine, [(setting, peer)] = duel(our_time, [field], options.rounds, min)
    seconds, benchmark = statistics.median(mine), f"WA, 21 + 21 points, h = {WIDE}"
    ratios.append(ratio_row(benchmark, seconds, peer, setting, "s", 2))
    facts.append(fact_row(benchmark, seconds, 50, "{:.1f} s".format))


def assignment(options, ratios):
    for kind in ("random", "aligned"):
        totals = []

        def scipy():
            seconds, total = SINGLE.call("assign", kind=kind, n=WIDE)
            totals.append(total)
            return seconds

        our_result = lambda: ours(f"assign/{kind}")[f"assign/{kind}"]
        mine, [(setting, peer)] = duel(our_result, [{"SciPy": scipy}], options.rounds, min)
        total = mine[0]["other"][1]
        message = f"{kind}: our total cost is {total}, SciPy's {totals[0]}"
        assert math.isclose(total, totals[0], rel_tol=1e-12), message
        seconds = statistics.median(run["median"] for run in mine)
        benchmark = f"assignment, {kind} costs, n = {WIDE}"
        ratios.append(ratio_row(benchmark, seconds, peer, setting, "s", 1))


def stages(options, facts):
    ready = ours("stage/data-ready", runs=options.rounds)["stage/data-ready"]["median"]
    name = "a stage process until its data are loaded"
    facts.append(fact_row(name, 1000 * ready, 60, "{:.0f} ms".format))
    if options.quick:
        return
    for name, stage in ours("stage/train", "stage/align", "stage/curve", "stage/wa").items():
        name = f"peak memory of {name}, h = {WIDE}"
        facts.append(fact_row(name, stage["other"][1], 700, "{:.0f} MiB".format))


def whole_tables(pairs, facts):
    """The talk's two tables from an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "pipeline.yaml").write_text((PROJECT / "pipeline.yaml").read_text())
        fields = [f"nets.pair={list(range(1, pairs + 1))}", "nets.prior=[none, {dropout: 0.5}]"]
        command = [PROGRAMS["repro"], "-q", "-C", folder, "run", "--profile", "tables"]
        start = time.perf_counter()
        command += [word for field in fields for word in ("-S", field)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        minutes = (time.perf_counter() - start) / 60
    name = f"both of the talk's tables, {pairs} pair{'s' * (pairs > 1)}, cold cache"
    facts.append(fact_row(name, minutes, {1: 8, 3: 22}.get(pairs, math.inf), "{:.1f} min".format))


# The page.


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def times(ratio):
    return f"{ratio:.2g}x" if ratio < 10 else f"{ratio:.0f}x"


def verdict(met):
    return "yes" if met else "**no**"


def circumstances(data):
    def git(*arguments):
        return output(["git", *arguments]).strip()

    lines = [line.split(":", 1) for line in open("/proc/cpuinfo") if line.count(":") == 1]
    processor = {key.strip(): value.strip() for key, value in lines}
    family, model = processor["cpu family"], processor["model"]
    rust = output(["rustc", "--version"]).split()[1]
    is_changed = git("status", "--porcelain", "--", "src", "Cargo.toml")
    return (
        f"{datetime.date.today()}, commit {git('rev-parse', '--short', 'HEAD')}"
        f"{' with changes' if is_changed else ''}; "
        f"{processor['model name']} (family {family}, model {model}), {os.cpu_count()} cores; "
        f"rustc {rust}; {SINGLE.call('versions')}; {data}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="two widths, no WA, one round; print the tables")
    add("--eager", action="store_true", help="skip torch.compile, which takes half of the time")
    add("--rounds", type=int, help="number of alternations of ours and the peer (default: 5)")
    add("--deep", action="store_true", help="deep nets only; print the table")
    add("--learned", action="store_true", help="learned curves only; print the tables")
    help = "also run the talk's tables, with this many pairs"
    add("--tables", type=int, nargs="*", default=[], metavar="PAIRS", help=help)
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)

    ratio_header = ["benchmark", "ours", "best peer", "its setting", "ratio", "target", "met"]
    ratio_header.append("machine limit")
    ratios, facts, hand = [], [], []
    if options.deep:
        deep_training(options, ratios)
        print(table(ratio_header, ratios))
        return
    if options.learned:
        learned_curves(options, ratios, facts)
        print(table(ratio_header, ratios))
        print()
        print(table(["measurement", "result", "target", "met"], facts))
        return
    training(options, ratios, facts, hand)
    deep_training(options, ratios)
    learned_curves(options, ratios, facts)
    curves(options, ratios, facts)
    if not options.quick:
        weight_adjustment(options, ratios, facts)
    assignment(options, ratios)
    stages(options, facts)
    for pairs in options.tables:
        whole_tables(pairs, facts)
    kernels = output([PROGRAMS["speed"], "--runs", str(options.rounds), "limit", "kernel"])
    data, kernels = kernels.split("\n\n", 1)
    page = "\n\n".join(
        [
            MARKS[0],
            circumstances(data) + (" Without torch.compile." if options.eager else ""),
            "### Compared with the best peer",
            table(ratio_header, ratios),
            "### This program alone",
            table(["measurement", "result", "target", "met"], facts),
            "### Training by hand",
            table(["h", "best by hand", "its setting", "ratio"], hand),
            "### Limits and kernels",
            kernels.strip(),
            MARKS[1],
        ]
    )
    if options.quick:
        print(page)
        return
    before, rest = README.read_text().split(MARKS[0])
    README.write_text(before + page + rest.split(MARKS[1])[1])
    say(f"wrote {README}")


if __name__ == "__main__":
    BEGAN = time.perf_counter()
    PROGRAMS = build()
    with contextlib.ExitStack() as stack:
        if not os.environ.get("REPRO_DATA"):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            os.environ["REPRO_DATA"] = str(digits(pathlib.Path(folder)))
        SINGLE, *PAIR = (Worker(threads) for threads in (2, 1, 1))
        main()
