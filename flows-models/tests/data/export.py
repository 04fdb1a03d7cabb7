import json

from safetensors.torch import save_file


def zuko_layers(flow):
    for k, layer in enumerate(flow.transform.transforms):
        univariate = getattr(layer, "univariate", None)
        hyper = getattr(layer, "hyper", [None, None])
        yield {
            "name": f"transform.transforms.{k}",
            "class": type(layer).__name__,
            "univariate": getattr(getattr(univariate, "func", univariate), "__name__", None),
            "options": getattr(univariate, "keywords", {}),
            "activation": type(hyper[1]).__name__,
        }


def nflows_layers(layer, name="_transform"):
    if hasattr(layer, "_transforms"):
        for k, part in enumerate(layer._transforms):
            yield from nflows_layers(part, f"{name}._transforms.{k}")
        return
    net = getattr(layer, "autoregressive_net", getattr(layer, "transform_net", None))
    activations = {getattr(part, "activation", None) for part in net.modules()} if net else {None}
    yield {
        "name": name,
        "class": type(layer).__name__,
        "options": {k: v for k, v in vars(layer).items() if isinstance(v, (int, float, str))},
        "activation": next((a.__name__ for a in activations if a), None),
    }


def export(path, flow, layers, x, log_prob, context=None):
    tensors = {**flow.state_dict(), "check.x": x, "check.log_prob": log_prob}
    if context is not None:
        tensors["check.context"] = context
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={"flow": json.dumps(list(layers))})
