"""Testbed: disjoint by construction, exact targets, expert traces that earn the reward."""

import itertools
import pickle
import re
import time
from collections.abc import Sequence

import pytest

from maskgym.envs import (
    Domain,
    SubprocessSandbox,
    Task,
    verify_code,
    verify_math,
    verify_search,
)
from maskgym.envs.testbed import (
    ArithmeticChains,
    FictionalWorld,
    SmallPrograms,
    TaskFamily,
)
from maskgym.envs.testbed import (
    testbed as make_tasks,
)
from maskgym.envs.testbed.names import FIRST_NAMES, LAST_NAMES
from maskgym.envs.testbed.permutation import keyed_bytes, permute
from maskgym.masking import TurnKind
from maskgym.retrieval import BM25Index

FAMILIES: tuple[type[TaskFamily], ...] = (ArithmeticChains, SmallPrograms, FictionalWorld)
each_family = pytest.mark.parametrize("family", FAMILIES)


def questions(tasks: Sequence[Task]) -> set[str]:
    return {task.question for task in tasks}


@pytest.mark.parametrize("size", [1, 2, 3, 10, 47, 376, 1000])
def test_the_permutation_hits_every_number_once(size: int) -> None:
    for key in ("a", "b"):
        images = [permute(i, size, key) for i in range(size)]
        assert sorted(images) == list(range(size))
    assert size < 10 or images != [permute(i, size, "a") for i in range(size)]


def test_the_permutation_is_the_same_on_every_machine() -> None:
    assert [permute(i, 1000, "key") for i in range(4)] == [245, 494, 206, 350]
    assert keyed_bytes("key", 4).hex() == "7c130f98"
    with pytest.raises(ValueError, match="below size 3"):
        permute(3, 3, "key")


@each_family
def test_train_and_test_share_no_question_whatever_their_sizes_and_seeds(
    family: type[TaskFamily],
) -> None:
    train = questions(family(2, "train", 0, 300))
    assert len(train) == 300
    for seed, size in ((0, 300), (0, 90), (1, 70), (2, 40)):
        assert not train & questions(family(2, "test", seed, size))


@each_family
def test_seeds_42_and_43_share_no_question(family: type[TaskFamily]) -> None:
    assert not questions(family(4, "train", 42, 400)) & questions(family(4, "train", 43, 400))


@each_family
def test_a_whole_level_holds_every_problem_once_over_splits_and_seeds(
    family: type[TaskFamily],
) -> None:
    if family is FictionalWorld:
        world = FictionalWorld(1, "train", 0, num_people=64)
        assert len(world) == world.num_problems == len(questions(world)) == 256
        return
    half = family(1).num_problems // 4
    sets = [
        questions(family(1, split, seed, half)) for split in ("train", "test") for seed in (0, 1)
    ]
    assert len(set().union(*sets)) == 4 * half == family(1).num_problems


@each_family
def test_equal_arguments_give_equal_sets_also_after_pickling(family: type[TaskFamily]) -> None:
    one, two = family(3, "test", 1, 50), family(3, "test", 1, 50)
    assert one == two and hash(one) == hash(two) and list(one) == list(two)
    copy = pickle.loads(pickle.dumps(one))
    assert copy == one and copy[7] == one[7]
    assert one != family(3, "test", 0, 50) and one != family(2, "test", 1, 50)
    assert repr(one) == repr(two) != repr(family(3, "train", 1, 50))


@each_family
def test_it_behaves_as_a_sequence(family: type[TaskFamily]) -> None:
    tasks = family(2, "train", 0, 20)
    assert tasks[-1] == tasks[19] and tasks[2:5] == [tasks[2], tasks[3], tasks[4]]
    assert tasks[::-7] == list(reversed(tasks))[::7]
    assert tasks.index(tasks[4]) == 4 and tasks[3] in tasks
    for outside in (20, -21):
        with pytest.raises(IndexError):
            tasks[outside]
    assert len({task.task_id for task in tasks}) == 20


