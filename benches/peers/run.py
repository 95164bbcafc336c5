"""Times `repro` beside PyTorch, SciPy and NumPy, in turn, and writes the tables of benches/README.md.

    python benches/peers/run.py            # 15 minutes on two cores
    python benches/peers/run.py --quick    # a try, printed instead of written

Ours is the program that `cargo bench` builds, a process for each run; the peers are workers that are kept (peer.py). Runs
go A B A B, so that a change of the machine's mood meets both; what counts are medians. It does not know how a work is done.
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

WIDTHS = {10: 8, 50: 8, 100: 7, 500: 5, 1000: 5, 2000: 4}  # and the ratio demanded of training there
PRIORS = ["none", "dropout", "normal"]
VARIANTS = ["default", "foreach", "fused"]  # of optim.SGD, under autograd
BY_HAND = ["by hand", "numpy"]
# Compiling takes as long as all other settings together, so it is tried in one place; NumPy's threads are set at its start.
LEFT_OUT = [("compile", "1 thread"), ("compile", "2 threads"), ("numpy", "1 thread")]
BATCH = 128
WIDE = 2000
POINTS, REFITS, STRAIGHT = 61, 20, 20  # of a curve; of WA, A itself aside


def say(text):
    print(f"[{time.perf_counter() - BEGAN:4.0f} s] {text}", file=sys.stderr, flush=True)


# Ours.


def build():
    """Paths of the bench and of `repro`, by name."""
    command = ["cargo", "bench", "--no-run", "--message-format=json-render-diagnostics"]
    lines = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    artifacts = [json.loads(line) for line in lines]
    return {a["target"]["name"]: a["executable"] for a in artifacts if a.get("executable")}


def ours(*works, runs=1):
    """What the bench says of each work, by name."""
    command = [PROGRAMS["speed"], "--json", "--runs", str(runs), *works]
    lines = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    return {result["work"]: result for result in map(json.loads, lines)}


def digits(folder):
    """Writes the built-in digits under MNIST's names, so that both sides read the same files."""
    (folder / "pipeline.yaml").write_text("stages: { data: { fetch: { dataset: digits } } }\n")
    for command in (["run", "data"], ["export", "data", folder / "out"]):
        subprocess.run([PROGRAMS["repro"], "-q", "-C", folder, *command], check=True, stdout=subprocess.DEVNULL)
    for file in (folder / "out").glob("test-*"):
        file.rename(file.with_name(file.name.replace("test", "t10k")))
    return folder / "out"


# Peers.


class Worker:
    """A process of peer.py."""

    def __init__(self, threads):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, HERE / "peer.py"], env=environment, **pipes)

    def ask(self, do, **request):
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def call(self, do, **request):
        self.ask(do, **request)
        answer = self.answer()
        if "error" in answer:
            raise RuntimeError(f"{do} {request}: {answer['error']}")
        return answer["answer"]


def trainer(workers, variant, threads, hidden, seconds):
    """A run of one net in each worker at once, about so long; gives images a second, summed, or none if it does not work."""

    def all_at_once(do, **request):
        for worker in workers:
            worker.ask(do, variant=variant, threads=threads, hidden=hidden, **request)
        answers = [worker.answer() for worker in workers]
        return None if any("error" in answer for answer in answers) else [answer["answer"] for answer in answers]

    prepared = all_at_once("prepare")
    if prepared is None:
        return lambda: None
    count = max(10, int(seconds / max(prepared)))
    return lambda: sum(BATCH * count / took for took in all_at_once("train", count=count))


def trainers(variants, hidden, seconds):
    """Every variant on one thread, on two, and as two processes of one thread each."""
    places = {"1 thread": ([SINGLE], 1), "2 threads": ([SINGLE], 2), "2 processes": (PAIR, 1)}
    return {
        f"{variant}, {place}": trainer(workers, variant, threads, hidden, seconds)
        for variant in variants
        for place, (workers, threads) in places.items()
        if (variant, place) not in LEFT_OUT
    }


def duel(mine, fields, rounds, best):
    """Runs of ours, and of each field of peers the best setting with its median.

    All settings are tried once; then ours and the best two of each field take turns, and the better median counts.
    """
    finalists = []
    for field in fields:
        tried = {name: result for name, run in field.items() if (result := run()) is not None}
        say(", ".join(f"{name}: {result:,.4g}" for name, result in tried.items()))
        finalists.append(sorted(tried, key=tried.get, reverse=best is max)[:2])
    ours_by_turn, theirs = [], [{name: [] for name in names} for names in finalists]
    for _ in range(rounds):
        ours_by_turn.append(mine())
        for field, results in zip(fields, theirs):
            for name, runs in results.items():
                runs.append(field[name]())
    medians = [[(name, statistics.median(runs)) for name, runs in results.items()] for results in theirs]
    return ours_by_turn, [best(field, key=lambda pair: pair[1]) for field in medians]


