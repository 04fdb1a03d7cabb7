"""Golden values of zuko's CNF, normflows' residual block and flowjax's block neural autoregressive network, for
flows-core/tests/f64/continuous_parity.rs. The environment is that of generate.py.

    venv/bin/python generate_continuous.py --out FOLDER --seed 0

Each file is one layer: weights `[out, in]` and biases of its network, the columns of the first layer that read the context
in `0.context`, inputs, value, log-determinant and the gradients of `sum(value^2 / 2 + sin(value)) - sum(log_det)` in the
inputs, all in f64. Parameters are moved by N(0, 0.3^2) first. What is not a weight is folded into the weights: the slope
that normflows learns for its activation, the 1.1 it divides by, and its norms.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

from generate import evaluate, perturb

ROWS = 8


def linear(layer, context_dim=0):
    weight, bias = (np.asarray(t) for t in layer)
    inputs = weight.shape[1] - context_dim
    split = {"weight": weight[:, :inputs], "bias": bias}
    if context_dim:
        split["context"] = weight[:, inputs:]
    return split


def zuko_cnf(dim, context_dim):
    """A field without frequencies of time, and so stationary; smooth, as zuko takes gradients by the adjoint equation."""
    from zuko.flows.continuous import FFJTransform

    options = {"hidden_features": (8, 6), "activation": torch.nn.Tanh, "atol": 1e-12, "rtol": 1e-12}
    layer = FFJTransform(dim, context_dim, freqs=0, **options)
    perturb(layer)
    parameters = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in list(layer.ode)[::2]]
    layers = [linear(p, context_dim if k == 0 else 0) for k, p in enumerate(parameters)]
    return layers, lambda x, c: evaluate(lambda x, c: layer(c).call_and_ladj(x), x, c)


def normflows_residual(dim, _context_dim):
    import normflows

    net = normflows.nets.LipschitzMLP([dim, 8, 8, dim], init_zeros=False)
    block = normflows.flows.Residual(net, reduce_memory=False, brute_force=True).double()
    perturb(net)
    block.eval()
    net(torch.zeros(1, dim))
    layers, before = [], (np.eye(dim), np.zeros(dim))
    for swish, layer in zip(list(net.net)[::2], list(net.net)[1::2]):
        slope = torch.nn.functional.softplus(swish.beta).item()
        layers.append(linear((slope * before[0], slope * before[1])))
        weight = layer.compute_weight(update=False).detach().numpy()
        before = (weight / (1.1 * slope), layer.bias.detach().numpy())
    layers.append(linear(before))

    return layers, lambda x, c: evaluate(lambda x, _: block.inverse(x), x, c)


def flowjax_bnaf(dim, context_dim):
    import jax
    import jax.numpy as jnp
    from flowjax.bijections import BlockAutoregressiveNetwork, LeakyTanh
    from paramax import unwrap

    keys = jax.random.split(jax.random.key(dim), 2)
    options = {"dim": dim, "depth": 2, "block_dim": 3, "activation": LeakyTanh(3)}
    cond_dim = context_dim or None
    layer = BlockAutoregressiveNetwork(keys[0], cond_dim=cond_dim, **options)
    leaves, tree = jax.tree_util.tree_flatten(layer)
    moved = [
        leaf + 0.3 * jax.random.normal(jax.random.fold_in(keys[1], k), leaf.shape)
        if isinstance(leaf, jax.Array) and leaf.ndim > 0 and jnp.issubdtype(leaf.dtype, jnp.floating)
        else leaf
        for k, leaf in enumerate(leaves)
    ]
    layer = unwrap(jax.tree_util.tree_unflatten(tree, moved))
    layers = [linear((of.weight, of.bias)) for of, _ in layer.layers]
    if context_dim:
        layers[0]["context"] = np.asarray(layer.cond_linear.weight)

    def loss(x, c):
        value, log_det = layer.transform_and_log_det(x, c)
        return (value**2 / 2 + jnp.sin(value)).sum() - log_det

    def outputs(x, context):
        over_rows = jax.vmap(layer.transform_and_log_det)
        c = () if context is None else (context,)
        gradient = jax.vmap(lambda x, *c: jax.grad(loss)(x, c[0] if c else None))
        value, log_det = over_rows(x, *c)
        out = {"value": value, "log_det": log_det, "gradient.x": gradient(x, *c)}
        return {name: np.asarray(tensor) for name, tensor in out.items()}

    return layers, outputs


FAMILIES = {
    ("zuko", "cnf"): (zuko_cnf, [(2, 0), (3, 2)]),
    ("normflows", "residual"): (normflows_residual, [(2, 0)]),
    ("flowjax", "bnaf"): (flowjax_bnaf, [(2, 0), (3, 2)]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_default_dtype(torch.float64)
    import jax

    jax.config.update("jax_enable_x64", True)
    for (library, family), (make, shapes) in FAMILIES.items():
        for dim, context_dim in shapes:
            rng = np.random.default_rng([arguments.seed, dim])
            torch.manual_seed(1000 * arguments.seed + dim)
            layers, outputs = make(dim, context_dim)
            x = rng.normal(scale=2.0, size=(ROWS, dim))
            context = rng.normal(size=(ROWS, context_dim)) if context_dim else None
            flat = {f"{k}.{n}": t for k, layer in enumerate(layers) for n, t in layer.items()}
            flat |= {"x": x, **outputs(x, context)}
            if context is not None:
                flat["context"] = context
            flat = {n: np.ascontiguousarray(t, dtype=np.float64) for n, t in flat.items()}
            flat.pop("gradient.context", None)
            about = {"library": f"{library} {version(library)}", "seed": arguments.seed}
            name = f"{library}-{family}-{dim}.safetensors"
            save_file(flat, arguments.out / name, metadata={"golden": json.dumps(about)})


if __name__ == "__main__":
    main()
