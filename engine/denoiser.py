# SPDX-License-Identifier: Apache-2.0
"""The one noun of the engine: a denoiser gives the clean image it believes in, `x0 = D(x, level)`.

Prompts, depth control and guidance are already bound in. The networks' own outputs (noise, velocity,
flow) become x0 here, at the door, so that samplers and methods know one thing only.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from blender_addon.jobs.errors import ModelError

from engine.schedule import Level


class Denoiser(Protocol):
    """Tweedie's estimate of the clean views.

    A denoiser sees all `N` views at once, because attention may look across them: callers never slice
    the batch. It does not change `x`.
    """

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """The predicted clean views [N, C, H, W] of the noisy views `x` [N, C, H, W] at `level`."""
        ...


class ViewDenoiser(Denoiser, Protocol):
    """The denoiser of all `N` views of a job.

    `only` gives that of some of them, with their prompts and depth; `unguided` the one that follows the prompt alone.
    """

    def only(self, views: Sequence[int]) -> Denoiser: ...

    def unguided(self) -> "ViewDenoiser": ...


Prediction = Callable[[Tensor, Tensor, Level], Tensor]


def from_epsilon(output: Tensor, x: Tensor, level: Level) -> Tensor:
    """x0 of a network that predicts the noise: (x - sigma eps) / alpha.

    Raises:
        ModelError: at alpha 0, where the noise says nothing of the image (Lin et al. 2023, §3.2).
    """
    if level.alpha == 0:
        raise ModelError("A model that predicts noise cannot start from pure noise (zero terminal SNR).",
                         "Set prediction_type to v_prediction, or rescale_betas_zero_snr to false, "
                         "in scheduler_config.json, as the model was trained.")
    return (x - level.sigma * output) / level.alpha


def from_v(output: Tensor, x: Tensor, level: Level) -> Tensor:
    """x0 of a network that predicts v = alpha eps - sigma x0 (Salimans and Ho 2022), alpha^2 + sigma^2 = 1."""
    return level.alpha * x - level.sigma * output


def from_sample(output: Tensor, x: Tensor, level: Level) -> Tensor:
    """x0 of a network that predicts x0."""
    return output


def from_flow(output: Tensor, x: Tensor, level: Level) -> Tensor:
    """x0 of a network that predicts the flow eps - x0 along alpha = 1 - sigma: x - sigma v."""
    return x - level.sigma * output


PREDICTIONS: dict[str, Prediction] = {
    "epsilon": from_epsilon,
    "v_prediction": from_v,
    "sample": from_sample,
    "flow_prediction": from_flow,
}


def predicts_x0(network: Callable[[Tensor, float], Tensor], prediction: str) -> Denoiser:
    """The denoiser of a `network(x, timestep)` whose output is named in `PREDICTIONS`.

    Raises:
        ModelError: `prediction` is not a known name.
    """
    if prediction not in PREDICTIONS:
        raise ModelError(f"The model's prediction_type is {prediction!r}, which is not known here.",
                         f"Known are {', '.join(PREDICTIONS)}.")
    to_x0 = PREDICTIONS[prediction]
    return lambda x, level: to_x0(network(x, level.timestep), x, level)


def implied_noise(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    """The noise that explains `x` given `x0`: (x - alpha x0) / sigma. `level.sigma` is above 0."""
    return (x - level.alpha * x0) / level.sigma


def guide(cond: Tensor, uncond: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance on two predictions [N, ...] of the same kind: `scale` 1 is `cond` itself.

    `rescale` 0..1 blends towards a result with each view's own standard deviation of `cond`, against
    the over-exposure of high scales (Lin et al. 2023, §3.4, eqs. 15 and 16; 0.7 in the paper).
    """
    guided = uncond + scale * (cond - uncond)
    if rescale == 0:
        return guided
    axes = tuple(range(1, cond.ndim))
    deviation = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return guided * (rescale * deviation + (1 - rescale))
