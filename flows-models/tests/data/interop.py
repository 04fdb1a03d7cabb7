"""Flows of zuko and nflows with other parameters than they start with, for flows-models/tests/interop.

    python -m venv venv
    venv/bin/pip install zuko==1.6.0 nflows==0.14 safetensors==0.8.0
    venv/bin/python interop.py --out FOLDER --seed 0

Files of `--wrong` are to be refused: zuko's SOS flow with its maps between the layers, and a flow whose log-densities are
those of another.
"""

import argparse
from pathlib import Path

import torch
from export import export, nflows_layers, zuko_layers
from nflows.distributions import StandardNormal
from nflows.flows import Flow, MaskedAutoregressiveFlow, SimpleRealNVP
from nflows.nn.nets import ResidualNet
from nflows.transforms import (
    CompositeTransform,
    MaskedPiecewiseRationalQuadraticAutoregressiveTransform as MaskedSpline,
    PiecewiseRationalQuadraticCouplingTransform as SplineCoupling,
    RandomPermutation,
)
from nflows.utils.torchutils import create_alternating_binary_mask
from zuko.flows import BPF, MAF, NSF, SOSPF, RealNVP

ROWS = 16


def nsf_of_nflows(context):
    layers = [
        RandomPermutation(4),
        MaskedSpline(4, 10, context_features=context, num_bins=5, tails="linear", tail_bound=4.0),
        RandomPermutation(4),
    ]
    if context is None:
        net = lambda inputs, outputs: ResidualNet(inputs, outputs, hidden_features=10, num_blocks=1)  # noqa: E731
        mask = create_alternating_binary_mask(4)
        layers.append(SplineCoupling(mask, net, num_bins=5, tails="linear", tail_bound=4.0))
    return Flow(CompositeTransform(layers), StandardNormal([4]))


FLOWS = {
    "zuko-maf": lambda: (MAF(4, 0, transforms=3, hidden_features=(11, 7)), 0),
    "zuko-maf-context": lambda: (MAF(3, 2, transforms=2, hidden_features=(10,), randperm=True), 2),
    "zuko-nsf": lambda: (NSF(3, 2, transforms=2, bins=5, hidden_features=(9, 9)), 2),
    "zuko-blocks": lambda: (NSF(4, 0, transforms=2, passes=2, activation=torch.nn.ELU, hidden_features=(9,)), 0),
    "zuko-realnvp": lambda: (RealNVP(3, 2, transforms=3, hidden_features=(8, 8), activation=torch.nn.Tanh), 2),
    "zuko-bpf": lambda: (BPF(3, 0, transforms=1, degree=8, hidden_features=(8,)), 0),
    "nflows-maf": lambda: (MaskedAutoregressiveFlow(5, 12, 2, 2), 0),
    "nflows-realnvp": lambda: (SimpleRealNVP(4, 9, 3, 1), 0),
    "nflows-nsf": lambda: (nsf_of_nflows(None), 0),
    "nflows-nsf-context": lambda: (nsf_of_nflows(3), 3),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wrong", action="store_true", help="files that are to be refused")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(arguments.seed)
    flows = {"zuko-sos": lambda: (SOSPF(3, 0, transforms=2, hidden_features=(8,)), 0)} if arguments.wrong else FLOWS
    for name, make in flows.items():
        flow, context_dim = make()
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        flow.eval()
        is_zuko = name.startswith("zuko")
        dim = next(v.shape[0] for k, v in flow.state_dict().items() if k == "base.loc") if is_zuko else (
            flow._distribution._shape[0]
        )
        x = 1.5 * torch.randn(ROWS, dim)
        context = torch.randn(ROWS, context_dim) if context_dim else None
        log_prob = flow(context).log_prob(x) if is_zuko else flow.log_prob(x, context)
        layers = zuko_layers(flow) if is_zuko else nflows_layers(flow._transform)
        export(arguments.out / f"{name}.safetensors", flow, layers, x, log_prob, context)


if __name__ == "__main__":
    main()
