"""Token in, token out: episodes as one growing token sequence."""

from typing import Any

import pytest

from maskgym.agents.chat import Chat, ChatConfig


def conversation_ids(chat: Chat, question: str, actions: list[str], seen: list[str]) -> list[int]:
    ids = chat.prompt_ids(question)
    for i, action in enumerate(actions):
        action_ids = chat.action_ids(action)
        ids += action_ids
        if i < len(seen):
            ids += chat.observation_ids(seen[i], after_ids=action_ids)
    return ids


def test_pieces_joined_equal_the_whole_conversation_rendered_at_once(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    actions = ["<search> author </search>", "<answer> Ada Lovelace </answer>"]
    ids = conversation_ids(chat, "Who wrote the book ?", actions, ["the answer is Ada ."])
    messages = [
        {"role": "user", "content": "Who wrote the book ?"},
        {"role": "assistant", "content": actions[0]},
        {"role": "user", "content": "the answer is Ada ."},
        {"role": "assistant", "content": actions[1]},
    ]
    text = tiny_tokenizer.apply_chat_template(messages, tokenize=False)
    whole = tiny_tokenizer.encode(text, add_special_tokens=False)
    newline = tiny_tokenizer.encode("\n", add_special_tokens=False)
    assert ids + newline == whole


def test_end_of_turn_is_added_only_where_the_engine_did_not_sample_it(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    ended = [5, chat.eos_token_id]
    unended = [5]
    after_ended = chat.observation_ids("seen", after_ids=ended)
    after_unended = chat.observation_ids("seen", after_ids=unended)
    assert after_unended == [chat.eos_token_id, *after_ended]


def test_the_environment_sees_the_action_without_the_end_of_turn_token(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    ids = chat.action_ids("<answer> 7 </answer>")
    assert chat.action_text(ids) == "<answer> 7 </answer>"
    assert chat.action_text(ids[:-1]) == "<answer> 7 </answer>"


def test_the_scaffold_stands_before_the_question_and_braces_are_harmless(
    tiny_tokenizer: Any,
) -> None:
    chat = Chat(tiny_tokenizer, ChatConfig(scaffold_template="Example: {scaffold}\n{text}"))
    ids = chat.prompt_ids("what is {text} ?", "{scaffold} {0}")
    text = tiny_tokenizer.decode(ids)
    assert "Example: {scaffold} {0}\nwhat is {text} ?" in text
    assert chat.prompt_ids("what is {text} ?") != ids


def test_a_template_that_rewrites_history_is_refused(tiny_model_dir: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.chat_template = (
        "{{ messages | length }}{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    with pytest.raises(ValueError, match="rewrites history"):
        Chat(tokenizer)


def test_a_format_that_adds_an_empty_think_block_to_the_last_answer_is_kept_append_only(
    tiny_model_dir: Any,
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    # As Qwen3 does with an assistant message that ends the conversation.
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chat = Chat(tokenizer)
    ids = conversation_ids(chat, "Who ?", ["<search> x </search>", "<answer> y </answer>"], ["z"])
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\nWho ?<|im_end|>\n<|im_start|>assistant\n<search> x </search><|im_end|>\n"
        "<|im_start|>user\nz<|im_end|>\n<|im_start|>assistant\n<answer> y </answer><|im_end|>"
    )


def test_a_format_that_drops_earlier_thoughts_is_found_on_a_real_conversation(
    tiny_model_dir: Any,
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    # As Qwen3 does: the think block stays only in the last assistant message.
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{{ m['content'] if loop.last else m['content'].split('</think>')[-1] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chat = Chat(tokenizer)
    turns = ["q", "<think> hm </think> a", "seen", "<think> so </think> b"]
    messages = [
        {"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns)
    ]
    with pytest.raises(ValueError, match="rewrites earlier turns"):
        chat.check_append_only(messages)
    Chat(AutoTokenizer.from_pretrained(tiny_model_dir)).check_append_only(messages)


def test_a_tokenizer_without_chat_template_gets_plain_text(tiny_model_dir: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.chat_template = None
    chat = Chat(tokenizer)
    ids = conversation_ids(chat, "Who ?", ["<search> x </search>", "<answer> y </answer>"], ["z"])
    text = tokenizer.decode(ids)
    assert text.startswith("User: Who ?\nAssistant:")
    assert "<|im_end|>\nUser: z\nAssistant:" in text


def test_a_template_without_its_fields_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\{text\} exactly once"):
        ChatConfig(scaffold_template="only {scaffold}")
