"""Every story in this folder, told again. STACKWARD_REWRITE_STORIES=1 writes what they show now."""

import os
from pathlib import Path

import pytest

from tests.scenarios.transcript import rewrite

STORIES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_the_story_goes_as_told(story: Path):
    text = story.read_text(encoding="utf-8")
    told = rewrite(text)
    if os.environ.get("STACKWARD_REWRITE_STORIES"):
        story.write_text(told, encoding="utf-8")
    assert told == text


def test_there_are_stories():
    assert len(STORIES) >= 12
