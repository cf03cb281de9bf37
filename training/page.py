# SPDX-License-Identifier: Apache-2.0
"""The report's page: tables and derived sentences from numbers, put into the template `report.md`."""

from pathlib import Path
from string import Template

GOOD, BAD = 0.8, 0.2            # shares of right answers of a material that works, and of one that does not
BLIND = 0.6                     # below this share on true renders the judge cannot tell, so the model is not blamed
TEMPLATE = Path(__file__).parent / "report.md"


def goals(numbers):
    """The goals of the issue as (what, value, text, goal, met). Only this decides what is met."""
    names, cost = numbers["adherence"]["swatch"], numbers["cost"]
    codec, error = numbers["codec"], numbers["depth"]["swatch"]["error"]
    rows = []

    def at_least(what, value, goal, text, unit=""):
        rows.append((what, value, text, f"≥ {goal:g}{unit}", value is not None and value >= goal))

    def at_most(what, value, goal, text, unit=""):
        rows.append((what, value, text, f"≤ {goal:g}{unit}", value is not None and value <= goal))

    def hits(what, found, goal):
        at_least(what, found and 100 * found["share"], goal, percent(found), " %")

    hits("Colour, held-out pairs, top-1", names["colour"]["unseen"], 90)
    hits("Material, held-out pairs, top-1", names["material"]["unseen"], 80)
    at_most("Figure and ground wrong", 100 * error, 2, f"{100 * error:.1f} %", " % of pixels")
    at_least("Codec, PSNR on the object", codec["psnr_refined"], 26, f"{codec['psnr_refined']:.1f} dB", " dB")
    at_most("Codec, steps at patch borders over the truth's (no visible grid)", codec["seams_refined"], 1.1,
            f"{codec['seams_refined']:.2f}")
    at_least("Materials known", numbers["materials"], 50, str(numbers["materials"]))
    at_least("Colour words known", numbers["colours"], 24, str(numbers["colours"]))
    at_most("Weights in all", cost["bytes"] / 1e6, 45, f"{cost['bytes'] / 1e6:.1f} MB", " MB")
    at_most("Largest file", cost["largest"] / 1e6, 15, f"{cost['largest'] / 1e6:.1f} MB", " MB")
    at_most(f"{cost['views']} views, {numbers['settings']['steps']} steps with guidance", cost["seconds"], 60,
            f"{cost['seconds']:.1f} s on {threads(cost['threads'])}", " s on 2 cores")
    return rows


def page(numbers, model):
    """The Markdown of `docs/swatch.md`."""
    adherence, cost, judge, codec = (numbers[part] for part in ("adherence", "cost", "judge", "codec"))
    settings, ceiling = numbers["settings"], adherence["codec"]
    return Template(TEMPLATE.read_text()).substitute(
        model=model, view_size=numbers["view_size"], megabytes=f"{cost['bytes'] / 1e6:.0f}",
        parameters=f"{cost['parameters'] / 1e6:.1f}",
        materials=numbers["materials"], colours=numbers["colours"], notes=notes(numbers), targets=targets(numbers),
        colour_ceiling=percent(ceiling["colour"]["unseen"]), material_ceiling=percent(ceiling["material"]["unseen"]),
        abilities=abilities(numbers["per_material"]), per_material=material_table(numbers["per_material"]),
        training=training(numbers["training"]), exam=exam(numbers), steps=settings["steps"],
        guidance=settings["guidance"], rescale=settings["guidance_rescale"],
        judge_parameters=round(judge["parameters"] / 1000), judge_samples=f"{judge['samples']:,}",
        judge_views=judge["views"], adherence=adherence_table(adherence, numbers["materials"], numbers["colours"]),
        correlation=f"{numbers['colour_correlation']:.2f}", rmse=f"{numbers['colour_rmse']:.2f}",
        depth=depth_table(numbers["depth"]), clear=numbers["depth"]["count"], count=numbers["count"],
        figure=numbers["figure_threshold"], kernel=kernel_table(numbers["kernel_distance"]), subset=numbers["subset"],
        codec=codec_table(codec), drift=f"{codec['drift']:.0e}",
        diversity=diversity(numbers["diversity"]), cost=cost_table(numbers), duration=duration(numbers["seconds"]))


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def percent(found, half=True):
    """"87 ± 4 %" of a share with its half-width."""
    if found is None:
        return "-"
    return f"{100 * found['share']:.0f} ± {100 * found['half']:.0f} %" if half else f"{100 * found['share']:.0f} %"


