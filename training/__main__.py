# SPDX-License-Identifier: Apache-2.0
"""`python -m training STAGE`: make the bundled model. See README.md."""

import argparse

import torch

from .recipes import RECIPES
from .run import Run


def main():
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("--recipe", default="cpu", choices=RECIPES)
    parser.add_argument("--out", default=".train")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(RECIPES[options.recipe], options.recipe, options.out, options.seed, options.device, options.minutes)
    {"paint": run.paint, "denoiser": run.denoise, "export": run.export, "sheet": run.sheet}[options.stage]()


main()
