# SPDX-License-Identifier: Apache-2.0
"""The languages of the interface: their files against what the sources say, and sentences with gaps put together again."""

import ast
import json
import re
import time

import pytest

from blender_addon.jobs.settings import SETTINGS
from blender_addon.phrases import Phrases, faults, pieces
from engine.setup.bundle import contents
from tests import messages as catalogues
from tests.messages import LANGUAGES, compared, messages
from tests.reading import GAP, Reader, Source

FILES = sorted(LANGUAGES.glob("*.json"))
KNOWN = messages()
GERMAN = json.loads((LANGUAGES / "de_DE.json").read_text("utf-8"))


def once(pairs):
    assert len({key for key, _ in pairs}) == len(pairs), "a phrase stands twice in the file"
    return dict(pairs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_language_says_what_the_sources_say(path):
    """Nothing that no source says any more, and in a translation the gaps of the English, each once."""
    assert re.fullmatch(r"[a-z]{2,3}(_[A-Z]{2,4})?(@[a-z]+)?", path.stem), "Blender's name for the language"
    entries = json.loads(path.read_text("utf-8"), object_pairs_hook=once)
    assert all(isinstance(text, str) for text in entries.values())
    assert compared(entries, KNOWN)[1] == [], f"python -m tests.messages {path.stem} --write"
    assert list(faults(entries)) == []


def test_languages_go_into_the_zip():
    packed = [name for _, name in contents(LANGUAGES.parents[1])]
    assert {name for name in packed if "languages/" in name} == {f"languages/{path.name}" for path in FILES}, "once"


def test_german_says_every_label_and_tooltip():
    assert [m for m in compared(GERMAN, KNOWN)[0] if m.fixed] == [], "python -m tests.messages de_DE"


def test_german_labels_fit():
    """A setting's label has two fifths of the sidebar: Blender cuts off what is longer than some 15 letters."""
    rows = [s for s in SETTINGS.values() if s.type is not bool and s.name not in ("view_prompts", "view_avoids", "skip_views")]
    assert {GERMAN[setting.label] for setting in rows if len(GERMAN[setting.label]) > 15} == set()


def test_what_is_found_in_the_sources():
    phrases = {m.phrase: m for m in KNOWN}
    for label in ("Generate Texture", "Vertex Group", "Describe the surface", "Front right", "This Computer"):
        assert phrases[label].fixed and phrases[label].panel, label
    for sentence in (
        "There is no material '{}' on {} (slots).",  # an error with names
        "Choose the mask again, or set Region to All.",  # with a constant of the module
        "{} of {} views (up to {} more)",  # out of three parts, each with alternatives
        "Diffusing views {}/{}",  # a word from a table and a count
        "The mask '{}' is a movie.",  # the parameter of a function, and one of several words
    ):
        assert not phrases[sentence].fixed and phrases[sentence].panel, sentence
    assert not phrases["The mesh has no UV map."].panel


def test_what_changes_goes_through_the_translation():
    """Blender looks up whole texts: one with a name or a number in it must have been translated before."""
    faults = []
    for source in catalogues.sources():
        if not re.fullmatch(r"blender_addon/\w+\.py", source.name):
            continue
        for name in ("label", "progress", "report"):
            for call, function in source.calls.get(name, ()):
                words = [word.value for word in call.keywords if word.arg == "text"]
                if name == "report" and call.args and isinstance(call.args[0], ast.Set):
                    words = [] if "told(" in ast.unparse(function) else [call]
                elif not any(isinstance(word, ast.JoinedStr) and re.search("[a-z]{2}", said(word)) for word in words):
                    words = []
                faults += [f"{source.name}:{word.lineno}" for word in words]
    assert faults == [], "label(text=shown(f'…')), report({'INFO'}, told(self, f'…'))"


def said(text: ast.JoinedStr) -> str:
    return "".join(part.value for part in text.values if isinstance(part, ast.Constant))


def read(code: str) -> list[str]:
    """The phrases that `shown` is given in a source."""
    source = Source("x.py", ast.parse(code))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef):
            source.functions.setdefault(node.name, []).append(node)
    reader = Reader([source])
    return [text for call, function in source.calls["shown"] for text in reader.texts(call.args[0], source, function)]


@pytest.mark.parametrize(
    "code, expected",
    [
        ("def f(n): shown(f\"{n} view{'s' if n > 1 else ''}\")", ["{} views", "{} view"]),
        ("def f(n): shown(f'{n:.1%} of {n!r}')", ["{} of {}"]),
        ("def f(n):\n a = 'x' if n else f'y{n}'\n a += '!'\n shown(a)", ["x!", "y{}!"]),
        ("def f(w): shown(f'{w} is odd')\ndef g(n): f('This')\ndef h(n): f(f'Size {n}')", ["This is odd", "Size {} is odd"]),
        ("def f(n): shown('set {a: 1}')", ["set {{a: 1}}"]),
        ("def f(n): shown(f'number {n + 1}')", ["number {}"]),
        ("def f(n): shown(n or g(n))", [GAP]),
    ],
)
def test_reading_an_expression(code, expected):
    assert read(code) == expected


