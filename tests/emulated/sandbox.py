"""An arm64 Python with onnxruntime, run by an x86-64 Debian under qemu-user: no root, no container."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

FETCH_SECONDS = 600
RUN_SECONDS = 900
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

GUEST_SUITE = "bookworm"  # the suite whose Python is 3.11
GUEST_PACKAGES = [
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libstdc++6",
    "libuuid1",
    "zlib1g",
]
GUEST_GLIBC_MINOR = 36

# Before version 10 qemu-user shows the guest the host's /proc/cpuinfo, and onnxruntime crashes on it.
QEMU_SUITE = "trixie"

APT_CONF = """\
Dir::Etc::SourceList "{lists}.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "{lists}";
Dir::State::Status "/dev/null";
Dir::Cache "{lists}/cache";
APT::Architecture "{arch}";
#clear APT::Architectures;
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::Retries "2";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""

APT_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: {suite}
Components: main
Architectures: {arch}
Signed-By: {keyring}
"""

PROBE = "import onnxruntime, platform; print(platform.machine())"


class UnavailableError(RuntimeError):
    """This machine or its network cannot provide the sandbox; the message is the plain reason."""


@dataclass(frozen=True)
class Sandbox:
    """A folder with `qemu-aarch64`, the guest's `sysroot` and its `site` packages."""

    folder: Path

    def run_python(self, script: Path, *args: object, cpu: str) -> subprocess.CompletedProcess[str]:
        """The finished run of `script` by the arm64 Python on the emulated `cpu`, its output as text."""
        return self._python(str(script), *map(str, args), cpu=cpu)

    def probe(self) -> None:
        """Raise RuntimeError unless the guest imports onnxruntime on aarch64."""
        done = self._python("-c", PROBE, cpu="cortex-a53")
        if done.stdout.strip() != "aarch64":
            raise RuntimeError(f"the arm64 Python does not run: exit {done.returncode}, {done.stderr}")

    def _python(self, *args: str, cpu: str) -> subprocess.CompletedProcess[str]:
        sysroot = self.folder / "sysroot"
        emulator = [f"{self.folder}/qemu-aarch64", "-L", str(sysroot), "-cpu", cpu]
        command = [*emulator, f"{sysroot}/usr/bin/python3.11", *args]
        # Nothing is inherited: the host's library paths and Python settings mean nothing to the guest.
        env = {
            "PYTHONHOME": f"{sysroot}/usr",
            "PYTHONPATH": f"{self.folder}/site",
            "PYTHONSAFEPATH": "1",
        }
        return subprocess.run(
            command,
            env=env,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )


def default_folder() -> Path:
    """The sandbox folder of the running onnxruntime and numpy, or what EDGEKD_ARM64_SANDBOX says."""
    if told := os.environ.get("EDGEKD_ARM64_SANDBOX"):
        return Path(told).absolute()
    return Path.home() / f".cache/edgekd/arm64-{onnxruntime.__version__}-{np.__version__}"


def build(folder: Path) -> Sandbox:
    """The sandbox at `folder`: reused where it is there, else made beside it and moved into place."""
    done = Sandbox(folder)
    if _present(folder):
        return done
    _check_host()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as temporary:
        made = Sandbox(Path(temporary) / "made")
        made.folder.mkdir()
        _add_sysroot(made.folder / "sysroot", Path(temporary))
        _add_qemu(made.folder / "qemu-aarch64", Path(temporary))
        _add_site(made.folder / "site", Path(temporary))
        made.probe()
        _move(made.folder, folder)
    return done


def _present(folder: Path) -> bool:
    return (folder / "qemu-aarch64").is_file()


def _move(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not _present(folder):  # otherwise another run was first, and its sandbox is as good
            raise


def _check_host() -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise UnavailableError("the arm64 sandbox is built on x86-64 Linux only")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"the arm64 sandbox needs {tool}")
    if not KEYRING.is_file():
        raise UnavailableError(f"the arm64 sandbox needs Debian's archive keys at {KEYRING}")
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError("the arm64 sandbox needs pip in the running environment")


def _add_sysroot(sysroot: Path, work: Path) -> None:
    for deb in _download(GUEST_PACKAGES, GUEST_SUITE, "arm64", work):
        subprocess.run(["dpkg-deb", "-x", deb, sysroot], check=True)


def _add_qemu(qemu: Path, work: Path) -> None:
    [deb] = _download(["qemu-user"], QEMU_SUITE, "amd64", work)
    # One program out of some dozens: the stream is left as soon as that one is through.
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as unpacked,
        tarfile.open(fileobj=unpacked.stdout, mode="r|") as archive,
    ):
        member = next(m for m in archive if m.name.removeprefix("./") == "usr/bin/qemu-aarch64")
        content = archive.extractfile(member)
        assert content is not None
        with qemu.open("wb") as out:
            shutil.copyfileobj(content, out)
        unpacked.kill()
    qemu.chmod(0o755)


def _add_site(site: Path, work: Path) -> None:
    wanted = [f"onnxruntime=={onnxruntime.__version__}", f"numpy=={np.__version__}"]
    wheels = work / "wheels"
    options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--dest={wheels}"]
    guest = ["--implementation=cp", "--python-version=3.11", "--abi=cp311"]
    guest += [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, GUEST_GLIBC_MINOR + 1)]
    guest += ["--platform=manylinux2014_aarch64"]
    what = f"no aarch64 wheels for Python 3.11 of {' and '.join(wanted)}"
    _fetch(what, [sys.executable, "-m", "pip", "download", *options, *guest, *wanted], work)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)


def _download(packages: Sequence[str], suite: str, arch: str, work: Path) -> list[Path]:
    lists, debs = work / f"{suite}-{arch}", work / f"debs-{arch}"
    (lists / "partial").mkdir(parents=True)
    (lists / "cache").mkdir()
    debs.mkdir()
    sources = APT_SOURCES.format(mirror=_mirror(), suite=suite, arch=arch, keyring=KEYRING)
    Path(f"{lists}.sources").write_text(sources, encoding="utf-8")
    conf = Path(f"{lists}.conf")
    conf.write_text(APT_CONF.format(lists=lists, arch=arch), encoding="utf-8")
    apt = ["apt-get", "-qq", "-c", str(conf)]
    _fetch(f"no package list of Debian {suite} for {arch}", [*apt, "update"], debs)
    _fetch(f"no packages of Debian {suite} for {arch}", [*apt, "download", *packages], debs)
    return sorted(debs.glob("*.deb"))


def _mirror() -> str:
    places = {
        Path("/etc/apt/sources.list.d/debian.sources"): r"^URIs:\s*(\S+)",
        Path("/etc/apt/sources.list"): r"^deb\s+(?:\[[^]]*\]\s+)?(?!cdrom:)(\S+)",
    }
    for path, pattern in places.items():
        if path.is_file() and (found := re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)):
            return found[1]
    raise UnavailableError(f"no Debian mirror is set in {' or '.join(map(str, places))}")


def _fetch(failure: str, command: Sequence[str], cwd: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{failure}: nothing within {FETCH_SECONDS} s") from None
    if done.returncode:
        told = [line[:200] for line in done.stderr.strip().splitlines()[-2:]]
        raise UnavailableError(f"{failure}: {' / '.join(told)}")
