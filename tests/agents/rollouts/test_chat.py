"""Token in, token out: episodes as one growing token sequence."""

from typing import Any

import pytest

from maskgym.agents.rollouts.chat import Chat, ChatConfig, Conversation

from .test_renderers import QWEN3_TEMPLATE, templated, tokenizer


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


THOUGHTS = (
    "<think>\nhm\n</think>\n\n<search>x</search>",
    "<think>\n</think>\n\n<answer>y</answer>",
)


@pytest.mark.parametrize("thinking", [True, False])
def test_without_old_thoughts_each_context_is_the_one_that_the_template_writes(
    thinking: bool,
) -> None:
    own = tokenizer(QWEN3_TEMPLATE)
    chat = Chat(own, ChatConfig(thinking=thinking, keep_thinking=False))
    talk = Conversation(chat)
    actions = THOUGHTS if thinking else tuple(t.rpartition("\n")[2] for t in THOUGHTS)
    said = ["Who ?", "a page", "a notice"]
    for i, text in enumerate(said):
        prompt = talk.say(text)
        assert prompt.is_new_context == (i > 0)
        assert tuple(talk.context) == prompt.ids
        shown = own.decode(talk.context)
        assert shown == templated(own, "", said[: i + 1], actions[:i], enable_thinking=thinking)
        if i < len(actions):
            talk.act(chat.action_ids(actions[i]))
    assert talk.num_kept_thoughts == 0


def test_with_old_thoughts_a_context_only_grows() -> None:
    chat = Chat(tokenizer(QWEN3_TEMPLATE))
    talk = Conversation(chat)
    before: list[int] = []
    for text, action in zip(("Who ?", "a page"), THOUGHTS, strict=True):
        prompt = talk.say(text)
        assert not prompt.is_new_context
        assert talk.context == before + list(prompt.ids)
        talk.act(chat.action_ids(action))
        before = list(talk.context)
    assert chat.tokenizer.decode(before).count("<think>") == 2


def test_what_was_sampled_enters_later_contexts_by_its_own_ids() -> None:
    own = tokenizer(QWEN3_TEMPLATE)
    chat = Chat(own, ChatConfig(keep_thinking=False))
    spelled = [i for letter in "question" for i in own.encode(letter, add_special_tokens=False)]
    assert spelled != own.encode("question", add_special_tokens=False)
    talk = Conversation(chat)
    talk.say("Who ?")
    talk.act([*own.encode("<think>hm</think>\n\n"), *spelled, chat.eos_token_id])
    ids = talk.say("a page").ids
    assert any(ids[i : i + len(spelled)] == tuple(spelled) for i in range(len(ids)))
    assert "hm" not in own.decode(ids)


def test_a_thought_that_ends_inside_a_token_stays_and_is_counted() -> None:
    own = tokenizer(QWEN3_TEMPLATE)
    own.add_tokens(["</think>\nso"])
    chat = Chat(own, ChatConfig(keep_thinking=False))
    talk = Conversation(chat)
    talk.say("Who ?")
    over = own.convert_tokens_to_ids("</think>\nso")
    start, rest = (own.encode(text, add_special_tokens=False) for text in ("<think>hm", " it is"))
    talk.act([*start, over, *rest, chat.eos_token_id])
    prompt = talk.say("a page")
    assert talk.num_kept_thoughts == 1
    assert not prompt.is_new_context
    assert "hm</think>\nso it is<|im_end|>" in own.decode(talk.context)


def test_the_bare_context_has_the_same_history_without_the_scaffold() -> None:
    own = tokenizer(QWEN3_TEMPLATE)
    chat = Chat(own, ChatConfig(keep_thinking=False, scaffold_template="Hint: {scaffold}\n{text}"))
    guided, bare = Conversation(chat), Conversation(chat)
    assert guided.say("Who ?", "[NAME]").bare_ids == bare.say("Who ?").ids
    for talk in (guided, bare):
        talk.act(chat.action_ids(THOUGHTS[0]))
    prompt = guided.say("a page")
    assert "Hint: [NAME]" in own.decode(prompt.ids)
    assert prompt.bare_ids == bare.say("a page").ids


def test_a_template_with_ways_of_its_own_is_played_append_only() -> None:
    spaced = QWEN3_TEMPLATE.replace("[-1].lstrip('\n')", "[-1]")  # newlines of the block stay
    assert Chat(tokenizer(spaced)).renderer.name == "template"
    with pytest.raises(ValueError, match="a way of its own"):
        Chat(tokenizer(spaced), ChatConfig(renderer="template", keep_thinking=False))
