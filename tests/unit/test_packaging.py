"""What is released: sdist and wheel, what PyPI and Airflow show of them, and what the workflows call."""

from __future__ import annotations

import email
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS
from markdown_it import MarkdownIt

import airflow_provider_stability
from airflow_provider_stability.provider_info import get_provider_info

if TYPE_CHECKING:
    from email.message import Message
    from types import ModuleType

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").exists())
HOME = {"Source": "https://forge.example/owner/project", "Documentation": "https://docs.example/stability/"}
VERSION = airflow_provider_stability.__version__
FILES = f"{HOME['Source']}/blob/v{VERSION}"
IMAGES = f"{HOME['Source']}/raw/v{VERSION}"


def project(folder: Path, urls: dict[str, str]) -> Path:
    """Copy what a build needs, with these ``[project.urls]``."""
    folder.mkdir()
    for name in ("CHANGELOG.md", "LICENSE", "README.md", "hatch_build.py"):
        shutil.copy(ROOT / name, folder)
    # The one that is tested, which may be an installed one.
    shutil.copytree(
        Path(airflow_provider_stability.__file__).parent,
        folder / "airflow_provider_stability",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pyproject = re.sub(r"^\[project\.urls\]\n(?:[^\[\n].*\n|\n)*", "", pyproject, flags=re.MULTILINE)
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    (folder / "pyproject.toml").write_text(f"{pyproject}\n[project.urls]\n{lines}", encoding="utf-8")
    return folder


def build(source: Path) -> Path:
    """Build the wheel, and return it."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(source / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = (source / "dist").glob("*.whl")
    return wheel


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode())


def sdist_metadata(wheel: Path) -> Message:
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        member = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert member is not None
        return email.message_from_string(member.read().decode())


@pytest.fixture(scope="module")
def homeless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(project(tmp_path_factory.mktemp("homeless") / "project", {}))


@pytest.fixture(scope="module")
def housed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(project(tmp_path_factory.mktemp("housed") / "project", HOME))


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Links(HTMLParser):
    """Collects what a page links to and shows."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]


def links(markdown: str) -> list[str]:
    page = Links()
    page.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
    return page.found


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def is_relative(link: str) -> bool:
    return not re.match(r"[a-z]+:|#", link)


def test_without_a_public_home_the_description_is_the_readme(homeless: Path) -> None:
    for each in (metadata(homeless), sdist_metadata(homeless)):
        assert each.get_payload() == readme()
        assert each["Description-Content-Type"] == "text/markdown"
        assert each.get_all("Project-URL") is None


def test_with_a_public_home_no_link_of_the_description_is_relative(housed: Path) -> None:
    for each in (metadata(housed), sdist_metadata(housed)):
        description = str(each.get_payload())
        relative = [link for link in links(readme()) if is_relative(link)]
        assert relative
        assert [link for link in links(description) if is_relative(link)] == []
        assert len(links(description)) == len(links(readme()))
        for path in relative:
            assert {f"{FILES}/{path}", f"{IMAGES}/{path}"} & set(links(description)), path


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("[a](docs/gates.md)", f"[a]({FILES}/docs/gates.md)"),
        ("[a](docs/gates.md#modes)", f"[a]({FILES}/docs/gates.md#modes)"),
        ('[a](./LICENSE "a title")', f'[a]({FILES}/LICENSE "a title")'),
        ("![a](docs/gate.png)", f"![a]({IMAGES}/docs/gate.png)"),
        ("[![a](a.SVG)](docs/a.md)", f"[![a]({IMAGES}/a.SVG)]({FILES}/docs/a.md)"),
        ("[a]: CHANGELOG.md", f"[a]: {FILES}/CHANGELOG.md"),
        ('<img src="docs/gate.png" width="9">', f'<img src="{IMAGES}/docs/gate.png" width="9">'),
        ('<a href="docs/gates.md">a</a>', f'<a href="{FILES}/docs/gates.md">a</a>'),
        ("[a](https://a.example/b.md)", "[a](https://a.example/b.md)"),
        ("[a](mailto:someone@a.example)", "[a](mailto:someone@a.example)"),
        ("[a](//a.example/b.md)", "[a](//a.example/b.md)"),
        ("[a](#install)", "[a](#install)"),
        ("```\n[a](b.md)\n```\n[a](b.md)", f"```\n[a](b.md)\n```\n[a]({FILES}/b.md)"),
        ("~~~ md\n[a](b.md)\n~~~\n", "~~~ md\n[a](b.md)\n~~~\n"),
    ],
)
def test_a_link_is_made_absolute(hook: ModuleType, markdown: str, expected: str) -> None:
    assert hook.absolute_links(markdown, HOME["Source"] + "/", VERSION) == expected


def test_the_wheel_holds_the_package_and_nothing_else(homeless: Path) -> None:
    package = Path(airflow_provider_stability.__file__).parent
    expected = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(homeless) as archive:
        names = set(archive.namelist())
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "airflow_provider_stability/py.typed" in names


