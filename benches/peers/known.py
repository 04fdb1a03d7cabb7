"""Known distributions, fitted by `flows fit` from 20,000 rows and scored on 100,000 fresh ones.

    python benches/peers/known.py FLOWS [--only NAME,NAME] [-- OPTION ...]

Prints the mean of log p_true - log p_model in nats with its standard error: 0 for a perfect model. Options behind `--`
go to `flows fit`. Needs numpy, scipy.
"""
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from scipy import stats

RAIN = 0.6
KNOWN = {
    "uniform": (lambda r, n: r.random(n), lambda x: 0 * x, []),
    "exponential": (lambda r, n: r.exponential(size=n), lambda x: -x, []),
    "von-mises": (
        lambda r, n: r.vonmises(0.5, 2.0, n),
        lambda x: stats.vonmises.logpdf(x, 2.0, 0.5),
        ["--periodic", f"x={2 * np.pi!r}"],
    ),
    "poisson": (lambda r, n: r.poisson(3.0, n), lambda x: stats.poisson.logpmf(x, 3.0), []),
    "rain": (
        lambda r, n: np.where(r.random(n) < RAIN, 0.0, r.exponential(4.0, n)),
        lambda x: np.where(x == 0, np.log(RAIN), np.log((1 - RAIN) / 4) - x / 4),
        [],
    ),
}


def main():
    own = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    program, *rest = sys.argv[1:own]
    only = rest[1].split(",") if rest else list(KNOWN)
    rng = np.random.default_rng(9)
    for name, (draw, truth, options) in KNOWN.items():
        table, fresh = draw(rng, 20_000), draw(rng, 100_000)
        if name not in only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = lambda file: os.path.join(folder, file)
            for file, values in (("t.csv", table), ("f.csv", fresh)):
                np.savetxt(path(file), values, header="x", comments="", fmt="%.10g")
            run = lambda *words: subprocess.run([program, *words], check=True, capture_output=True, text=True)
            begun = time.time()
            run("fit", path("t.csv"), "-o", path("m"), *options, *sys.argv[own + 1 :])
            seconds = time.time() - begun
            run("log-prob", path("m"), path("f.csv"), "-o", path("s.npy"))
            apart = truth(fresh) - np.load(path("s.npy")).ravel()
            error = apart.std() / np.sqrt(len(apart))
            print(f"{name:12} {apart.mean():8.4f} ± {error:.4f} nats, fitted in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
