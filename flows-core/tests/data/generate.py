"""Golden values of zuko, nflows, normflows and flowjax, for flows-core/tests/f64/parity.rs.

    python -m venv venv
    venv/bin/pip install zuko==1.6.0 nflows==0.14 normflows==1.7.3 flowjax==19.1.2 safetensors==0.8.0
    venv/bin/python generate.py --out FOLDER --seed 0

Each file is one layer with its conditioner: parameters, inputs, value, log-determinant and the gradients of
`sum(value^2 / 2 + sin(value)) - sum(log_det)` in the inputs and the context, all in f64. Every parameter is moved by
N(0, 0.3^2) first, so that none is where its library starts it. The metadata `golden` says what the layer is:

    library, family, seed    where the values come from
    dim, context_dim         columns
    conditioner              "masked", or "coupling" with `untouched`, the columns left as they are
    connections              "plain" or "residual"; the activation is ReLU
    transform                the map of each variable, as a configuration of ours names it

Linear layers are `0`, `1`, .. and `output`, weights `[out, in]` times their masks, with `mask` where they have one. Columns
that read the context are in `context`. The output lists parameter 0 of all variables, then parameter 1, and so on. What
another library does to an output before it is a parameter of the transform (nflows divides by the root of the number of
hidden units) is folded into weights and biases here.
"""

import argparse
import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

ROWS = 8
SHAPES = [(2, 0), (5, 3)]
HIDDEN = 8
BINS = 5


def linear(weight, bias, mask=None):
    tensors = {"weight": weight * (1 if mask is None else mask), "bias": bias}
    if mask is not None:
        tensors["mask"] = mask
    return tensors


def of_torch(layer, mask=None):
    if mask is None:
        mask = getattr(layer, "mask", None)
    mask = None if mask is None else mask.detach().double().numpy()
    return linear(layer.weight.detach().numpy(), layer.bias.detach().numpy(), mask)


def rows(layer, order):
    return {name: tensor[order] for name, tensor in layer.items()}


def parameter_major(variables, parameters, order=None):
    """Rows of an output that lists all parameters of variable 0 first, in the order that is asked for."""
    order = range(parameters) if order is None else order
    return [i * parameters + p for p in order for i in range(variables)]


def scaled(output, variables, count, factor):
    """Multiplies the parameters below `count` of an output in parameter-major order."""
    factors = np.ones(len(output["bias"]))
    factors[: count * variables] = factor
    return {
        name: tensor if name == "mask" else (tensor.T * factors).T for name, tensor in output.items()
    }


def without_context(layer, dim):
    """Splits the columns that read the context off a layer that reads `[x, context]`."""
    layer = dict(layer)
    if layer["weight"].shape[1] > dim:
        layer["context"] = layer["weight"][:, dim:]
    layer["weight"] = layer["weight"][:, :dim]
    if "mask" in layer:
        layer["mask"] = layer["mask"][:, :dim]
    return layer


def perturb(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)


def evaluate(forward, x, context):
    """Value, log-determinant and gradients of a map of torch tensors."""
    x = torch.from_numpy(x).requires_grad_()
    context = None if context is None else torch.from_numpy(context).requires_grad_()
    value, log_det = forward(x, context)
    loss = (value.square() / 2 + value.sin()).sum() - log_det.sum()
    inputs = [x] if context is None else [x, context]
    gradients = torch.autograd.grad(loss, inputs)
    out = {"value": value, "log_det": log_det, "gradient.x": gradients[0]}
    if context is not None:
        out["gradient.context"] = gradients[1]
    return {name: tensor.detach().numpy() for name, tensor in out.items()}


def zuko_family(flow_class, transform, parameters, **options):
    def make(dim, context_dim, _rng):
        flow = flow_class(
            dim, context_dim, transforms=1, hidden_features=(HIDDEN, HIDDEN), **options
        )
        perturb(flow)
        layer = flow.transform
        layer = layer.transforms[0] if hasattr(layer, "transforms") else layer
        first, second, output = (of_torch(layer.hyper[k]) for k in (0, 2, 4))
        layers = [without_context(first, dim), second, rows(output, parameter_major(dim, parameters))]

        def forward(x, context):
            return layer(context).call_and_ladj(x)

        golden = {"conditioner": "masked", "connections": "plain", "transform": transform}
        return golden, layers, {}, lambda x, c: evaluate(forward, x, c)

    return make


def residual_blocks(net, masked):
    """The layers of a residual network of nflows or normflows, the first one first."""
    layers = [of_torch(net.initial_layer)]
    for block in net.blocks:
        inner = of_torch(block.linear_layers[0])
        if masked and hasattr(block, "context_layer"):
            inner["context"] = block.context_layer.weight.detach().numpy()
            inner["bias"] = inner["bias"] + block.context_layer.bias.detach().numpy()
        layers += [inner, of_torch(block.linear_layers[1])]
    return layers