@each_family
def test_a_late_task_costs_no_more_than_an_early_one(family: type[TaskFamily]) -> None:
    tasks = family(family.max_level, "train", 0, 100_000)
    start = time.perf_counter()
    for index in (99_999, 50_000, 1):
        assert tasks[index].task_id
    assert time.perf_counter() - start < 0.1


@each_family
def test_what_does_not_fit_says_what_does(family: type[TaskFamily]) -> None:
    with pytest.raises(ValueError, match=r"size"):
        family(1, "train", 0, 10**6)
    with pytest.raises(ValueError, match=f"levels 1 to {family.max_level}"):
        family(family.max_level + 1)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        family(1, "dev")
    with pytest.raises(ValueError, match="seed is -1"):
        family(1, "train", -1)
    with pytest.raises(ValueError, match="at least 1 task"):
        family(1, "train", 0, 0)


def test_the_message_of_a_bad_fit_names_the_size_and_the_seed_that_fit() -> None:
    with pytest.raises(ValueError, match=r"size of at most 37 fits, .* a seed of at most 1;"):
        ArithmeticChains(1, "train", 4, 90)
    assert len(ArithmeticChains(1, "train", 4, 37)) == 37
    assert len(ArithmeticChains(1, "train", 1, 90)) == 90


@each_family
def test_every_level_has_its_default_size_for_four_seeds(family: type[TaskFamily]) -> None:
    for level in range(1, family.max_level + 1):
        for seed in range(4):
            tasks = family(level, "test", seed)
            assert tasks[len(tasks) - 1].level == level


@each_family
def test_the_expert_earns_the_reward(family: type[TaskFamily]) -> None:
    for task in family(3, "train", 0, 12):
        assert task.expert_trace is not None
        answer = task.expert_trace.turns[-1]
        assert answer.kind is TurnKind.ANSWER
        if task.domain is Domain.CODE:
            assert verify_code(answer.text, task, SubprocessSandbox()).is_correct
        elif task.domain is Domain.MATH:
            assert verify_math(answer.text, task.answers).is_correct
        else:
            assert verify_search(answer.text, task.answers).is_correct


def test_the_domain_chooses_the_family() -> None:
    for domain, family in zip(Domain, FAMILIES, strict=True):
        tasks = make_tasks(domain.value, level=2, split="test", seed=1, size=9)
        assert type(tasks) is family and len(tasks) == 9
    with pytest.raises(ValueError, match="Did you mean 'math'"):
        make_tasks("maths")


@pytest.mark.parametrize("level", [1, 4, 8])
def test_chains_equal_an_evaluation_of_their_question(level: int) -> None:
    for task in ArithmeticChains(level, "train", 1, 40):
        start = re.match(r"Start with (\d+) \.", task.question)
        assert start
        values = [int(start[1])]
        for word, operand in re.findall(r"(Add|Multiply by) (\d+) \.", task.question):
            values.append(
                (values[-1] + int(operand) if word == "Add" else values[-1] * int(operand)) % 47
            )
        assert len(values) == level + 1 and task.level == level
        assert task.answers == (str(values[-1]),)
        assert task.expert_trace is not None
        lines = task.expert_trace.turns[0].text.split("\n")
        assert [int(line.split(" = ")[1]) for line in lines] == values[1:]
        for line in lines:
            left, result = line.split(" = ")
            assert eval(left) % 47 == int(result)


def test_chain_answers_are_spread_so_that_a_guess_pays_little() -> None:
    answers = [task.answers[0] for task in ArithmeticChains(4, "train", 0, 4000)]
    assert max(answers.count(answer) for answer in set(answers)) < 0.04 * len(answers)


def test_every_operation_and_reducer_agrees_with_its_source_in_the_sandbox() -> None:
    tasks = list(SmallPrograms(1, "train", 0, 40)) + list(SmallPrograms(5, "test", 3, 10))
    assert len(questions(tasks[:40])) == 40
    for task in tasks:
        assert task.expert_trace is not None and len(task.tests) == 6
        grade = verify_code(task.expert_trace.text, task, SubprocessSandbox())
        assert grade.is_correct, (task.question, grade)


