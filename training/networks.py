# SPDX-License-Identifier: Apache-2.0
"""The networks of swatch: stock diffusers and transformers classes, small, from scratch, trained jointly."""

from dataclasses import dataclass

import torch
import torch.nn as nn
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from .tokens import build_tokenizer
from .words import every_word


@dataclass(frozen=True)
class Networks:
    """What is trained together; `tokenizer` and `scheduler` have no weights."""

    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    controlnet: ControlNetModel
    tokenizer: object
    scheduler: DDIMScheduler

    @property
    def modules(self):
        return {"text_encoder": self.text_encoder, "unet": self.unet, "controlnet": self.controlnet}

    def parameters(self):
        return [p for m in self.modules.values() for p in m.parameters()]

    def velocity(self, noisy, timesteps, tokens, depth):
        """Predicted v (B,C,h,w) from latents (B,C,h,w), timesteps (B,), tokens (B,L) and depth (B,3,8h,8w) in 0..1."""
        hidden = self.text_encoder(input_ids=tokens).last_hidden_state
        down, middle = self.controlnet(noisy, timesteps, hidden, controlnet_cond=depth, return_dict=False)
        return self.unet(noisy, timesteps, hidden, down_block_additional_residuals=down,
                         mid_block_additional_residual=middle).sample


def build_networks(recipe, seed):
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(every_word(), recipe.text_length)
    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.text_width, intermediate_size=2 * recipe.text_width,
        num_hidden_layers=recipe.text_layers, num_attention_heads=4, max_position_embeddings=recipe.text_length,
        projection_dim=recipe.text_width, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id))
    shared = dict(in_channels=recipe.channels, block_out_channels=recipe.widths, layers_per_block=1,
                  cross_attention_dim=recipe.text_width, norm_num_groups=min(16, recipe.widths[0] // 4))
    unet = UNet2DConditionModel(
        sample_size=recipe.latent, out_channels=recipe.channels, attention_head_dim=recipe.heads,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        # the words as a whole also reach the finest level, which has no attention
        addition_embed_type="text", addition_embed_type_num_heads=4, **shared)
    controlnet = ControlNetModel(
        down_block_types=("DownBlock2D",) * 3, mid_block_type="UNetMidBlock2D", attention_head_dim=recipe.heads,
        conditioning_embedding_out_channels=recipe.control_widths, **shared)
    # trained from scratch together with the U-Net, the usual zero start would only delay the depth
    for conv in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block, controlnet.controlnet_cond_embedding.conv_out):
        nn.init.xavier_uniform_(conv.weight, gain=0.3)
    nn.init.zeros_(unet.add_embedding.norm2.weight)     # starts as if it were not there, also in adopted weights
    return Networks(text_encoder, unet, controlnet, tokenizer, build_scheduler())


def build_scheduler():
    """Cosine noise levels with exactly zero signal at the last of 1000 steps."""
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", rescale_betas_zero_snr=True,
                         timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True)
