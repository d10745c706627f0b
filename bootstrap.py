"""Make .venv and fill it with the pinned packages: `python3 bootstrap.py requirements.txt`; `--pin` pins them anew.

Runs under whatever Python the machine has, so it keeps to syntax that old versions read, to say in one sentence what is
wrong. A stamp with the file's hash makes the next call return at once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(HERE, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")


def fail(sentence):
    sys.exit("Cannot start: " + sentence)


def check_python():
    if sys.version_info < (3, 11):
        fail("Python 3.11 or newer is needed, and %s is %d.%d." % ((sys.executable,) + sys.version_info[:2]))
    if shutil.disk_usage(HERE).free < 300000000:
        fail("the disk is full (less than 300 MB left at %s)." % HERE)


def make_venv():
    if subprocess.call([PYTHON, "-c", ""], stderr=subprocess.DEVNULL) == 0 if os.path.exists(PYTHON) else False:
        return
    print("Creating .venv with Python %d.%d …" % sys.version_info[:2], flush=True)
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True)
    if done.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        if "ensurepip" in done.stdout + done.stderr or "No module named venv" in done.stderr:
            fail("this Python cannot make virtual environments (on Debian and Ubuntu: apt install python3-venv).")
        fail(last_line(done.stdout + done.stderr))


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no message"


def fingerprint(names):
    digest = hashlib.sha256()
    for name in names:
        with open(os.path.join(HERE, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def install(name):
    """pip install -r, unless the stamp says that exactly this is installed."""
    stamp = os.path.join(VENV, name + ".stamp")
    wanted = fingerprint(["requirements.txt"] + ([name] if name != "requirements.txt" else []))
    if os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == wanted:
                return
    run_pip(name)
    with open(stamp, "w") as file:
        file.write(wanted)


def run_pip(name):
    environment = dict(os.environ, PIP_ROOT_USER_ACTION="ignore", PIP_DISABLE_PIP_VERSION_CHECK="1")
    command = [PYTHON, "-m", "pip", "install", "--no-input", "--no-compile", "-r", os.path.join(HERE, name)]
    print("Installing the packages of %s (first start only) …" % name, flush=True)
    lines = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        for line in pip.stdout or ():
            lines.append(line)
            show_progress(line)
    print("", flush=True)
    if pip.returncode != 0:
        if any("No space left" in line for line in lines):
            fail("the disk is full (pip: No space left on device).")
        errors = [line.strip() for line in lines if line.startswith("ERROR")]
        fail("pip could not install %s: %s" % (name, errors[0] if errors else last_line("".join(lines))))


def show_progress(line):
    """A dot for each package; the long last part by its name."""
    if line.startswith("Collecting "):
        print(".", end="", flush=True)
    elif line.startswith("Installing collected packages"):
        print(" unpacking", end="", flush=True)


def pin():
    """Install what the .in files ask for into an empty environment and write down what came."""
    with tempfile.TemporaryDirectory() as folder:
        python = os.path.join(folder, "bin", "python")
        subprocess.check_call([sys.executable, "-m", "venv", folder])
        known = set()
        for name, first in (("requirements", ""), ("requirements-dev", "-r requirements.txt\n")):
            subprocess.check_call([python, "-m", "pip", "install", "-q", "-r", os.path.join(HERE, name + ".in")])
            lines = subprocess.check_output([python, "-m", "pip", "freeze"], text=True).splitlines()
            with open(os.path.join(HERE, name + ".txt"), "w") as file:
                file.write("# Pinned from %s.in with everything it brings; `make pin` writes this file anew.\n" % name)
                file.write(first + "".join(line + "\n" for line in lines if line not in known))
            known.update(lines)


if __name__ == "__main__":
    check_python()
    if sys.argv[1:] == ["--pin"]:
        pin()
    else:
        make_venv()
        for requirements in sys.argv[1:]:
            install(requirements)
