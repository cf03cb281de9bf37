# SPDX-License-Identifier: Apache-2.0
"""`python -m training STAGE`: make the bundled model. See training/README.md."""

import argparse

import torch

from .recipes import RECIPES
from .report import report, train_judge
from .run import Run

STAGES = {
    "all": "everything, one after the other", "pool": "render the geometry pool", "codec": "fit the codec",
    "decoder": "train the codec's decoder", "denoiser": "train the denoiser (with a painter beside)",
    "paint": "paint until the caller ends (the denoiser starts this)", "export": "write the model folder",
    "sheet": "sample sheets and metrics", "judge": "train the classifier that the report asks (the report does this)",
    "report": "measure a model folder: docs/swatch.md, docs/swatch.json and the picture grids"}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="\n".join(f"  {name:9} {text}" for name, text in STAGES.items()))
    parser.add_argument("stage", choices=STAGES, metavar="STAGE")
    parser.add_argument("--recipe", default="cpu", choices=RECIPES)
    parser.add_argument("--smoke", action="store_true", help="the whole recipe at toy size (the recipe 'smoke')")
    parser.add_argument("--out", default=".train", help="working folder; an interrupted run continues there")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, help="denoiser minutes in all, resumed ones included")
    parser.add_argument("--start-from", help="an exported model whose weights a new run starts from")
    parser.add_argument("--model", default="engine/models/swatch", help="the folder that `judge` and `report` measure")
    parser.add_argument("--docs", default="docs", help="where `report` writes")
    parser.add_argument("--quick", action="store_true", help="a `report` in minutes, with rough numbers")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)    # per process: several processes beat several threads here
    name = "smoke" if options.smoke else options.recipe
    run = Run(RECIPES[name], name, options.out, options.seed, options.device, options.minutes, options.start_from)
    stages = {"all": run.all, "codec": run.fit_codec, "decoder": run.refine_codec, "denoiser": run.denoise, "paint": run.paint,
              "pool": lambda: run.pool(options.worker), "export": run.export, "sheet": run.sheet,
              "judge": lambda: train_judge(options.out, options.model),
              "report": lambda: report(options.out, options.model, options.docs, options.quick)}
    stages[options.stage]()


if __name__ == "__main__":
    main()