# The rows of the tables: ratios are [work, ours, the peer's best, its setting, ratio, demanded, met, what this machine allows
# ours], facts about ours alone are [what, found, demanded, met].


def ratio_row(work, mine, peer, setting, unit, demanded, share=None):
    """`share` is that of the time in which this machine could do our work at all, where it was measured."""
    ratio = peer / mine if unit == "s" else mine / peer
    digits = 3 if unit == "s" else 0
    numbers = [f"{number:,.{digits}f} {unit}" for number in (mine, peer)]
    allowed = times(ratio / share) if share else ""
    return [work, *numbers, setting, times(ratio), times(demanded), verdict(ratio >= demanded), allowed]


def fact_row(what, found, at_most, form):
    return [what, form(found), f"at most {form(at_most)}", verdict(found <= at_most)]


def training(options, ratios, facts, hand):
    all_ratios = []
    for hidden, demanded in WIDTHS.items():
        if options.quick and hidden not in (10, 100):
            continue
        seconds = 0.2 if options.quick else 1
        variants = VARIANTS if options.quick or options.eager else [*VARIANTS, "compile"]
        fields = [trainers(variants, hidden, seconds), trainers(BY_HAND, hidden, seconds)]
        mine, [peer, by_hand] = duel(lambda: ours(f"train/{hidden}"), fields, options.rounds, max)

        rates = {prior: [run[f"train/{hidden}/{prior}"]["images_per_second"] for run in mine] for prior in PRIORS}
        none = statistics.median(rates["none"])
        all_ratios.append(none / peer[1])
        loaded = statistics.median(run[f"train/{hidden}/none"]["loaded_share"] for run in mine)
        ratios.append(ratio_row(f"training, h = {hidden}", none, peer[1], peer[0], "images/s", demanded, loaded))
        facts.append([f"share of the limit with loads, h = {hidden}", f"{loaded:.0%}", "", ""])
        hand.append([hidden, f"{by_hand[1]:,.0f} images/s", by_hand[0], times(none / by_hand[1])])
        if hidden >= 100:
            share = statistics.median(run[f"train/{hidden}/none"]["share"] for run in mine)
            facts.append([f"share of the sparse limit, h = {hidden}", f"{share:.0%}", "at least 55%", verdict(share >= 0.55)])
        for prior in PRIORS[1:]:
            slower = statistics.median(none / other - 1 for none, other in zip(rates["none"], rates[prior]))
            facts.append(fact_row(f"{prior} slower than none, h = {hidden}", slower, 0.15, "{:.0%}".format))
    mean = statistics.geometric_mean(all_ratios)
    ratios.append(["training, geometric mean", "", "", "", times(mean), times(6), verdict(mean >= 6), ""])


def curves(options, ratios, facts):
    def point(library, threads):
        return lambda: POINTS * SINGLE.call("curve", hidden=WIDE, library=library, threads=threads, count=2)

    settings = {"PyTorch, 1 thread": ("torch", 1), "PyTorch, 2 threads": ("torch", 2), "NumPy, 2 threads": ("numpy", 2)}
    field = {name: point(*setting) for name, setting in settings.items()}
    mine, [(setting, peer)] = duel(lambda: ours("curve"), [field], options.rounds, min)
    for name in ("linear", "arc"):
        seconds = statistics.median(run[f"curve/{name}"]["median"] for run in mine)
        ratios.append(ratio_row(f"{name}, {POINTS} points, h = {WIDE}", seconds, peer, setting, "s", 25))
        passes = statistics.median(run[f"curve/{name}"]["median"] / run["curve/two-forward-passes"]["median"] for run in mine)
        facts.append(fact_row(f"{name}, over two forward passes", passes, 3, "{:.1f}".format))


def weight_adjustment(options, ratios, facts):
    def whole(library):
        def run():
            refit, straight = SINGLE.call("refit", hidden=WIDE, library=library, threads=2, count=1)
            return REFITS * refit + STRAIGHT * straight

        return run

    field = {"PyTorch, 2 threads": whole("torch"), "NumPy and SciPy, 2 threads": whole("numpy")}
    mine, [(setting, peer)] = duel(lambda: ours("wa")["wa"]["median"], [field], options.rounds, min)
    seconds = statistics.median(mine)
    ratios.append(ratio_row(f"WA, 21 + 21 points, h = {WIDE}", seconds, peer, setting, "s", 2))
    facts.append(fact_row(f"WA, 21 + 21 points, h = {WIDE}", seconds, 50, "{:.1f} s".format))


