"""What only POSIX systems have is used behind a guard, so that the package works on Windows and macOS too."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_oto

ROOT = Path(onnx_oto.__file__).parent
MODULES = {
    "_winapi",
    "fcntl",
    "grp",
    "msvcrt",
    "posix",
    "pty",
    "pwd",
    "readline",
    "resource",
    "syslog",
    "termios",
    "tty",
    "winreg",
}
"""Modules that not every system has."""
NAMES = {
    "os": """
        O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC O_TMPFILE WIFSIGNALED WNOHANG chown
        chroot fchdir fchmod fchown fork forkpty fstatvfs getegid geteuid getgid getgroups getloadavg
        getpgid getpgrp getpriority getsid getuid killpg lchown lockf major memfd_create mkfifo
        mknod nice openpty pipe2 posix_fadvise posix_fallocate posix_spawn pread preadv pwrite pwritev
        register_at_fork sched_getaffinity sched_setaffinity sendfile setgid setpgid setpriority setsid
        setuid statvfs sync sysconf tcgetpgrp uname wait wait3 wait4 waitid
    """,
    "signal": """
        SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2
        SIGWINCH SIGXCPU SIGXFSZ alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending
        sigtimedwait sigwait sigwaitinfo
    """,
    "select": "epoll kqueue poll",
    "time": "clock_gettime pthread_getcpuclockid tzset",
    "subprocess": "CREATE_NEW_PROCESS_GROUP CREATE_NO_WINDOW STARTUPINFO",
}
"""Names of modules that every system has which only some of them have. `getattr(os, "fork", None)` is no use of one."""
PLACES = ("/proc", "/sys", "/dev")
ASKS = {("os", "name"), ("sys", "platform"), ("platform", "system")}


def findings(where: str, source: str) -> list[str]:
    """Return what is used without a guard, as 'file:line: what'."""
    tree = ast.parse(source)
    found = []
    for node, above in walk(tree, ()):
        what = special(node)
        if what and not is_guarded([*above, node]):
            found.append(f"{where}:{node.lineno}: {what}")
    return found


def walk(node: ast.AST, above: tuple[ast.AST, ...]) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    """Yield every node with those that it is in, outermost first."""
    yield node, above
    for child in ast.iter_child_nodes(node):
        yield from walk(child, (*above, node))


def special(node: ast.AST) -> str | None:
    """Return the name of what not every system has, None for all else."""
    if isinstance(node, ast.Import):
        return next((alias.name for alias in node.names if alias.name in MODULES), None)
    if isinstance(node, ast.ImportFrom):
        names = [name.name for name in node.names if name.name in NAMES.get(node.module or "", "").split()]
        return node.module if node.module in MODULES else next(iter(names), None)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}" if node.attr in NAMES.get(node.value.id, "").split() else None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value if node.value.startswith(PLACES) else None
    return None


def is_guarded(path: list[ast.AST]) -> bool:
    """Say whether one of the nodes around the last asks for the system, or catches what is missing."""
    for outer, inner in itertools.pairwise(path):
        if isinstance(outer, ast.Try) and outer.handlers and inner in outer.body:
            return True
        if isinstance(outer, ast.If | ast.IfExp) and inner is not outer.test and asks(outer.test):
            return True
        if isinstance(outer, ast.BoolOp) and any(asks(value) for value in outer.values):
            return True
        if (
            isinstance(outer, ast.With)
            and inner in outer.body
            and any("suppress" in ast.dump(i) for i in outer.items)
        ):
            return True
        body = getattr(outer, "body", None)
        if (
            isinstance(body, list)
            and inner in body
            and any(leaves(each) for each in body[: body.index(inner)])
        ):
            return True
    return False


def asks(test: ast.expr) -> bool:
    """Say whether a condition is about the system, or about whether a name is there."""
    for node in ast.walk(test):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in ASKS:
                return True
        elif isinstance(node, ast.Name) and node.id in ("hasattr", "getattr"):
            return True
    return False


def leaves(statement: ast.stmt) -> bool:
    """Say whether a statement leaves the function on some systems: `if os.name == "nt": return`."""
    return (
        isinstance(statement, ast.If)
        and asks(statement.test)
        and isinstance(statement.body[-1], ast.Return | ast.Raise | ast.Continue)
    )


def test_what_not_every_system_has_is_guarded() -> None:
    found = [
        line
        for path in sorted(ROOT.rglob("*.py"))
        for line in findings(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert not found, "use these behind a guard (os.name, hasattr, getattr, try):\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import fcntl", "fcntl"),
        ("from resource import getrusage", "resource"),
        ("from os import fork", "fork"),
        ("def f():\n    os.fchmod(3, 0o600)", "os.fchmod"),
        ("os.open(name, os.O_RDONLY | os.O_NONBLOCK)", "os.O_NONBLOCK"),
        ("signal.signal(signal.SIGHUP, handler)", "signal.SIGHUP"),
        ("open('/proc/meminfo')", "/proc/meminfo"),
        ("if ready:\n    os.killpg(1, 2)", "os.killpg"),
        ("try:\n    pass\nexcept OSError:\n    os.getuid()", "os.getuid"),
        ("try:\n    os.getuid()\nfinally:\n    pass", "os.getuid"),
    ],
)
def test_what_is_not_guarded_is_named(source: str, what: str) -> None:
    found = findings("a.py", source)
    assert len(found) == 1
    assert found[0].endswith(f": {what}")


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None",
        "if sys.platform != 'win32':\n    import fcntl",
        "getattr(os, 'O_NONBLOCK', 0)",
        "def f():\n    if os.name == 'nt':\n        return\n    os.fchmod(3, 0o600)",
        "signals = [signal.SIGHUP] if hasattr(signal, 'SIGHUP') else []",
        "hasattr(os, 'fork') and os.fork()",
        "with contextlib.suppress(OSError):\n    open('/proc/self/status')",
        "os.open(name, os.O_RDWR | os.O_CREAT)\nos.link(a, b)\nsignal.signal(signal.SIGINT, f)",
    ],
)
def test_what_is_guarded_passes(source: str) -> None:
    assert findings("a.py", source) == []


def test_no_named_tuple_has_another_base() -> None:
    """Python 3.10 makes none: `class X(NamedTuple, Generic[T])` is an error there when the module is imported."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and len(node.bases) > 1
        if any(isinstance(base, ast.Name) and base.id == "NamedTuple" for base in node.bases)
    ]
    assert found == []
