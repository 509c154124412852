"""Chat formats: each piece as the models' own templates write it, and what happens to think blocks."""

from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.rollouts.chat import Chat, ChatConfig
from maskgym.agents.rollouts.renderers import (
    ChatMLRenderer,
    Llama3Renderer,
    Qwen3Renderer,
    Renderer,
    TemplateRenderer,
    make_renderer,
    render_episode,
)
from maskgym.agents.tiny_model import CHAT_TEMPLATE, TinyModelConfig, train_tokenizer

LLAMA_TOKENS = (
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
)
LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# The behaviour of Qwen3's template where there are neither tools nor separate reasoning: the last user
# message parts history, whose think blocks go, from what follows it, which has one in any case.
QWEN3_TEMPLATE = (
    "{%- set ns = namespace(last=0) -%}"
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}"
    "{%- endif -%}{%- endfor -%}"
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}"
    "{%- if m.role == 'assistant' -%}"
    "{%- set said = m.content.split('</think>')[-1].lstrip('\n') -%}"
    "{%- if loop.index0 > ns.last -%}"
    "{%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') "
    "if '</think>' in m.content else '' -%}"
    "{{- '<think>\n' + thought + '\n</think>\n\n' -}}{%- endif -%}{{- said -}}"
    "{%- else -%}{{- m.content -}}{%- endif -%}{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}{%- endif -%}"
)
SAID = ("Who wrote it ?", " <information>a book </information>\n", "{{ not a template }}")
ACTIONS = ("<think>\nhm, who ?\n</think>\n\n<search>author</search>", "<answer>Ada</answer>")


def tokenizer(
    template: str | None, *, eos: str = "<|im_end|>", tokens: tuple[str, ...] = LLAMA_TOKENS
) -> Any:
    from transformers import PreTrainedTokenizerFast

    config = TinyModelConfig(
        vocab_size=400, tokenizer_kind="bpe", extra_tokens=("<think>", "</think>", *tokens)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer([" ".join(SAID)], config=config),
        eos_token=eos,
        bos_token="<|begin_of_text|>",
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )


def templated(tokenizer: Any, system: str, said: Any, actions: Any, **options: Any) -> str:
    """The conversation as the tokenizer's template renders it, up to the next action."""
    messages = [{"role": "system", "content": system}] if system else []
    for i, text in enumerate(said):
        messages.append({"role": "user", "content": text})
        if i < len(actions):
            messages.append({"role": "assistant", "content": actions[i]})
    return str(
        tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **options
        )
    )


FORMATS: list[tuple[Renderer, str, str, dict[str, bool]]] = [
    (ChatMLRenderer(), CHAT_TEMPLATE, "qwen3_instruct_2507", {}),
    (Qwen3Renderer(), QWEN3_TEMPLATE, "qwen3", {}),
    (Qwen3Renderer(thinking=True), QWEN3_TEMPLATE, "qwen3", {"enable_thinking": True}),
    (Qwen3Renderer(thinking=False), QWEN3_TEMPLATE, "qwen3", {"enable_thinking": False}),
    (Llama3Renderer(), LLAMA3_TEMPLATE, "llama3", {}),
]


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize(("renderer", "template", "name", "options"), FORMATS)
@pytest.mark.parametrize("num_actions", [0, 1, 2])
def test_each_format_writes_the_text_of_its_template(
    renderer: Renderer,
    template: str,
    name: str,
    options: dict[str, bool],
    system: str,
    num_actions: int,
) -> None:
    said, actions = SAID[: num_actions + 1], ACTIONS[:num_actions]
    ours = render_episode(renderer, system, said, actions)
    assert ours == templated(tokenizer(template), system, said, actions, **options)


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize(("renderer", "template", "name", "options"), FORMATS)
def test_each_format_writes_the_text_of_the_published_template(
    renderer: Renderer, template: str, name: str, options: dict[str, bool], system: str
) -> None:
    trl = pytest.importorskip("trl")
    published = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
    ours = render_episode(renderer, system, SAID, ACTIONS)
    assert ours == templated(tokenizer(published), system, SAID, ACTIONS, **options)


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize(
    "name",
    [
        "qwen2_5",
        "qwen3",
        "qwen3_5_think",
        "qwen3_5_nothink",
        "qwen3_6",
        "qwen3_8",
        "llama3_1",
        "llama3_2",
        "gemma3",
        "phi3",
        "lfm2",
        "lfm2_2_5",
        "glm4moe",
        "gptoss",
    ],
)
def test_any_published_template_can_be_taken_apart(name: str, system: str) -> None:
    trl = pytest.importorskip("trl")
    published = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
    own = tokenizer(published)
    renderer = TemplateRenderer(own, system=system)
    assert renderer.is_faithful
    ours = render_episode(renderer, system, SAID, ACTIONS)
    assert ours == templated(own, system, SAID, ACTIONS)


