"""Builds that are made once: interrupted, in threads, in folders of all names."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loopnest_sim.build import HEADER, BuildError, build_once, compile_verilog, run_tool
from loopnest_sim.library import cache_folder
from loopnest_sim.simulator import Simulator
from tests.sim.copier import SCRATCH
from tests.sim.test_simulator import design


class Stop(BaseException):
    """What is raised, as KeyboardInterrupt is, from anywhere."""


def test_threads_build_once(tmp_path: Path) -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        time.sleep(0.2)
        (folder / "it").write_text("done")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: build_once(tmp_path / "x", build), range(8)))
    assert len(built) == 1 and set(found) == {tmp_path / "x"}
    assert (tmp_path / "x" / "it").read_text() == "done"


def test_an_interrupt_stops_the_tools(tmp_path: Path) -> None:
    """What they started is gone, and so is the folder; the next build is made."""

    def build(folder: Path) -> None:
        # a tool's children outlive it, unless the whole group is killed
        command = 'sleep 300 & echo $! > "$1"; sleep 300'
        run_tool(["sh", "-c", command, "sh", str(tmp_path / "child")], folder)

    def stop(*_: Any) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        with pytest.raises(Stop):
            build_once(tmp_path / "x", build)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    child = int((tmp_path / "child").read_text())
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["child", "x.lock"]
    assert build_once(tmp_path / "x", lambda folder: None).is_dir()


def test_what_a_killed_process_left(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from loopnest_sim.build import build_once\n"
        "build_once(Path(sys.argv[1]), lambda folder: os.kill(os.getpid(), 9))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("x.*/"))) == 1
    build_once(tmp_path / "x", lambda folder: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.lock"]


def test_a_process_forked_meanwhile_holds_no_lock(tmp_path: Path) -> None:
    children = []

    def build(folder: Path) -> None:
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
        raise ValueError

    try:
        with pytest.raises(ValueError):
            build_once(tmp_path / "x", build)
        again = threading.Thread(
            target=build_once, args=(tmp_path / "x", lambda folder: None), daemon=True
        )
        again.start()
        again.join(10)
        assert (tmp_path / "x").is_dir()
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_names_of_folders_and_what_they_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No folder's name matters: not the sources', the build's or the cache's. The second design is
    compiled with the library and the headers of the first one.
    """
    folder = tmp_path / "it's ü $HOME a#b"
    sources, cache = folder / "the sources", folder / "cache x"
    for path in (sources, cache):
        path.mkdir(parents=True)
    (sources / "main.cpp").write_text(
        '#include "Vtop.h"\nint main() { Vtop top; top.clk = 1; top.eval(); return 0; }\n'
    )
    tools = []

    def record(command: Sequence[str], *arguments: Any, **options: Any) -> str:
        tools.append(Path(command[0]).name)
        return run_tool(command, *arguments, **options)

    monkeypatch.setattr("loopnest_sim.build.run_tool", record)
    for name in ("one", "two"):
        (sources / f"{name}.v").write_text(
            f"module {name}(input clk, output reg q); always @(posedge clk) q <= ~q; endmodule\n"
        )
        build = folder / f"build {name}"
        build.mkdir()
        compile_verilog(
            build,
            cache,
            ["--cc", "--exe"],
            [sources / f"{name}.v", sources / "main.cpp"],
            top=name,
            output="program",
            make_variables=("OPT_FAST=-O0", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0"),
            together=True,
        )
        run_tool([str(build / "program")], build)
        assert [item.name for item in build.iterdir()] == ["program"]
        (header,) = cache.glob(f"shared-*/{HEADER}")
        header.write_text("#error the precompiled header is not used\n")
    assert tools.count("make") == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="file: File exists: expected a writable folder"):
        build_once(tmp_path / "file" / "x", lambda folder: None)
    with pytest.raises(BuildError, match=r"/proc: .*: expected a writable folder"):
        build_once(Path("/proc/x"), lambda folder: None)


@pytest.mark.parametrize(
    ("cache", "home", "expected"),
    [
        ("/c", "/h", "/c/loopnest"),
        ("", "/h", "/h/.cache/loopnest"),
        ("relative", "/h", "/h/.cache/loopnest"),
    ],
)
def test_cache_folder(
    monkeypatch: pytest.MonkeyPatch, cache: str, home: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setenv("HOME", home)
    assert cache_folder() == Path(expected)
    monkeypatch.setenv("HOME", "here")
    if not expected.startswith("/c"):
        with pytest.raises(BuildError, match=r"here/\.cache: expected an absolute path"):
            cache_folder()


def test_a_file_of_waves_for_each(tmp_path: Path) -> None:
    """Neither a second simulation nor a forked process writes into the first one's file."""
    with Simulator(design(), top="copier", waves=tmp_path / "a") as sim:
        with pytest.raises(ValueError, match="another simulation records to it"):
            Simulator(design(), top="copier", waves=tmp_path / "a")
        child = os.fork()
        if not child:
            sim.close()
            os._exit(0)
        os.waitpid(child, 0)
        sim.set_register(SCRATCH, 99)
    assert sim.waves is not None
    size = sim.waves.stat().st_size
    with Simulator(design(), top="copier", waves=tmp_path / "a") as sim:
        sim.set_register(SCRATCH, 99)
    assert sim.waves is not None and sim.waves.stat().st_size == size > 500