def test_the_metadata_says_what_airflow_and_pypi_look_for(homeless: Path) -> None:
    found = metadata(homeless)
    assert (found["Name"], found["Version"]) == ("airflow-provider-stability", VERSION)
    assert found["License-Expression"] == "Apache-2.0"
    assert found.get_all("License-File") == ["LICENSE"]
    classifiers = found.get_all("Classifier") or []
    assert "Framework :: Apache Airflow :: Provider" in classifiers
    assert not [each for each in classifiers if each.startswith("License ::")]  # PyPI refuses both


def test_airflows_providers_page_links_to_the_documentation(housed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(housed) as archive:
        archive.extractall(tmp_path)  # noqa: S202  # built above
    asked = (
        "from airflow.providers_manager import ProvidersManager;"
        "url = ProvidersManager().providers['airflow-provider-stability'].data['documentation-url']"
        if AIRFLOW_V_3_0_PLUS
        else "from airflow.utils.docs import get_doc_url_for_provider;"
        f"url = get_doc_url_for_provider('airflow-provider-stability', '{VERSION}')"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {asked}; print(url)"
    # The copy of the package is not what coverage is about.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == HOME["Documentation"]


def test_the_description_reads_well_on_airflows_providers_page() -> None:
    sentence = "Hold jobs until there are enough credits for them at "
    if AIRFLOW_V_3_0_PLUS:
        from airflow.api_fastapi.core_api.services.public.providers import (  # noqa: PLC0415  # 3.x only
            _remove_rst_syntax,
        )

        # The page makes a link of each word that is a URL.
        shown = _remove_rst_syntax(get_provider_info()["description"])
        assert shown == f"{sentence}Stability AI https://stability.ai/"
    else:
        view = importlib.import_module("airflow.www.views").ProviderView()  # 2.x only
        html = str(view._clean_description(get_provider_info()["description"]))
        assert re.sub("<[^>]+>", "", html) == f"{sentence}Stability AI."
        assert links(html) == ["https://stability.ai/"]


def release(root: Path, tag: str) -> tuple[int, list[str]]:
    (root / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts" / "release.py", root / "scripts")
    done = subprocess.run(
        [sys.executable, root / "scripts" / "release.py", tag],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr.splitlines()


def dated(root: Path, date: str) -> None:
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    changed = re.sub(r"^## .*$", f"## {VERSION} - {date}", changelog, count=1, flags=re.MULTILINE)
    (root / "CHANGELOG.md").write_text(changed, encoding="utf-8")


def test_a_release_without_a_home_date_or_right_tag_is_refused(tmp_path: Path) -> None:
    root = project(tmp_path / "project", {"Source": "http://forge.example"})
    dated(root, "unreleased")
    status, problems = release(root, "v99.0")
    assert status == 1
    assert [line.split(" is ")[0].split(" begins ")[0] for line in problems] == [
        "The tag",
        "CHANGELOG.md",
        "Documentation in [project.urls] of pyproject.toml",
        "Source in [project.urls] of pyproject.toml",
    ]


def test_a_release_that_is_ready_is_not_refused(tmp_path: Path) -> None:
    root = project(tmp_path / "project", HOME)
    dated(root, "2030-01-31")
    assert release(root, f"v{VERSION}") == (0, [])


def test_the_workflows_matrix_is_the_list_of_supported_versions() -> None:
    done = subprocess.run([ROOT / ".ci" / "matrix"], check=True, capture_output=True, text=True, timeout=60)
    name, _, versions = done.stdout.strip().partition("=")
    supported = {path.stem.removeprefix("airflow-") for path in (ROOT / "requirements").glob("airflow-*.in")}
    assert (name, set(json.loads(versions))) == ("airflow", supported)


def workflow_commands() -> list[Any]:
    """Return each command of the workflows, with the file it stands in."""
    found = []
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        text = path.read_text(encoding="utf-8")
        commands = re.findall(r"^ +(?:- )?run: (.*)$", text, flags=re.MULTILINE)
        listed = re.findall(r"^ +command: \[(.*)\]$", text, flags=re.MULTILINE)
        commands += [each for line in listed for each in line.split(", ")]
        found += [pytest.param(each, id=f"{path.stem}: {each}") for each in commands if each[:1] != "$"]
    return found


@pytest.mark.parametrize("command", workflow_commands())
def test_the_workflows_call_scripts_that_are_there(command: str) -> None:
    script = ROOT / command.split(maxsplit=1)[0]
    assert script.parent.name in {"scripts", ".ci"}
    assert script.stat().st_mode & 0o100


def test_contributing_names_every_script() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `((?:scripts|benchmarks|\.ci)/\w+)", contributing, flags=re.MULTILINE))
    there = {
        path.relative_to(ROOT).as_posix()
        for folder in ("scripts", "benchmarks", ".ci")
        for path in (ROOT / folder).iterdir()
        if path.is_file() and path.stat().st_mode & 0o100
    }
    assert named == there