def test_the_format_is_found_by_what_the_template_writes() -> None:
    def found(template: str | None, **settings: Any) -> str:
        return make_renderer("auto", tokenizer(template), **settings).name

    assert found(CHAT_TEMPLATE) == "chatml"
    assert found(QWEN3_TEMPLATE) == "qwen3"
    assert found(LLAMA3_TEMPLATE) == "llama3"
    assert found(LLAMA3_TEMPLATE.replace("{{ bos_token }}", "{{ bos_token }}Today: ")) == "template"
    assert found(None) == "plain"
    assert make_renderer("auto", tokenizer(QWEN3_TEMPLATE), thinking=False).turn_header.endswith(
        "<think>\n\n</think>\n\n"
    )


def test_a_renderer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not know '<\|eot_id\|>' as one token"):
        make_renderer("llama3", tokenizer(None, tokens=("<|begin_of_text|>",)))
    with pytest.raises(ValueError, match="no such switch"):
        make_renderer("llama3", tokenizer(LLAMA3_TEMPLATE), thinking=False)
    with pytest.raises(ValueError, match="no such switch"):
        make_renderer("auto", tokenizer(CHAT_TEMPLATE), thinking=True)
    with pytest.raises(ValueError, match="no chat template"):
        make_renderer("template", tokenizer(None))
    with pytest.raises(ValueError, match="choose one of auto, template"):
        ChatConfig(renderer="chatLM")
    no_system = "{{ raise_exception('no system') if messages[0].role == 'system' }}" + CHAT_TEMPLATE
    with pytest.raises(ValueError, match="refuses a conversation of system and user"):
        Chat(tokenizer(no_system), ChatConfig(system="Be brief."))
    assert Chat(tokenizer(no_system)).renderer.name == "chatml"


def test_llama_turns_end_without_a_newline_and_chatml_turns_with_one() -> None:
    llama = Chat(tokenizer(LLAMA3_TEMPLATE, eos="<|eot_id|>"))
    qwen = Chat(tokenizer(QWEN3_TEMPLATE))
    for chat, behind in ((llama, "<|start_header_id|>user"), (qwen, "\n<|im_start|>user")):
        ended = chat.action_ids("act")
        assert ended[-1] == chat.eos_token_id
        seen = chat.tokenizer.decode(chat.observation_ids("see", after_ids=ended))
        assert seen.startswith(behind)


def test_a_base_model_whose_end_of_text_is_not_the_end_of_a_turn_still_ends_its_turns() -> None:
    own = tokenizer(QWEN3_TEMPLATE, eos="<|endoftext|>")
    chat = Chat(own)
    assert own.decode([chat.eos_token_id]) == "<|im_end|>"
    for end in ("<|im_end|>", "<|endoftext|>"):  # both end a turn, and neither is said
        ids = own.encode("<answer>7</answer>" + end, add_special_tokens=False)
        assert chat.action_text(ids) == "<answer>7</answer>"
    seen = own.decode(chat.observation_ids("see", after_ids=ids))
    assert seen.startswith(
        "<|im_end|>\n"
    )  # what was sampled stays, and the format's own end follows


def test_plain_text_begins_with_the_token_that_the_tokenizer_begins_texts_with() -> None:
    from tokenizers.processors import TemplateProcessing

    own = tokenizer(None, eos="<|end_of_text|>")
    assert own.decode(Chat(own).prompt_ids("Who ?")) == "User: Who ?\nAssistant:"
    bos = own.convert_tokens_to_ids("<|begin_of_text|>")
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    assert Chat(own).prompt_ids("Who ?")[0] == bos