def embedding(net):
    layer = getattr(net, "context_layer", None)
    return {} if layer is None else {"embedding": of_torch(layer)}


def nflows_spline_masked(dim, context_dim, _rng):
    from nflows.transforms import MaskedPiecewiseRationalQuadraticAutoregressiveTransform as Layer

    layer = Layer(
        dim, HIDDEN, context_features=context_dim or None, num_bins=BINS, tails="linear", tail_bound=3.0
    )
    return spline_masked(layer, dim)


def normflows_spline_masked(dim, _context_dim, _rng):
    # With a context its blocks are gated, which ours are not.
    from normflows.flows import AutoregressiveRationalQuadraticSpline as Flow

    layer = Flow(dim, 1, HIDDEN, num_bins=BINS, tail_bound=3.0, init_identity=False).mprqat
    return spline_masked(layer, dim)


def spline_masked(layer, dim):
    perturb(layer)
    net, parameters = layer.autoregressive_net, 3 * BINS - 1
    output = rows(of_torch(net.final_layer), parameter_major(dim, parameters))
    if hasattr(net, "hidden_features"):
        output = scaled(output, dim, 2 * BINS, 1 / math.sqrt(net.hidden_features))
    golden = {"conditioner": "masked", "connections": "residual", "transform": spline(3.0)}
    layers = [*residual_blocks(net, True), output]
    return golden, layers, embedding(net), lambda x, c: evaluate(layer, x, c)


def nflows_affine_masked(dim, context_dim, _rng):
    from nflows.transforms import MaskedAffineAutoregressiveTransform as Layer

    layer = Layer(dim, HIDDEN, context_features=context_dim or None)
    perturb(layer)
    net = layer.autoregressive_net
    output = rows(of_torch(net.final_layer), parameter_major(dim, 2, [1, 0]))
    transform = {"affine": {"scale": {"softplus": {"floor": 1e-3}}}}
    golden = {"conditioner": "masked", "connections": "residual", "transform": transform}
    layers = [*residual_blocks(net, True), output]
    return golden, layers, embedding(net), lambda x, c: evaluate(layer, x, c)


def nflows_coupling(layer_class, transform, parameters, fold, **options):
    # With a context its blocks are gated, which ours are not.
    def make(dim, _context_dim, _rng):
        from nflows.nn.nets import ResidualNet
        from nflows.utils.torchutils import create_alternating_binary_mask

        def net(inputs, outputs):
            return ResidualNet(inputs, outputs, hidden_features=HIDDEN, num_blocks=1)

        layer = layer_class()(create_alternating_binary_mask(dim), net, **options)
        perturb(layer)
        net = layer.transform_net
        moved = len(layer.transform_features)
        output = of_torch(net.final_layer)
        if fold:
            output = rows(output, parameter_major(moved, parameters))
            output = scaled(output, moved, 2 * BINS, 1 / math.sqrt(HIDDEN))
        golden = {
            "conditioner": "coupling",
            "untouched": layer.identity_features.tolist(),
            "connections": "residual",
            "transform": transform,
        }
        layers = [*residual_blocks(net, False), output]
        return golden, layers, {}, lambda x, c: evaluate(layer, x, c)

    return make


def affine_coupling_class():
    from nflows.transforms import AffineCouplingTransform

    return AffineCouplingTransform


def spline_coupling_class():
    from nflows.transforms import PiecewiseRationalQuadraticCouplingTransform

    return PiecewiseRationalQuadraticCouplingTransform


