"""Default fits of `flows` beside zuko's NSF, a Gaussian mixture, a Gaussian and a kernel density.

    python benches/peers/tables.py FLOWS DATA OUT.json [--only NAME,NAME] [--peers NAME,NAME] [-- OPTION ...]

FLOWS is the program, DATA the folder with the tables of `docs/tables.md`; options behind `--` go to `flows fit`. Of
each table a fifth, drawn once, is fresh: no method sees it, and its mean log-likelihood, in nats and in the units of
the table, is the score. `flows fit` takes the rest as any user's table; the peers take the same training rows and the
same validation rows (a tenth each of the rest is held out, as `flows fit` does, so none has more rows than another).
Times are processor seconds of the fit. Results are added to OUT.json, and its table is printed. Needs numpy, scipy, scikit-learn, torch, zuko.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np


def steps(x, rng):
    """Rounded columns with uniform noise as wide as their smallest step: a density of them means something."""
    x = np.array(x, dtype=float)
    for column in x.T:
        values = np.unique(column)
        if len(values) < 0.5 * len(column):
            gaps = np.diff(values)
            column += np.quantile(gaps, 0.05) * (rng.random(len(column)) - 0.5)
    return x


def tables(data):
    """Name -> rows; the simulated ones and the noise are drawn with a fixed seed."""
    rng = np.random.default_rng(16)
    embedded = lambda name: np.genfromtxt(f"{data}/embedded/{name}.csv", delimiter=",", skip_header=1)
    protein = np.loadtxt(f"{data}/uci/protein.csv.gz", delimiter=",")
    protein = protein[rng.permutation(len(protein))]
    power = np.load(f"{data}/uci/power_head8col.npy").astype(float)[:, [0, 2, 3, 7]]
    power = power[rng.permutation(len(power))]
    mini = np.load(f"{data}/uci/miniboone_maf_head1523.npy")
    found = {
        "iris": embedded("sklearn_iris")[:, :4],
        "wine": embedded("sklearn_wine_data")[:, :13],
        "cancer": embedded("sklearn_breast_cancer")[:, :10],
        "miniboone": mini[:, :12],
        "protein-1k": protein[:1200],
        "protein-10k": protein[1200:13700],
        "power-10k": power[:12500],
    }
    n = 2500
    angle, half = rng.random(n) * np.pi, rng.random(n) < 0.5
    x = np.where(half, np.cos(angle), 1 - np.cos(angle))
    y = np.where(half, np.sin(angle), 0.5 - np.sin(angle))
    found["moons"] = np.stack([x, y], 1) + 0.08 * rng.standard_normal((n, 2))
    n, centres = 500, 2.5 * rng.standard_normal((4, 5))
    mixing = 0.7 * rng.standard_normal((4, 5, 5)) + 0.3 * np.eye(5)
    k = rng.integers(0, 4, n)
    found["clusters"] = centres[k] + np.einsum("nij,nj->ni", mixing[k], rng.standard_normal((n, 5)))
    n = 800
    z = rng.standard_normal((n, 6)) @ (0.6 * rng.standard_normal((6, 6)) + np.eye(6))
    found["tails"] = z / np.sqrt(rng.chisquare(3, n) / 3)[:, None]
    n = 6000
    x = np.zeros((n, 8))
    x[:, 0] = rng.gamma(2.0, size=n)
    for i in range(1, 8):
        before = x[:, i - 1]
        x[:, i] = np.sin(2 * before) + 0.3 * before * x[:, i // 2] / (1 + x[:, i // 2] ** 2)
        x[:, i] += (0.1 + 0.3 / (1 + before**2)) * rng.standard_normal(n)
    found["chain"] = x
    return {name: steps(rows, rng) for name, rows in found.items()}


def split(rows, seed=0):
    order = np.random.default_rng(seed).permutation(len(rows))
    fresh = max(len(rows) // 5, 30)
    rest = order[fresh:]
    tenth = len(rest) // 10
    return rows[rest], (rows[rest[2 * tenth :]], rows[rest[:tenth]]), rows[order[:fresh]]


def standardized(train, validation, fresh):
    mean, scale = train.mean(0), train.std(0)
    return [(part - mean) / scale for part in (train, validation, fresh)], np.log(scale).sum()


def of_gaussian(train, validation, fresh):
    from scipy.stats import multivariate_normal

    return multivariate_normal(train.mean(0), np.cov(train.T), allow_singular=True).logpdf(fresh)


def of_mixture(train, validation, fresh):
    from sklearn.mixture import GaussianMixture

    (train, validation, fresh), log_det = standardized(train, validation, fresh)
    best = (-np.inf, None)
    for k in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 40):
        if k * 5 < len(train):
            model = GaussianMixture(k, random_state=0, n_init=1, reg_covar=1e-4).fit(train)
            best = max(best, (model.score(validation), model), key=lambda pair: pair[0])
    return best[1].score_samples(fresh) - log_det


def of_kernels(train, validation, fresh):
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KernelDensity

    (train, validation, fresh), log_det = standardized(train, validation, fresh)
    grid = GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.05, 1.5, 15)}, cv=5)
    return grid.fit(train[:3000]).best_estimator_.score_samples(fresh) - log_det


def of_zuko(train, validation, fresh):
    import torch
    import zuko

    torch.manual_seed(0)
    (train, validation, fresh), log_det = standardized(train, validation, fresh)
    train, validation, fresh = (torch.tensor(part, dtype=torch.float32) for part in (train, validation, fresh))
    flow = zuko.flows.NSF(train.shape[1], transforms=5, hidden_features=(64, 64))
    adam = torch.optim.Adam(flow.parameters(), lr=1e-3)
    best, state, since = -np.inf, None, 0
    for epoch in range(500):
        order = torch.randperm(len(train))
        for batch in order.split(256):
            loss = -flow().log_prob(train[batch]).mean()
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
            adam.step()
        with torch.no_grad():
            score = flow().log_prob(validation).mean().item()
        if score > best:
            best, since = score, 0
            state = {name: value.clone() for name, value in flow.state_dict().items()}
        else:
            since += 1
            if since >= 20:
                break
    flow.load_state_dict(state)
    with torch.no_grad():
        return flow().log_prob(fresh).double().numpy() - log_det


def processor():
    """Processor seconds so far, of this process and those it ran: what else the machine does changes them little."""
    return sum(os.times()[:4])


PEERS = {"zuko": of_zuko, "mixture": of_mixture, "gaussian": of_gaussian, "kernels": of_kernels}


def of_flows(program, rest, fresh, options):
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        header = ",".join(f"c{i}" for i in range(rest.shape[1]))
        for name, rows in (("rest.csv", rest), ("fresh.csv", fresh)):
            np.savetxt(path(name), rows, delimiter=",", header=header, comments="", fmt="%.10g")
        run = lambda *words: subprocess.run([program, *words], check=True, capture_output=True, text=True)
        begun = processor()
        said = run("fit", path("rest.csv"), "-o", path("m.flow"), *options)
        seconds = processor() - begun
        run("log-prob", path("m.flow"), path("fresh.csv"), "-o", path("s.npy"))
        check = run("check", path("m.flow"), path("fresh.csv")).stdout
        return np.load(path("s.npy")).ravel(), seconds, {"said": said.stderr + said.stdout, "check": check}


def main():
    own = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser()
    parser.add_argument("flows"), parser.add_argument("data"), parser.add_argument("out")
    parser.add_argument("--only"), parser.add_argument("--peers", default="flows"), parser.add_argument("--label")
    args = parser.parse_args(sys.argv[1:own])
    options = sys.argv[own + 1 :]
    results = json.load(open(args.out)) if os.path.exists(args.out) else {}
    for name, rows in tables(args.data).items():
        if args.only and name not in args.only.split(","):
            continue
        rest, parts, fresh = split(rows)
        for peer in args.peers.split(","):
            more = {}
            if peer == "flows":
                scores, seconds, more = of_flows(args.flows, rest, fresh, options)
            else:
                begun = processor()
                scores = PEERS[peer](*parts, fresh)
                seconds = processor() - begun
            label = args.label or peer
            error = float(scores.std() / np.sqrt(len(scores)))
            results.setdefault(name, {"rows": len(rest), "columns": rows.shape[1]})
            results[name][label] = {"score": float(scores.mean()), "error": error, "seconds": seconds, **more}
            results[name][label]["least"] = float(scores.min())
            print(f"{name:12} {label:12} {scores.mean():9.3f} ± {error:.3f}  {seconds:6.1f} s", flush=True)
            json.dump(results, open(args.out, "w"), indent=1)
    labels = sorted({label for of in results.values() for label in of} - {"rows", "columns"})
    print("\n| table | rows | columns | " + " | ".join(labels) + " |\n|---|" + "---:|" * (len(labels) + 2))
    for name, of in results.items():
        cells = (f"{of[l]['score']:.3f} ± {of[l]['error']:.3f}, {of[l]['seconds']:.0f} s" if l in of else "" for l in labels)
        print(f"| {name} | {of['rows']} | {of['columns']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
