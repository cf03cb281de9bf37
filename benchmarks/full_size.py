# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.full_size`: one guided step of SD 1.5 with depth ControlNet at full size, ours over diffusers'.

The weights are random numbers, which cost what trained ones do; nothing is downloaded. The other side is what
diffusers' ControlNet pipeline calls in each step: the ControlNet with its picture, the U-Net, guidance. 5 GB of memory.
"""

from __future__ import annotations

from time import process_time

import torch

from engine.models.bound import BoundNetwork, TextGuidance
from engine.models.codec import Codec
from engine.models.controls import Control, bind, without_embedding
from engine.models.depot import Depot
from engine.models.unet import UNetModel
from engine.schedule import Level
from tests.full_families import CONTROLNETS, MODELS, codec, weights

from .keep import in_turns, keep, medians, ratio

VIEWS, SIDE, SCALE = 2, 256, 7.5
NAME, NET = "stable-diffusion-v1-5/stable-diffusion-v1-5", "lllyasviel/control_v11f1p_sd15_depth"
LEVEL = Level(0.8, 0.6, 401.0)


def main() -> None:
    cpu = torch.device("cpu")
    unet, net = MODELS[NAME]["unet"]().eval(), CONTROLNETS[NET]().eval()
    with torch.device("meta"):
        vae = codec()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(VIEWS, 4, SIDE // 8, SIDE // 8, generator=generator)
    text = torch.randn(2, VIEWS, 77, 768, generator=generator)
    picture = torch.rand(VIEWS, 1, SIDE, SIDE, generator=generator)
    both, pictures = torch.cat([x, x]), picture.expand(-1, 3, -1, -1).repeat(2, 1, 1, 1)
    time = torch.tensor(LEVEL.timestep)

    embedding = net.controlnet_cond_embedding
    trimmed = without_embedding(net)  # what the other side puts back for its own calls
    own = net.controlnet_cond_embedding
    model = UNetModel("full size", SIDE, SCALE, 0.0, 30, None, {}, unet, (trimmed,), Codec(vae, cpu), (), {}, cpu,
                      torch.float32, Depot(cpu, {}))  # fmt: skip
    with torch.no_grad():
        bound = bind(model.controlnets, [Control("depth", picture)], 1.0, "full size", torch.float32)
    network = BoundNetwork(model, VIEWS, {"text": text}, TextGuidance(SCALE), bound)

    @torch.no_grad()
    def theirs() -> torch.Tensor:
        net.controlnet_cond_embedding = embedding
        down, middle = net(both, time, text.flatten(0, 1), pictures, conditioning_scale=1.0, return_dict=False)
        avoided, asked = unet(both, time, text.flatten(0, 1), down_block_additional_residuals=down,
                              mid_block_additional_residual=middle, return_dict=False)[0].chunk(2)  # fmt: skip
        net.controlnet_cond_embedding = own
        return avoided + SCALE * (asked - avoided)

    torch.testing.assert_close(network(x, LEVEL.timestep), theirs(), rtol=1e-3, atol=1e-3)
    seconds = in_turns({"ours": lambda: network(x, LEVEL.timestep), "diffusers": theirs}, 5, process_time)
    share = round(ratio(seconds, "ours", "diffusers"), 3)
    count = f"{weights(unet) + weights(net):,}"
    keep("full_size", f"One guided step of SD 1.5 with depth ControlNet at full size ({count} random weights, {VIEWS} "
         f"views of {SIDE} px, float32, processor seconds of one thread), over the calls of diffusers' own pipeline",
         {"ours_over_diffusers": share, "seconds": medians(seconds)}, "at most 1.05", share <= 1.05)  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
