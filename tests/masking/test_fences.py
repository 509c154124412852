import time

import pytest

from maskgym.masking.fences import find_fences


def hidden(text: str) -> tuple[str, set[str]]:
    """The text with its code as "_", and the forms that were found."""
    pieces, at, forms = [], 0, set()
    for block in find_fences(text):
        for piece in block.pieces:
            code = text[piece.start : piece.end]
            if code.strip():
                start = piece.start + len(code) - len(code.lstrip())
                pieces += [text[at:start], "_"]
                at = start + len(code.strip())
                forms.add(piece.detector)
    return "".join([*pieces, text[at:]]), forms


@pytest.mark.parametrize(
    ("text", "masked", "form"),
    [
        ("a\n```python\nx = 1\n```\nb", "a\n```python\n_\n```\nb", "code:fence"),
        ("`````\n```\nx\n`````", "`````\n_\n`````", "code:fence"),
        ("~~~\nx\n```\ny\n~~~~\nb", "~~~\n_\n~~~~\nb", "code:tilde"),
        ("```cpp\nint x;\n```", "```cpp\n_\n```", "code:fence"),
        ('```json\n{"a": 1}\n```', "```json\n_\n```", "code:fence"),
        ("```bash\n$ python x.py\n```", "```bash\n_\n```", "code:fence"),
        ("```python\nx = 1", "```python\n_", "code:unterminated"),
        ("Code: ```python\nx\n```\nb", "Code: ```python\n_\n```\nb", "code:fence"),
        ("```python\r\nx\r\n```\r\nb", "```python\r\n_\r\n```\r\nb", "code:fence"),
        (
            "1. So\n   ```py\n   x\n   ```\n2. b",
            "1. So\n   ```py\n   _\n   ```\n2. b",
            "code:fence",
        ),
        ("- ```py\n  x\n  ```\nb", "- ```py\n  _\n  ```\nb", "code:fence"),
        ("> ```py\n> x\n> ```\n> b", "> ```py\n> _\n> ```\n> b", "code:fence"),
        ("> ```py\n> x\n\nb", "> ```py\n> _\n\nb", "code:unterminated"),
        ("so ```x = 1``` it is", "so ```_``` it is", "code:inline"),
        ("```python title=42\nx\n```", "```python _\n_\n```", "code:fence"),
    ],
)
def test_a_fence_and_its_language_stay_and_all_else_goes(text: str, masked: str, form: str) -> None:
    assert hidden(text) == (masked, {form})


@pytest.mark.parametrize(
    "program",
    [
        'def f():\n    """\n    ```\n    f(1)\n    ```\n    """\n    return 1',
        '"""\n```\nf(1)\n```\n"""\nx = 1',
        "s = '''\n```\n'''\nx = 1  # isn't it",
    ],
)
def test_a_fence_inside_a_docstring_does_not_end_its_program(program: str) -> None:
    assert hidden(f"```python\n{program}\n```\nb")[0] == "```python\n_\n```\nb"
    assert hidden(f"```python\n{program}")[0] == "```python\n_"


def test_a_string_that_is_never_closed_does_not_swallow_the_text_behind_its_program() -> None:
    assert hidden('```python\nx = """\n```\nb')[0] == "```python\n_\n```\nb"


def test_blocks_inside_a_block_of_markdown_are_a_part_of_it() -> None:
    assert hidden("````md\n```python\nx\n```\n````\nb")[0] == "````md\n_\n````\nb"
    assert hidden("```md\n```python\nx\n```\ny\n```\nb")[0] == "```md\n_\n```\nb"


def test_tildes_in_the_middle_of_a_line_are_decoration() -> None:
    assert hidden("about ~~~ five apples\nb") == ("about ~~~ five apples\nb", set())


@pytest.mark.parametrize("unit", ["`", "`a", "```py\nx\n", "```py\n'''\n```\n", "a```b", "~~~\n"])
@pytest.mark.usefixtures("no_garbage_collection")
def test_the_time_grows_with_the_length_and_not_faster(unit: str) -> None:
    def seconds(num_chars: int) -> float:
        text = unit * (num_chars // len(unit))
        start = time.process_time()
        find_fences(text)
        return time.process_time() - start

    assert seconds(400_000) < 12 * max(seconds(100_000), 0.02)