def assignment(options, ratios):
    for kind in ("random", "aligned"):
        totals = []

        def scipy():
            seconds, total = SINGLE.call("assign", kind=kind, n=WIDE)
            totals.append(total)
            return seconds

        mine, [(setting, peer)] = duel(lambda: ours(f"assign/{kind}")[f"assign/{kind}"], [{"SciPy": scipy}], options.rounds, min)
        total = mine[0]["found"][1]
        assert math.isclose(total, totals[0], rel_tol=1e-12), f"{kind}: ours costs {total}, SciPy's {totals[0]}"
        seconds = statistics.median(run["median"] for run in mine)
        ratios.append(ratio_row(f"assignment, {kind} costs, n = {WIDE}", seconds, peer, setting, "s", 1))


def stages(options, facts):
    ready = ours("stage/data-ready", runs=options.rounds)["stage/data-ready"]["median"]
    facts.append(fact_row("a stage process until its data are ready", 1000 * ready, 60, "{:.0f} ms".format))
    if options.quick:
        return
    for name, stage in ours("stage/train", "stage/align", "stage/curve", "stage/wa").items():
        facts.append(fact_row(f"peak memory of {name}, h = {WIDE}", stage["found"][1], 700, "{:.0f} MiB".format))


def whole_tables(pairs, facts):
    """The talk's two tables from an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "pipeline.yaml").write_text((PROJECT / "pipeline.yaml").read_text())
        fields = [f"nets.pair={list(range(1, pairs + 1))}", "nets.prior=[none, {dropout: 0.5}]"]
        command = [PROGRAMS["repro"], "-q", "-C", folder, "run", "--profile", "tables"]
        start = time.perf_counter()
        subprocess.run(command + [word for field in fields for word in ("-S", field)], check=True, stdout=subprocess.DEVNULL)
        minutes = (time.perf_counter() - start) / 60
    words = f"both of the talk's tables, {pairs} pair{'s' * (pairs > 1)}, cold cache"
    facts.append(fact_row(words, minutes, {1: 8, 3: 22}.get(pairs, math.inf), "{:.1f} min".format))


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
        return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True).stdout.strip()

    processor = dict(line.split(":", 1) for line in open("/proc/cpuinfo") if line.count(":") == 1)
    processor = {key.strip(): value.strip() for key, value in processor.items()}
    name = f"{processor['model name']} (family {processor['cpu family']}, model {processor['model']})"
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    return (
        f"{datetime.date.today()}, commit {git('rev-parse', '--short', 'HEAD')}"
        f"{' with changes' if git('status', '--porcelain', '--', 'src', 'Cargo.toml') else ''}; {name}, {os.cpu_count()} cores;"
        f" rustc {rust}; {SINGLE.call('versions')}; {data}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two widths, no WA, one round; printed, not written")
    parser.add_argument("--eager", action="store_true", help="leave torch.compile out, which takes as long as all else")
    parser.add_argument("--rounds", type=int, help="how often ours and the peer take turns; 5 by default")
    parser.add_argument("--tables", type=int, nargs="*", default=[], metavar="PAIRS", help="the talk's tables too, with so many pairs")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)

    ratios, facts, hand = [], [], []
    training(options, ratios, facts, hand)
    curves(options, ratios, facts)
    if not options.quick:
        weight_adjustment(options, ratios, facts)
    assignment(options, ratios)
    stages(options, facts)
    for pairs in options.tables:
        whole_tables(pairs, facts)
    kernels = [PROGRAMS["speed"], "--runs", str(options.rounds), "limit", "kernel"]
    kernels = subprocess.run(kernels, stdout=subprocess.PIPE, check=True, text=True).stdout
    data, kernels = kernels.split("\n\n", 1)
    page = "\n\n".join(
        [
            MARKS[0],
            circumstances(data) + (" Without torch.compile." if options.eager else ""),
            "### Ours and the peer's best",
            table(["work", "ours", "the peer's best", "its setting", "ratio", "demanded", "met", "the machine allows"], ratios),
            "### Ours alone",
            table(["what", "found", "demanded", "met"], facts),
            "### Training by hand",
            table(["h", "by hand, at best", "its setting", "ratio"], hand),
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
            os.environ["REPRO_DATA"] = str(digits(pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        SINGLE, *PAIR = (Worker(threads) for threads in (2, 1, 1))
        main()