def threads(count):
    return "one thread" if count == 1 else f"{count} threads"


def listed(words):
    words = [word.replace("_", " ") for word in words]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def duration(seconds):
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def notes(numbers):
    """Sentences that only some runs need."""
    found = []
    if numbers["quick"]:
        found.append("**This is a quick run with few views and a hardly trained judge: its numbers are rough.**")
    if not numbers["grammar_is_the_models"]:
        found.append(f"**The grammar of this checkout is not the one these weights were trained with**: of its "
                     f"{numbers['materials_of_grammar']} materials the weights know {numbers['materials']}. Only known "
                     "words are measured, with today's surfaces; some of today's held-out pairs may have been trained.")
    return "".join(f"\n{text}\n" for text in found)


def targets(numbers):
    rows = [(what, f"**{text}**", goal, "met" if met else "**missed**") for what, _, text, goal, met in goals(numbers)]
    met = sum(row[3] == "met" for row in rows)
    return table(("goal", "swatch", "wanted", ""), rows) + f"\n\n{met} of {len(rows)} goals are met."


def abilities(found):
    """Which materials the judge recognizes, in words."""
    told = {name: row for name, row in found.items() if row["true_right"] >= BLIND * row["count"]}
    untold = [name for name in found if name not in told]
    good = [name for name, row in told.items() if row["right"] >= GOOD * row["count"]]
    bad = [name for name, row in told.items() if row["right"] < BAD * row["count"]]
    some = [name for name in told if name not in good and name not in bad]
    parts = [(good, f"**Works** (named right in at least {GOOD:.0%} of its views)"), (some, "**Sometimes**"),
             (bad, f"**Does not work** (below {BAD:.0%})"),
             (untold, f"**Cannot be said** (the judge names fewer than {BLIND:.0%} of the true renders right)")]
    return "\n".join(f"- {text}, {len(names)} of {len(found)}: {listed(names)}." for names, text in parts if names)


def material_table(found):
    body = []
    for name, row in sorted(found.items(), key=lambda one: (-one[1]["right"] / one[1]["count"], one[0])):
        body.append((name.replace("_", " ") + ("" if row["unseen"] else " \\*"), f"{row['right']} of {row['count']}",
                     f"{row['true_right']} of {row['count']}", (row["taken_for"] or "").replace("_", " ")))
    return (table(("material", "generated", "true, after the codec", "most often taken for"), body)
            + "\n\n\\* no pair is held out: its name sets its colour, or the weights know no held-out colour for it.")


def adherence_table(found, materials, colours):
    columns = ("swatch", "unguided", "shuffled", "codec", "true")
    rows = [("**colour**, held-out pairs", "colour", "unseen", colours),
            ("… without wear and tone", "colour", "plain", colours),
            ("… with wear or tone", "colour", "worn", colours),
            ("… captions with one colour", "colour", "one", colours),
            ("… both colours of two", "colour", "both", None),
            ("**material**, held-out pairs", "material", "unseen", materials),
            ("… without wear and tone", "material", "plain", materials),
            ("… with wear or tone", "material", "worn", materials),
            ("… among the judge's first three", "material", "among_three", materials / 3),
            ("material where no pair is held out", "material", "seen", materials)]
    body = []
    for text, kind, group, chance in rows:
        if (first := found["swatch"][kind][group]) is None:
            continue
        cells = [percent(found[c][kind][group], c == "swatch") if c in found else "-" for c in columns]
        body.append((text, first["count"], *cells, f"{100 / chance:.0f} %" if chance else ""))
    head = ("", "views", "swatch", "unguided", "another's caption", "true, after the codec", "true", "chance")
    return table(head, body)