def test_a_language_is_begun_and_brought_up_to_date(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(catalogues, "LANGUAGES", tmp_path / "languages")
    catalogues.main(["fr_FR"])
    assert f"0 of {len(KNOWN)}" in capsys.readouterr().out and not (tmp_path / "languages").exists()
    catalogues.main(["fr_FR", "--write"])
    path = tmp_path / "languages" / "fr_FR.json"
    begun = json.loads(path.read_text("utf-8"))
    assert list(begun) == [m.phrase for m in KNOWN] and set(begun.values()) == {""}
    path.write_text(json.dumps({"Seed": "Graine", "No longer said": "x", "{} views": "vues"}), "utf-8")
    capsys.readouterr()
    catalogues.main(["fr_FR", "--write"])
    told = capsys.readouterr().out
    assert "stale    No longer said\n" in told and "wrong    '{} views'" in told and "missing  blender_addon/" in told
    assert "  Seed\n" not in told
    again = json.loads(path.read_text("utf-8"))
    assert list(again) == list(begun) and again["Seed"] == "Graine" and again["Steps"] == ""


PHRASES = Phrases({
    "There is no material '{}' on {} (slots).": "An {1} gibt es kein Material „{0}“ (slots).",
    "Materials there: {}. Empty: all of them.": "Dort: {}. Leer: alle.",
    "{} views": "{} Ansichten", "{} views left out": "{} Ansichten ausgelassen", "1 object": "1 Objekt",
    "No view is chosen.": "Keine Ansicht gewählt.", "small cards": "kleine Karten", "About {} left": "Noch {}",
    "{} to {}": "{} bis {}", "It is {}.": "Es ist {}.", "or": "oder", "Rust": "Rost", "Later": "", "set {{a}}": "setze {{a}}",
})  # fmt: skip


@pytest.mark.parametrize(
    "english, german",
    [
        ("No view is chosen.", "Keine Ansicht gewählt."),
        ("There is no material 'Rust' on 'A (slots).' or 'B' (slots).",
         "An 'A (slots).' oder 'B' gibt es kein Material „Rust“ (slots)."),
        ("There is no material 'x' on 'A' (slots). Materials there: a, b. Empty: all of them. ",
         "An 'A' gibt es kein Material „x“ (slots). Dort: a, b. Leer: alle. "),
        ("1 object · 8 views · 1K", "1 Objekt · 8 Ansichten · 1K"),
        ("3 views left out", "3 Ansichten ausgelassen"),  # and not "3 Ansichten" with a rest
        ("About 3 views left", "Noch 3 Ansichten"),  # a phrase in a gap
        ("SD 1.5: small cards.", "SD 1.5: kleine Karten."),
        ("Cube: No view is chosen.", "Cube: Keine Ansicht gewählt."),
        ("No view is chosen. That is new.", "Keine Ansicht gewählt. That is new."),
        ("That is new. No view is chosen.", "That is new. Keine Ansicht gewählt."),
        ("Later", "Later"),
        ("It is 1 to 64.", "Es ist 1 bis 64."),
        ("1 to 64", "1 to 64"),  # too little to be a sentence by itself
        ("It is what it has to be.", "Es ist what it has to be."),
        ("Denoising the views", "Denoising the views"),  # "the" is no number
        ("set {a}", "setze {a}"),
        ("", ""),
        ("a {} that was typed", "a {} that was typed"),
        ("1 object\nTraceback", "1 object\nTraceback"),
        ("x" * 5000 + " 8 views", "x" * 5000 + " 8 views"),
    ],
)
def test_saying(english, german):
    assert PHRASES.say(english) == german


def test_every_german_sentence_is_found_again_by_itself():
    """Each phrase, filled with names and numbers, gives its own translation: no other one takes its place."""
    german, wrong = Phrases(GERMAN | {"In a part: {}": "In einem Teil: {}"}), []
    for phrase, text in ((phrase, text) for phrase, text in GERMAN.items() if text):
        fixed, gaps = pieces(phrase)
        values = [f"q{number}z" for number in gaps]
        filled = "".join(part for pair in zip(fixed, [*values, ""], strict=True) for part in pair)
        said, order = pieces(text)
        expected = said[0] + "".join(values[number] + part for number, part in zip(order, said[1:], strict=True))
        if re.fullmatch(r"q0z [a-z]+ q1z( q2z)?", filled):  # "64 to 128": no sentence, and said only within one
            filled, expected = f"In a part: {filled}", f"In einem Teil: {expected}"
        if german.say(filled) != expected:
            wrong.append((filled, german.say(filled), expected))
    assert wrong == []


@pytest.mark.parametrize("entries", [{"{} of {}": "{}"}, {"{} of {}": "{0} von {0}"}, {"{} of {}": "{0} von {}"}, {"a": "a {}"},
                                     {"{x}": "{x}"}, {"{}": "{:>3}"}, {"{": "{"}])  # fmt: skip
def test_gaps_that_do_not_fit_are_named(entries):
    assert len(list(faults(entries))) == 1


def test_redrawing_stays_cheap():
    """A panel says the same texts at every redraw: a new one may take milliseconds, one that was said before nothing."""
    german = Phrases(GERMAN)
    texts = [f"There is no material 'a{n}' on 'b' (slots). Materials there: c, d. Empty: all of them." for n in range(50)]
    began = time.process_time()
    for text in texts:
        german.say(text)
    first = time.process_time() - began
    began = time.process_time()
    for text in texts * 20:
        german.say(text)
    again = (time.process_time() - began) / 20
    assert first / len(texts) < 0.02 and again < first / 20
