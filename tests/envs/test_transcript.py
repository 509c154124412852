import pickle

import pytest

from maskgym.envs import SegmentKind, Transcript, strip_thinking


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a <think>b</think> c", "a   c"),
        ("<think>never closed <answer>X</answer>", ""),
        ("opened by the template </think> c", " c"),
        ("<think>a<think>b</think> <answer>X</answer></think> c", " c"),
        ("<Think>a</ THINK >c", " c"),
        ("no tags", "no tags"),
        ("<thi<think>x</think>nk> c", "<thi nk> c"),
    ],
)
def test_think_blocks_are_taken_out(text: str, kept: str) -> None:
    assert strip_thinking(text) == kept


def test_only_the_models_own_text_of_one_turn_is_handed_out() -> None:
    transcript = Transcript()
    transcript.append(SegmentKind.QUESTION, "Who?", turn=0)
    transcript.append(SegmentKind.SCAFFOLD, "gold", turn=0)
    transcript.append(SegmentKind.MODEL, "<think>gold</think> first", turn=1)
    transcript.append(SegmentKind.TOOL_RESULT, "gold", turn=1)
    transcript.append(SegmentKind.NOTICE, "gold", turn=1)
    transcript.append(SegmentKind.MODEL, "second", turn=2)
    assert transcript.model_text(1).strip() == "first"
    assert "gold" in transcript.model_text(1, without_thinking=False)
    assert transcript.model_text(2) == "second"


def test_a_transcript_pickles_and_prints() -> None:
    transcript = Transcript()
    transcript.append(SegmentKind.MODEL, "日本", turn=1)
    assert pickle.loads(pickle.dumps(transcript)) == transcript
    assert str(transcript) == "[model] 日本"


def test_many_tags_take_linear_time() -> None:
    assert strip_thinking("<think></think>" * 200_000).strip() == ""