def depth_table(found):
    columns = ("swatch", "another", "codec", "true")
    shown = (("figure/ground wrong, mean", "error", "{:.1%}"), ("… median view", "error_median", "{:.1%}"),
             ("silhouette, intersection over union", "overlap", "{:.3f}"), ("edge correlation", "edges", "{:.2f}"))
    return table(("", "swatch", "another's depth", "true, after the codec", "true"),
                 [(text, *(form.format(found[c][key]) for c in columns)) for text, key, form in shown])


def kernel_table(found):
    names = (("swatch", "generated"), ("true", "true renders (two halves of the truth)"),
             ("codec", "true renders after the codec"), ("unguided", "generated, unguided"))
    return table(("views", "1000 KID"), [(text, "{:.0f} ± {:.0f}".format(*found[name])) for name, text in names])


def codec_table(found):
    return table(("decoder", "PSNR on the object", "seams"), [
        ("linear (what synchronization sees)", f"{found['psnr_linear']:.1f} dB", f"{found['seams_linear']:.2f}"),
        ("refined (what is shown)", f"{found['psnr_refined']:.1f} dB", f"{found['seams_refined']:.2f}")])


def diversity(found):
    text = (f"Mean distance in the judge's features between {found['seeds']} seeds of the same caption and shape "
            f"({found['prompts']} captions): **{found['swatch']:.2f}**; between as many true renders of the same words "
            f"and shape: {found['true']:.2f}. So the seeds differ {found['ratio']:.2f} times as much as the truth does")
    apart = found["other_prompts"]
    return text + (f"; views of different captions are {apart:.2f} apart." if apart else ".")


def training(facts):
    """What `swatch.json` records of the run."""
    sentence = []
    if facts.get("seconds"):
        sentence.append(f"It trained for {duration(facts['seconds'])}")
    if facts.get("device"):
        sentence.append(f"on {facts['device']}")
    if facts.get("samples"):
        sentence.append(f"and saw {facts['samples']:,} painted windows")
    text = " ".join(sentence) + "." if sentence else "The weights do not say how they were trained."
    recipe = [f"{key} {facts[key]}" for key in ("recipe", "iteration", "seed") if facts.get(key) is not None]
    return text + (f" ({', '.join(recipe)})" if recipe else "")


def exam(numbers):
    return (f"{numbers['count']} captions as the grammar draws them, {numbers['each']} per material, on "
            f"{numbers['shapes']} shapes; for {numbers['unseen']} of them the pair of colour and material is held out. "
            f"The others are materials without such a pair, mostly because their name sets their colour (lava, moss).")


def cost_table(numbers):
    cost, facts, count = numbers["cost"], numbers["training"], numbers["cost"]["views"]
    rows = [("weights in all, largest file", f"{cost['bytes'] / 1e6:.1f} MB, {cost['largest'] / 1e6:.1f} MB")]
    rows += [(f"parameters of `{name}`", f"{found:,}") for name, found in cost["parts"].items()]
    rows += [(f"a view ({numbers['settings']['steps']} steps with guidance, {count} in a batch)",
              f"{cost['seconds'] / count:.2f} s by the clock, {cost['processor_seconds'] / count:.2f} s of processor "
              f"time, {threads(cost['threads'])}")]
    rows += [("training", f"{facts.get('seconds', 0):,.0f} s, {facts.get('samples', 0):,} samples, "
                          f"{facts.get('device', 'device not recorded')}")]
    return table(("", ""), rows)
