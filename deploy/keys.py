"""Random secrets for docker-compose.yml, made once: `python -m deploy.keys FOLDER`.

The folder is a volume that only the desk's containers mount, each file readable by their different users.
"""

import os
import secrets
import sys
from pathlib import Path


def make(folder: Path) -> None:
    """Write what is missing; what is there stays, above all the key under which entities are known."""
    passwords = {
        name: _keep(folder / name, secrets.token_urlsafe(32)) for name in ("postgres_password", "valkey_password")
    }
    for name in ("secret_key", "entity_key", "metrics_token"):
        _keep(folder / name, secrets.token_urlsafe(48))
    _keep(folder / "database_url", f"postgresql://fraud:{passwords['postgres_password']}@postgres:5432/fraud_desk")
    _keep(folder / "valkey_url", f"redis://:{passwords['valkey_password']}@valkey:6379/0")


def _keep(path: Path, text: str) -> str:
    if not path.exists():
        aside = path.with_suffix(".new")
        aside.write_text(text)
        aside.chmod(0o444)
        os.replace(aside, path)
    return path.read_text()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