def flowjax_masked(transformer, transform, parameters):
    def make(dim, context_dim, rng):
        import equinox
        import jax
        import jax.flatten_util
        import paramax
        from flowjax.bijections import MaskedAutoregressive

        layer = MaskedAutoregressive(
            jax.random.key(int(rng.integers(2**31))),
            transformer=transformer(),
            dim=dim,
            cond_dim=context_dim or None,
            nn_width=HIDDEN,
            nn_depth=2,
        )
        trained, fixed = equinox.partition(layer, equinox.is_inexact_array)
        moved = jax.tree.map(lambda t: t + 0.3 * rng.normal(size=t.shape), trained)
        layer = equinox.combine(moved, fixed)
        masks = [np.asarray(l.weight.args[0]).astype(float) for l in layer.masked_autoregressive_mlp.layers]
        layer = paramax.unwrap(layer)
        first, second, output = (
            linear(np.asarray(l.weight), np.asarray(l.bias), mask)
            for l, mask in zip(layer.masked_autoregressive_mlp.layers, masks)
        )
        output = rows(output, parameter_major(dim, parameters))
        # The network's outputs are added to the parameters that the transformer starts with.
        start, _ = jax.flatten_util.ravel_pytree(equinox.filter(transformer(), equinox.is_inexact_array))
        output["bias"] = output["bias"] + np.repeat(np.asarray(start), dim)

        def loss(x, context):
            value, log_det = jax.vmap(layer.transform_and_log_det)(x, context)
            return (value**2 / 2 + jax.numpy.sin(value)).sum() - log_det.sum()

        def outputs(x, context):
            value, log_det = jax.vmap(layer.transform_and_log_det)(x, context)
            out = {"value": value, "log_det": log_det, "gradient.x": jax.grad(loss)(x, context)}
            if context is not None:
                out["gradient.context"] = jax.grad(loss, argnums=1)(x, context)
            return {name: np.asarray(tensor) for name, tensor in out.items()}

        golden = {"conditioner": "masked", "connections": "plain", "transform": transform}
        return golden, [without_context(first, dim), second, output], {}, outputs

    return make


def flowjax_spline():
    from flowjax.bijections import RationalQuadraticSpline

    return RationalQuadraticSpline(knots=BINS - 1, interval=4)


def spline(bound, form="softplus"):
    return {"rq_spline": {"bins": BINS, "bound": bound, "form": form}}


def families():
    from zuko.flows import BPF, MAF, NSF, SOSPF

    least = {"min_slope": 1e-3}
    clip = {"affine": {"scale": {"soft_clip": {"bound": -math.log(1e-3)}}}}
    squares = {"sum_of_squares": {"polynomials": 2, "degree": 3}}
    floor = {"affine": {"scale": {"sigmoid": {"offset": 2.0, "floor": 1e-3}}}}
    couplings = {"num_bins": BINS, "tails": "linear", "tail_bound": 3.0}
    spline_parameters = 3 * BINS - 1
    return {
        ("zuko", "maf"): zuko_family(MAF, clip, 2),
        ("zuko", "nsf"): zuko_family(NSF, spline(5.0, {"soft_clip": least}), spline_parameters, bins=BINS),
        ("zuko", "sos"): zuko_family(SOSPF, squares, 9, polynomials=2, degree=3),
        ("zuko", "bernstein"): zuko_family(BPF, {"bernstein": {"steps": 7}}, 7, degree=6),
        ("nflows", "maf"): nflows_affine_masked,
        ("nflows", "nsf"): nflows_spline_masked,
        ("nflows", "coupling"): nflows_coupling(affine_coupling_class, floor, 2, False),
        ("nflows", "nsf-coupling"): nflows_coupling(
            spline_coupling_class, spline(3.0), spline_parameters, True, **couplings
        ),
        ("normflows", "nsf"): normflows_spline_masked,
        ("flowjax", "nsf"): flowjax_masked(
            flowjax_spline, spline(4.0, {"free_ends": {}}), 3 * BINS + 1
        ),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3, help="as many seeds, from --seed on")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_default_dtype(torch.float64)
    import jax

    jax.config.update("jax_enable_x64", True)
    for (library, family), make in families().items():
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            for dim, context_dim in SHAPES:
                rng = np.random.default_rng([seed, dim])
                torch.manual_seed(1000 * seed + dim)
                golden, layers, tensors, outputs = make(dim, context_dim, rng)
                takes_context = "embedding" in tensors or "context" in layers[0]
                x = rng.normal(scale=2.0, size=(ROWS, dim))
                if family == "bernstein":
                    # Outside of [-5, 5] zuko's map is off the identity by 1e-5, its own tolerance.
                    x = x.clip(-4.9, 4.9)
                context = rng.normal(size=(ROWS, context_dim)) if takes_context else None
                named = {f"{k}": layer for k, layer in enumerate(layers[:-1])}
                named["output"] = layers[-1]
                named |= tensors
                flat = {f"{k}.{n}": tensor for k, layer in named.items() for n, tensor in layer.items()}
                flat |= {"x": x, **outputs(x, context)}
                if takes_context:
                    flat["context"] = context
                golden |= {
                    "library": f"{library} {version(library)}",
                    "family": family,
                    "seed": seed,
                    "dim": dim,
                    "context_dim": context_dim if takes_context else 0,
                    "hidden_layers": len(layers) - 1,
                }
                flat = {n: np.ascontiguousarray(t, dtype=np.float64) for n, t in flat.items()}
                name = f"{library}-{family}-{dim}-{seed}.safetensors"
                save_file(flat, arguments.out / name, metadata={"golden": json.dumps(golden)})


if __name__ == "__main__":
    main()
