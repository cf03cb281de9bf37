# SPDX-License-Identifier: Apache-2.0
"""What a job says about itself when it is done: what was asked, what it ran on, how long, how well."""

from __future__ import annotations

from blender_addon.jobs.folder import VERSION, Job
from engine.versions import versions

# Settings that are words about the picture, and not of where it is computed or shown.
ASIDE = ("device", "rasterizer", "preview_every", "contact_sheet", "save_views", "turntable")


class Report:
    """Collects a job's report while it runs. `model` is the loaded model's `info`."""

    def __init__(self, job: Job, model: dict, device: str, rasterizer: str, view_size: int):
        self.settings = job.settings
        self.model = model
        self.remarks: list[str] = []
        self.facts: dict = {
            "id": job.id, "views": len(job.cameras), "view_size": view_size, "triangles": len(job.mesh.triangles),
            "device": device, "rasterizer": rasterizer,
        }  # fmt: skip

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)

    def note(self, **facts: object) -> None:
        self.facts.update(facts)

    def finish(self, seconds: dict[str, float]) -> dict:
        """The report of `result.json` and `report.json`."""
        return {
            "tweed": VERSION,
            "prompt": self.settings["prompt"],
            "seed": self.settings["seed"],
            **self.facts,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
            "seconds_total": round(sum(seconds.values()), 3),
            "model": self.model,
            "settings": self.settings,
            "versions": versions(),
            "remarks": self.remarks,
        }

    def png_text(self) -> dict[str, str]:
        """What is kept in the texture file itself: enough to make it again."""
        changed = {name: value for name, value in self.settings.items() if name not in ASIDE}
        return {"Tweed": VERSION, "Model": f"{self.model['name']} {self.model['fingerprint']}",
                **{f"Tweed {name}": str(value) for name, value in changed.items() if value != ""}}  # fmt: skip
