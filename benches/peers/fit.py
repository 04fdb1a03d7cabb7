"""Whole fits, from the file of a table to a fitted model, beside the program whole_fit.

usage: fit.py prepare PROTEIN.csv.gz FOLDER         writes FOLDER/train.npy and FOLDER/validation.npy
       fit.py zuko|flowjax MODEL FOLDER             one fit, one JSON line
       fit.py compare FOLDER [MODEL...]             the program and both libraries in turn; a table

MODEL: maf, nsf (five layers), realnvp (eight couplings), two hidden layers of 64; Adam at 1e-3, 256 rows a step, all
validation rows every 100 steps, STEPS steps (2000). Threads in NT (2), rounds of compare in ROUNDS (3), the program in
PROGRAM (target/release/whole_fit of this repository). Seconds count once the libraries are imported; what JAX compiles
is in them. The table has the seconds to the same score: the lowest of the best scores, in each round."""
import json, os, subprocess, sys, time
NT, STEPS, ROUNDS = (int(os.environ.get(name, n)) for name, n in (("NT", 2), ("STEPS", 2000), ("ROUNDS", 3)))
BATCH, EVERY, RATE = 256, 100, 1e-3
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PROGRAM = os.environ.get("PROGRAM", os.path.join(ROOT, "target", "release", "whole_fit"))

def prepare(source, folder):
    import numpy as np
    rows = np.loadtxt(source, delimiter=",")
    random = np.random.RandomState(0)
    rows = rows[random.permutation(len(rows))]
    rows[:, 7] += random.rand(len(rows))  # whole steps
    count = len(rows) // 10
    train, validation = rows[2 * count:], rows[count:2 * count]
    mean, scale = train.mean(0), train.std(0)
    os.makedirs(folder, exist_ok=True)
    for name, part in (("train", train), ("validation", validation)):
        np.save(os.path.join(folder, name + ".npy"), ((part - mean) / scale).astype(np.float64))

def read(folder):
    import numpy as np
    return [np.load(os.path.join(folder, name + ".npy")).astype(np.float32) for name in ("train", "validation")]

def batches(count):
    """Places of the rows of each step: every row once before any comes again."""
    import numpy as np
    random, step = np.random.RandomState(1), 0
    while step < STEPS:
        order = random.permutation(count)
        for first in range(0, count - BATCH + 1, BATCH):
            if step == STEPS: return
            step += 1
            yield step, order[first:first + BATCH]

def report(name, begun, curve):
    print(json.dumps({"impl": name, "curve": curve, "seconds": time.perf_counter() - begun}), flush=True)

def fit_zuko(model, folder):
    os.environ["OMP_NUM_THREADS"] = str(NT)
    import torch, zuko
    torch.set_num_threads(NT); torch.manual_seed(0)
    begun = time.perf_counter()
    train, validation = map(torch.from_numpy, read(folder))
    dim = train.shape[1]
    if model == "maf": flow = zuko.flows.MAF(dim, 0, transforms=5, hidden_features=(64, 64))
    elif model == "nsf": flow = zuko.flows.NSF(dim, 0, transforms=5, hidden_features=(64, 64))
    else: flow = zuko.flows.MAF(dim, 0, transforms=8, hidden_features=(64, 64), passes=2)
    adam, curve = torch.optim.Adam(flow.parameters(), lr=RATE, fused=True), []
    for step, rows in batches(len(train)):
        adam.zero_grad()
        loss = -flow().log_prob(train[rows]).mean()
        loss.backward(); adam.step()
        if step % EVERY == 0:
            with torch.no_grad(): score = flow().log_prob(validation).mean().item()
            curve.append([time.perf_counter() - begun, score])
    report("zuko", begun, curve)

def fit_flowjax(model, folder):
    if NT == 1: os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import equinox as eqx, jax, jax.numpy as jnp, optax, paramax
    from flowjax.bijections import Affine, RationalQuadraticSpline
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow, masked_autoregressive_flow
    begun = time.perf_counter()
    train, validation = read(folder)
    make, layers = (coupling_flow, 8) if model == "realnvp" else (masked_autoregressive_flow, 5)
    transformer = RationalQuadraticSpline(knots=8, interval=5) if model == "nsf" else Affine()
    flow = make(jax.random.key(0), base_dist=Normal(jnp.zeros(train.shape[1])), transformer=transformer,
                flow_layers=layers, nn_width=64, nn_depth=2, invert=True)
    leaf = lambda node: isinstance(node, paramax.NonTrainable)
    P, static = eqx.partition(flow, eqx.is_inexact_array, is_leaf=leaf)
    score = lambda P, x: paramax.unwrap(eqx.combine(P, static)).log_prob(x).mean()
    adam = optax.adam(RATE); state, curve = adam.init(P), []
    @eqx.filter_jit
    def update(P, state, x):
        gradients = eqx.filter_grad(lambda P: -score(P, x))(P)
        updates, state = adam.update(gradients, state, P)
        return eqx.apply_updates(P, updates), state
    evaluate = eqx.filter_jit(score)
    validation = jnp.asarray(validation)
    for step, rows in batches(len(train)):
        P, state = update(P, state, train[rows])
        if step % EVERY == 0: curve.append([time.perf_counter() - begun, float(evaluate(P, validation))])
    report("flowjax", begun, curve)

def compare(folder, models):
    median = lambda values: sorted(values)[len(values) // 2]
    names = ["ours", "zuko", "flowjax"]
    print("| model | score, nats | " + " | ".join(names) + " | best other / ours |\n|---|---:|---:|---:|---:|---:|")
    for model in models or ["maf", "nsf", "realnvp"]:
        seconds, scores = {name: [] for name in names}, []
        for _ in range(ROUNDS):
            commands = [[PROGRAM, model, folder, "--threads", str(NT), "--steps", str(STEPS)]]
            commands += [[sys.executable, __file__, name, model, folder] for name in names[1:]]
            runs = [subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands]
            curves = [json.loads(run.strip().splitlines()[-1])["curve"] for run in runs]
            target = min(max(score for _, score in curve) for curve in curves)
            scores.append(target)
            for name, curve in zip(names, curves):
                seconds[name].append(next(time for time, score in curve if score >= target))
        own, *others = (median(seconds[name]) for name in names)
        cells = " | ".join(f"{s:.2f}" for s in (own, *others))
        print(f"| {model} | {median(scores):.2f} | {cells} | {min(others) / own:.1f} |", flush=True)

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare", source, folder]: prepare(source, folder)
        case ["zuko", model, folder]: fit_zuko(model, folder)
        case ["flowjax", model, folder]: fit_flowjax(model, folder)
        case ["compare", folder, *models]: compare(folder, models)
        case _: sys.exit(__doc__)
