"""The networks of docs/methods/*.md written out slowly: numpy, float64, one sample and its task at a time.

Every function takes the parameters of one network by their names; the arithmetic is the pages' own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Parameters = dict[str, Array]
Settings = dict[str, Any]


def parameters(network: torch.nn.Module) -> Parameters:
    """Every number of a network, by its name."""
    return {name: value.detach().double().numpy() for name, value in network.state_dict().items()}


def under(given: Parameters, prefix: str) -> Parameters:
    """The parameters whose names begin with `prefix` and a dot, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in given.items() if name.startswith(prefix + ".")}


def relu(x: Array) -> Array:
    return np.array([max(number, 0.0) for number in x])


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max())
    return np.asarray(powers / powers.sum())


def linear(given: Parameters, x: Array) -> Array:
    """A x + a, as torch stores it: (outputs, inputs)."""
    return np.asarray(given["weight"] @ x + given["bias"])


def own(given: Parameters, index: int, x: Array) -> Array:
    """x W_i + b_i of a stack: (count, inputs, outputs)."""
    return np.asarray(x @ given["weight"][index] + given["bias"][index, 0])


def members(given: Parameters) -> list[Parameters]:
    """The parameters of the numbered members of a list, in order."""
    indices = sorted({int(name.partition(".")[0]) for name in given})
    return [under(given, str(index)) for index in indices]


def mlp(given: Parameters, x: Array) -> Array:
    """Linear layers with relu between and none at the end."""
    *hidden, output = members(given)
    for layer in hidden:
        x = relu(linear(layer, x))
    return linear(output, x)


# Bodies: the network on top of an encoding


def multi_head(given: Parameters, x: Array, task: int) -> Array:
    """docs/methods/multi_head.md."""
    for layer in members(under(given, "trunk")):
        x = relu(linear(layer, x))
    for layer in members(under(given, "hidden")):
        x = relu(own(layer, task, x))
    return own(under(given, "output"), task, x)


def single_task(given: Parameters, x: Array, task: int) -> Array:
    """docs/methods/single_task.md."""
    *hidden, output = members(under(given, "layers"))
    for layer in hidden:
        x = relu(own(layer, task, x))
    return own(output, task, x)


def projected(given: Parameters, x: Array, task: int, its: Settings) -> Array:
    """docs/methods/ptsl.md and care_ptsl.md: the five equations, layer by layer."""
    shared, last = members(under(given, "shared")), its["depth"] + 1
    d_before = y_before = np.zeros(0)
    for layer in range(1, last + 1):
        if its["projection"] == "independent":
            down, up = f"down.{layer - 1}", f"up.{layer - 1}"
        else:
            down, up = ("down.0" if layer == 1 else "down.1"), "up.0"
        d = x @ given[down]
        e = d if layer == 1 else residual(given, d, d_before, y_before, its["residual"])
        y = e @ given[f"weight.{layer - 1}"][task] + given[f"bias.{layer - 1}"][task, 0]
        if layer == last:
            return linear(shared[layer - 1], x) + y
        x = relu(linear(shared[layer - 1], x) + y @ given[up])
        d_before, y_before = d, y
    raise AssertionError


def residual(given: Parameters, d: Array, d_before: Array, y_before: Array, kind: str) -> Array:
    """r(d_l, d_(l-1), y_(l-1))."""
    if kind == "none":
        return d
    if kind == "sum":
        return d + d_before + y_before
    if kind == "linear":
        a1, a2, a3 = given["mix"]
        return np.asarray(a1 * d + a2 * d_before + a3 * y_before)
    return np.asarray(np.concatenate([d, d_before, y_before]) @ given["mix"])


# Soft modularization


def route(flat: Array, modules: int) -> Array:
    """p_ij: softmax over the giving module j for each taking module i."""
    return np.stack([softmax(row) for row in flat.reshape(-1, modules)])


def mix(p: Array, i: int, m: list[Array]) -> Array:
    """sum_j p_ij m_j."""
    total = np.zeros_like(m[0])
    for j, given in enumerate(m):
        total = total + p[i, j] * given
    return total


def mtrl_modules(given: Parameters, z: Array, code: Array, action: Array | None, its: Settings) -> Array:
    """docs/methods/soft_modularization.md, `variant: mtrl`."""
    count, layers = its["modules"], its["module_layers"]
    x = z if action is None else linear(under(given, "project"), np.concatenate([z, action]))
    r = linear(under(given, "routing"), x * code)
    down, up = members(under(given, "down")), members(under(given, "up"))
    p = [linear(down[0], relu(r))]  # p_1 ... p_(L-1)
    for layer in range(1, layers - 1):
        p.append(linear(down[layer], relu(linear(up[layer - 1], p[-1]) * r)))
    weights = [*members(under(given, "layers")), under(given, "output")]
    m = [relu(own(weights[0], i, x)) for i in range(count)]
    for layer in range(1, layers - 1):
        routes = route(p[layer - 1], count)
        m = [relu(own(weights[layer], i, mix(routes, i, m))) for i in range(count)]
    routes = route(p[layers - 2], count)
    outputs = [own(weights[layers - 1], i, mix(routes, i, m)) for i in range(count)]
    return np.asarray(sum(outputs) / count)


def original_modules(given: Parameters, x: Array, task: int, its: Settings) -> Array:
    """docs/methods/soft_modularization.md, `variant: original`."""
    count, layers = its["modules"], its["module_layers"]
    f = mlp(under(given, "base"), x)
    embedding = under(given, "embedding")
    v = embedding["weight"][:, task] + embedding["bias"]
    r = mlp(under(given, "gating"), relu(f * v))
    down, up = members(under(given, "down")), members(under(given, "up"))
    p = [route(linear(down[0], relu(r)), count)]
    for layer in range(1, layers):
        before = np.concatenate([routes.ravel() for routes in p])
        p.append(route(linear(down[layer], relu(linear(up[layer - 1], before) * r)), count))
    *routes_before, q = p
    weights = members(under(given, "layers"))
    m = [own(weights[0], i, relu(f)) for i in range(count)]
    for layer in range(1, layers):
        m = [own(weights[layer], i, relu(mix(routes_before[layer - 1], i, m))) for i in range(count)]
    assert q.shape == (1, count)
    return linear(under(given, "output"), relu(mix(q, 0, m)))


# What CARE sees


def task_code(given: Parameters, vector: Array, learned: bool) -> Array:
    """c_t from v_t; `vector` is the frozen embedding, or the task's row of the learned table."""
    x = relu(vector)
    layers = members(under(given, "layers"))
    linears = [layer for layer in layers if "weight" in layer]
    if not learned:
        first, second = linears  # A1, A2
        x = relu(linear(second, relu(linear(first, x))))
    return mlp(layers[-1], x)


def mixture(given: Parameters, observation: Array, code: Array, its: Settings) -> Array:
    """[z, c_t]."""
    *hidden, output = members(under(given, "experts.layers"))
    encodings = []
    for k in range(its["experts"]):
        x = observation
        for layer in hidden:
            x = relu(own(layer, k, x))
        encodings.append(own(output, k, x))
    if its["attention"] == "task":
        alpha = softmax(mlp(under(given, "attention.network"), code))
    else:
        alpha = softmax(np.array([e @ code for e in encodings]))
    z = np.zeros_like(encodings[0])
    for weight, e in zip(alpha, encodings, strict=True):
        z = z + weight * e
    return np.concatenate([z, code])
