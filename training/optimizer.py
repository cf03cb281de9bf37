# SPDX-License-Identifier: Apache-2.0
"""Muon for the weight matrices (orthogonalized momentum), AdamW for everything else.

At a CPU's budget the number of updates is what is scarce, and orthogonalized updates need clearly fewer.
"""

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)     # drives singular values to about 1 (Jordan et al. 2024)
ROUNDS = 4
RMS = 0.2                               # update size that matches AdamW's, so both share one learning rate


class MuonWithAdamW(torch.optim.Optimizer):
    """One learning rate for both; `matrices` may be convolutions (flattened to out × in·k·k)."""

    def __init__(self, matrices, others, lr, momentum=0.95, betas=(0.9, 0.98), weight_decay=0.01):
        super().__init__([dict(params=matrices, muon=True), dict(params=others, muon=False)],
                         dict(lr=lr, momentum=momentum, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["muon"] else self._adamw)(parameters, group)

    def _muon(self, parameters, group):
        alike = {}
        for p in parameters:
            average = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
            average.lerp_(p.grad, 1 - group["momentum"])
            update = p.grad.lerp(average, group["momentum"]).reshape(len(p), -1)
            alike.setdefault(update.shape, []).append((p, update))
        for shape, pairs in alike.items():
            directions = orthogonalize(torch.stack([u for _, u in pairs])) * (RMS * max(shape) ** 0.5)
            for (p, _), direction in zip(pairs, directions):
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * direction.view(p.shape))

    def _adamw(self, parameters, group):
        if not parameters:
            return
        for p in parameters:
            if "exp_avg" not in self.state[p]:
                self.state[p] = dict(exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        means = [self.state[p]["exp_avg"] for p in parameters]
        squares = [self.state[p]["exp_avg_sq"] for p in parameters]
        grads = [p.grad for p in parameters]
        first, second = group["betas"]
        torch._foreach_lerp_(means, grads, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, grads, grads, 1 - second)
        group["count"] = group.get("count", 0) + 1
        scale = (1 - second ** group["count"]) ** 0.5 / (1 - first ** group["count"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, 1e-8)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, means, roots, -group["lr"] * scale)


def orthogonalize(matrices):
    """The nearest (semi-)orthogonal matrices of a stack (K,m,n), approximately, in bfloat16."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.float().square().sum((-2, -1), keepdim=True).sqrt() + 1e-7).bfloat16()
    a, b, c = QUINTIC
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x if wide else x.mT).to(matrices.dtype)


def split_parameters(networks):
    """Matrices that Muon moves, and the rest: biases, norms, embeddings, first and last layers."""
    matrices, others = [], []
    for module_name, module in networks.modules.items():
        for name, p in module.named_parameters():
            outer = any(key in name for key in ("embedding", "conv_in", "conv_out", "controlnet_"))
            (others if p.dim() < 2 or outer else matrices).append(p)
    return matrices, others
