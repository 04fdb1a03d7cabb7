"""A training step of a DDNF with the determinant itself, written plainly in PyTorch.

    python torch_ddnf_exact.py 64-16-1000 [D-H-B ...] [--threads 2] [--budget 3]

Four blocks of 16 cells, one tanh layer of H units, log |det(I + D M / T)| of size H by
torch.linalg.slogdet, Adam: the work of `step ddnfexact-D-H-B`. One JSON line a case.
"""

import argparse
import json
import statistics
import time

import torch

BLOCKS, CELLS = 4, 16


class Block(torch.nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.inner = torch.nn.Linear(dim, hidden)
        self.outer = torch.nn.Linear(hidden, dim)

    def forward(self, x):
        m = (self.inner.weight @ self.outer.weight).T / CELLS
        identity = torch.eye(m.shape[0])
        log_det = 0
        for _ in range(CELLS):
            units = torch.tanh(self.inner(x))
            slopes = 1 - units * units
            log_det = log_det + torch.linalg.slogdet(identity + slopes[:, :, None] * m)[1]
            x = x + self.outer(units) / CELLS
        return x, log_det


def step(blocks, optimizer, x):
    log_det = 0
    for block in blocks:
        x, own = block(x)
        log_det = log_det + own
    loss = (0.5 * (x * x).sum(1) - log_det).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+", metavar="D-H-B")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=3.0, help="seconds a case")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for case in args.cases:
        dim, hidden, batch = map(int, case.split("-"))
        torch.manual_seed(0)
        blocks = torch.nn.ModuleList(Block(dim, hidden) for _ in range(BLOCKS))
        optimizer = torch.optim.Adam(blocks.parameters(), 1e-3)
        x = torch.randn(batch, dim)
        step(blocks, optimizer, x)
        times, begun = [], time.time()
        while len(times) < 3 or time.time() - begun < args.budget:
            start = time.time()
            step(blocks, optimizer, x)
            times.append(time.time() - start)
        median = 1e3 * statistics.median(times)
        print(json.dumps({"case": f"ddnfexact-{case}", "median_ms": round(median, 1), "n": len(times)}))


if __name__ == "__main__":
    main()
