# SPDX-License-Identifier: Apache-2.0
"""Names and words of views in one line of text come back as they went in, and are refused in words."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blender_addon.jobs.arguments import add_arguments, from_namespace
from blender_addon.jobs.errors import SettingsError
from blender_addon.jobs.settings import SETTINGS, check
from blender_addon.jobs.view_lists import names_line, read_names, read_words, words_line

plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).map(str.strip).filter(bool)
nasty = st.text("ab,;=\\ #", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(st.lists(plain | nasty, unique=True))
def test_names_come_back(names):
    assert read_names(names_line(names)) == tuple(names)


@given(st.dictionaries(plain | nasty, plain | nasty))
def test_words_come_back(words):
    assert read_words(words_line(words)) == words


def test_what_a_person_types():
    assert read_names(" top,bottom , ,top") == ("top", "bottom")
    assert read_words("front=a face, smiling;  back = a = b;; ") == {"front": "a face, smiling", "back": "a = b"}
    assert read_words("left = ") == {} == read_words("") and read_names("") == ()
    assert read_words(r"front = one\; two") == {"front": "one; two"}


@pytest.mark.parametrize(("text", "words"), [("front", "no view's words in 'front'"), ("a = b; c", "in 'c'"), ("= x", "'= x'"),
                                             ("front = " + "x" * 2001, "more than 2000")])  # fmt: skip
def test_words_without_a_view_are_refused(text, words):
    with pytest.raises(SettingsError, match=words) as caught:
        check({"view_prompts": text})
    assert caught.value.key == "view_prompts"


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_namespace(parser.parse_args(arguments))


def test_flags_may_be_given_several_times(capsys):
    given = parsed("--view-prompt", "front=a face", "--view-prompt", "back=a door", "--skip-views", "top", "--skip-views", "bottom")
    assert read_words(given["view_prompts"]) == {"front": "a face", "back": "a door"}
    assert read_names(given["skip_views"]) == ("top", "bottom")
    assert parsed() == {} and parsed("--view-prompts", "front=a; back=b") == {"view_prompts": "front=a; back=b"}
    with pytest.raises(SystemExit):
        parsed("--view-prompt", "a face")
    assert "no view's words" in capsys.readouterr().err


def test_only_lists_are_put_together():
    assert [name for name, setting in SETTINGS.items() if setting.joined] == ["view_prompts", "view_avoids", "skip_views", "slots"]
