"""The wheel and the sdist install and run outside the checkout."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def check(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    check(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return out


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_an_installed_copy_runs_outside_the_checkout(built, tmp_path, kind):
    (archive,) = built.glob(kind)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # Only vigos is installed; its dependencies come from this environment.
    site = Path(
        check(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    check(python, "-m", "pip", "install", "--quiet", "--no-deps", archive, cwd=tmp_path)

    vigos = tmp_path / "venv" / "bin" / "vigos"
    code = "from vigos_cli.config.paths import config_dir; print(config_dir())"
    where = check(python, "-c", code, cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    shown = check(vigos, "distill", "--cfg", "job", "model=qwen2vl", "+experiment=prior", cwd=tmp_path)
    assert "quantise: nf4" in shown
    assert "same_prompt" in check(vigos, "distill", "--help", cwd=tmp_path)
    code = "from vigos_cli.models.planned_config import KNOWN; print(len(list(KNOWN.glob('*.json'))))"
    assert check(python, "-c", code, cwd=tmp_path).strip() == "11"
    assert "0.1.0" in check(python, "-c", "import vigos_cli; print(vigos_cli.__version__)", cwd=tmp_path)
    assert not list(tmp_path.glob("outputs"))