def test_the_tests_of_a_program_tell_it_from_other_programs() -> None:
    tasks = SmallPrograms(3, "train", 0, 10)
    for task, other in itertools.pairwise(tasks):
        assert other.expert_trace is not None
        assert not verify_code(other.expert_trace.text, task, SubprocessSandbox()).is_correct


def pages_of(world: FictionalWorld) -> dict[str, dict[str, str]]:
    pages = {}
    for page in world.passages():
        assert re.fullmatch(rf"{page.title}(?: [a-z]+ [A-Z][a-z]+ \.){{4}}", page.text), page.text
        found = re.findall(r" (\w+) (\w+) \.", page.text)
        assert len(dict(found)) == 4 and len({name for _, name in found}) == 4
        pages[page.title] = dict(found)
    return pages


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_following_the_pages_gives_the_one_answer(level: int) -> None:
    world = FictionalWorld(level, "train", 2, 200)
    pages, ids = pages_of(world), {page.id: page.title for page in world.passages()}
    for task in world:
        match = re.fullmatch(r"Who is the (.+) of (\w+) \?", task.question)
        assert match
        relations, person = match[1].split(" of the "), match[2]
        chain = [person]
        for relation in reversed(relations):
            chain.append(pages[chain[-1]][relation])
        assert len(relations) == level and len(set(chain)) == level + 1
        assert task.answers == (chain[-1],) and task.entities == tuple(chain[1:])
        assert [ids[gold] for gold in task.gold_passages] == chain[:-1]


def test_the_trace_of_a_world_searches_reads_and_notes_hop_by_hop() -> None:
    world = FictionalWorld(2, "train", 0, 5)
    texts = {page.title: page.text for page in world.passages()}
    for task in world:
        assert task.expert_trace is not None
        turns = task.expert_trace.turns
        kinds = ["tool_call", "tool_result", "thought"] * 2 + ["answer"]
        assert [turn.kind for turn in turns] == kinds
        assert {turn.tool for turn in turns if turn.tool} == {"search"}
        bridge, answer = task.entities
        assert task.question.endswith(f"of {turns[0].text} ?")
        assert turns[1].text == texts[turns[0].text] and turns[2].text.endswith(f" {bridge}")
        assert turns[3].text == bridge and turns[5].text.endswith(f" {answer}")
        assert turns[6].text == answer
        assert turns[2].text in turns[1].text and turns[5].text in turns[4].text


def test_worlds_of_splits_and_of_the_first_seeds_share_no_name() -> None:
    worlds = [FictionalWorld(1, split, seed) for seed in range(4) for split in ("train", "test")]
    names = [page.title for world in worlds for page in world.passages()]
    ids = [page.id for world in worlds for page in world.passages()]
    assert len(names) == len(set(names)) == 4096 == len(set(ids))
    later = {page.title: page.text for page in FictionalWorld(1, "train", 4).passages()}
    first = {page.title: page.text for page in worlds[0].passages()}
    assert all(later[name] != first[name] for name in later.keys() & first.keys())
    assert not later.keys() & {p.title for p in FictionalWorld(1, "test", 4).passages()}


def test_all_levels_of_one_split_ask_about_the_same_pages() -> None:
    assert FictionalWorld(1).passages() == FictionalWorld(4).passages()
    assert FictionalWorld(1, num_people=64).passages() != FictionalWorld(1).passages()[:64]
    with pytest.raises(ValueError, match="multiple of 8"):
        FictionalWorld(1, num_people=100)


def test_a_search_for_a_name_finds_that_page_first() -> None:
    pages = FictionalWorld(2, "train", 0).passages()
    hits = BM25Index.build(pages).search([page.title for page in pages], 1)
    assert [hit[0].passage.id for hit in hits] == [page.id for page in pages]


def test_the_128_names_are_distinct_and_plain() -> None:
    names = FIRST_NAMES + LAST_NAMES
    assert len(FIRST_NAMES) == len(LAST_NAMES) == 64 and len(set(names)) == 128
    assert all(re.fullmatch(r"[A-Z][a-z]+", name) for name in names)
