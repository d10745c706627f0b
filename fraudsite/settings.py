"""All settings in one file, read from the environment (docs/operate.md lists every variable).

FRAUD_MODE=production (the default) demands every secret and address; a bad or missing value stops the start with one
sentence.
FRAUD_MODE=demo (`make run`, the tests) makes its own random secrets under the state folder.
"""

import json
import os
import secrets
import shlex
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from csp.constants import NONE, SELF

from fraudsite.embedded import ROOT, state_folder
from fraudsite.schedule import beat_schedule

BASE_DIR = ROOT
STATE_DIR = state_folder()


# --- reading the environment ------------------------------------------------------------------------------------------


def refuse(sentence: str) -> NoReturn:
    """Stop the start: one sentence for the operator instead of a traceback."""
    sys.exit(f"Settings: {sentence}")


def env_text(name: str, default: str | None = None) -> str:
    """The variable `name`, or the content of the file `name`_FILE points to; without a default it must be there."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            refuse(f"{name}_FILE names {path}, which cannot be read ({error.strerror}).")
    value = os.environ.get(name, "").strip()
    if value:
        return value
    if default is None:
        refuse(f"{name} is not set (or {name}_FILE); see .env.example.")
    return default


def env_bool(name: str, default: bool) -> bool:
    """true/false, yes/no, on/off, 1/0."""
    value = env_text(name, str(default)).lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    refuse(f"{name} must be true or false, not {value!r}.")


def env_int(name: str, default: int, *, least: int = 0, most: int = 2**31) -> int:
    """A whole number between `least` and `most`."""
    value = env_text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        refuse(f"{name} must be a whole number, not {value!r}.")
    if not least <= number <= most:
        refuse(f"{name} must lie between {least} and {most}, not {number}.")
    return number


def env_list(name: str, default: str | None = None) -> list[str]:
    """Values separated by commas."""
    return [part.strip() for part in env_text(name, default).split(",") if part.strip()]


def env_secret(name: str) -> str:
    """A secret of at least 50 characters. The demo makes a random one and keeps it in the state folder."""
    if DEMO and not os.environ.get(name) and not os.environ.get(f"{name}_FILE"):
        return _demo_secret(name)
    value = env_text(name)
    if not DEMO and (
        len(value) < 50 or len(set(value)) < 8 or "change" in value.lower() or "insecure" in value.lower()
    ):
        refuse(f"{name} must be a random text of at least 50 characters, for example from `openssl rand -base64 48`.")
    return value


def _demo_secret(name: str) -> str:
    path = STATE_DIR / "secrets.json"
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        known = {}
    if name not in known:
        known[name] = secrets.token_urlsafe(48)
        STATE_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(known, file)
        os.replace(aside, path)
    return known[name]


def database_from(url: str) -> dict[str, object]:
    """Django's form of a `postgresql://user:password@host:port/name?sslmode=…` address."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"} or len(parts.path) < 2:
        refuse("DATABASE_URL must look like postgresql://user:password@host:5432/name.")
    try:
        port = parts.port or 5432
    except ValueError:
        refuse("DATABASE_URL has a port that is not a number.")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(port),
        "OPTIONS": {"connect_timeout": "10", **dict(parse_qsl(parts.query))},
    }


def _choice(name: str, default: str, among: set[str]) -> str:
    value = env_text(name, default)
    if value not in among:
        refuse(f"{name} must be one of {', '.join(sorted(among))}, not {value!r}.")
    return value


def _valkey_url() -> str:
    url = env_text("VALKEY_URL", env_text("REDIS_URL", ""))
    if not url:
        refuse("VALKEY_URL (or REDIS_URL) is not set; see .env.example.")
    if urlsplit(url).scheme not in {"redis", "rediss", "valkey", "valkeys"}:
        refuse("VALKEY_URL must look like redis://:password@host:6379/0.")
    return url.replace("valkey", "redis", 1) if url.startswith("valkey") else url


# --- how it runs ------------------------------------------------------------------------------------------------------

FRAUD_MODE = _choice("FRAUD_MODE", "production", {"demo", "production"})
DEMO = FRAUD_MODE == "demo"
DEBUG = env_bool("DEBUG", False)
if DEBUG and not DEMO:
    refuse("DEBUG must be off in production.")

SECRET_KEY = env_secret("SECRET_KEY")
# Keys of customers, cards, devices … are keyed hashes of the caller's tokens; changing this key orphans all profiles.
ENTITY_KEY = env_secret("ENTITY_KEY")

ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1],testserver" if DEMO else None)
if not DEMO and "*" in ALLOWED_HOSTS:
    refuse("ALLOWED_HOSTS must name the hosts, not *.")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", "" if DEMO else ",".join(f"https://{h}" for h in ALLOWED_HOSTS))

# --- servers ----------------------------------------------------------------------------------------------------------

DATABASES = {
    "default": {
        **database_from(env_text("DATABASE_URL")),
        # Threads of the web server and workers keep their connection; a broken one is found before it is used.
        "CONN_MAX_AGE": env_int("DATABASE_CONN_MAX_AGE", 600),
        "CONN_HEALTH_CHECKS": True,
        # Never ATOMIC_REQUESTS: a request that waits for the lane must hold no open transaction (protocol.md, traps).
        "ATOMIC_REQUESTS": False,
    }
}
VALKEY_URL = _valkey_url()

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": VALKEY_URL,
        "KEY_PREFIX": "desk",
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [VALKEY_URL], "prefix": "desk"},
    }
}

# Everything that processes write: models, snapshots and bases of profiles, exports.
DATA_DIR = Path(env_text("DATA_DIR", str(STATE_DIR / "data")))
MODEL_DIR = DATA_DIR / "models"
PROFILE_DIR = DATA_DIR / "profiles"
IMPORT_DIR = DATA_DIR / "imports"
# Files of cases, under random names. Nothing serves this folder; the desk hands each out after asking who wants it.
ATTACHMENT_DIR = Path(env_text("ATTACHMENT_DIR", str(STATE_DIR / "attachments")))
# The command that scans an upload for viruses; the file's path is added. Empty: files are kept unscanned, and say so.
ATTACHMENT_SCAN = shlex.split(env_text("ATTACHMENT_SCAN", ""))

# --- Celery: the broker is the doorbell, rows are the queue -----------------------------------------------------------

CELERY_BROKER_URL = VALKEY_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# Long tasks may be delivered again after this; the lane's lock makes that harmless.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3600,
    "global_keyprefix": "celery:",
    "socket_keepalive": True,
    "health_check_interval": 15,
}
# Without a broker a publish must fail at once: the sweep finds the rows.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_DB_REUSE_MAX = 10_000  # tasks until a worker closes its connection whatever its age; see fraudsite/celery.py
CELERY_TIMEZONE = "UTC"
CELERY_ENABLE_UTC = True
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
# The code's own schedule; people may add and switch entries in the admin.
CELERY_BEAT_SCHEDULE = beat_schedule()

# --- applications -----------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "fraudsite.apps.DeskAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "rest_framework",
    "drf_spectacular",
    "channels",
    "django_celery_beat",
    "django_prometheus",
    "csp",
    "transactions.apps.TransactionsConfig",
    "scoring.apps.ScoringConfig",
    "alerts.apps.AlertsConfig",
    "cases.apps.CasesConfig",
    "fraudsite.apps.FraudsiteConfig",
]
AUTH_USER_MODEL = "fraudsite.User"

MIDDLEWARE = [
    "fraudsite.logs.RequestLog",
    "fraudsite.health.Probes",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "fraudsite.zones.ReaderZone",
    "alerts.online.Seen",
    "cases.provenance.Provenance",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

# What requests to /api/v1/ pass instead, see fraudsite/machines.py.
API_MIDDLEWARE = [
    "fraudsite.logs.RequestLog",
    "fraudsite.machines.Figures",
    "django.middleware.security.SecurityMiddleware",
    "fraudsite.machines.Threshold",
]

ROOT_URLCONF = "fraudsite.urls"
WSGI_APPLICATION = "fraudsite.wsgi.application"
ASGI_APPLICATION = "fraudsite.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    # Deny by default: every view names who may call it.
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "UNAUTHENTICATED_USER": None,
    # Every error of the API is a problem document.
    "EXCEPTION_HANDLER": "transactions.problems.handle",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Fraud desk API",
    "DESCRIPTION": "Payments in, decisions out. Errors are problem documents (RFC 9457) with JSON pointers.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PUBLIC": True,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": r"/api/v[0-9]",
    "POSTPROCESSING_HOOKS": ["transactions.openapi.complete"],
}

# How long a request waits for its decision before it is answered with 202; `Prefer: wait=n` changes it up to the most.
API_PATIENCE_SECONDS = env_int("API_PATIENCE_MS", 1500, least=10, most=60_000) / 1000
API_MOST_PATIENCE_SECONDS = 10.0
# How much may come in before 429 is the answer; 0 = no limit. Requests are counted for each client.
BACKLOG_LIMIT = env_int("FRAUD_BACKLOG_LIMIT", 500_000)
SNAPSHOT_ROWS = env_int("FRAUD_SNAPSHOT_ROWS", 200_000, least=1)
REQUESTS_PER_MINUTE = env_int("FRAUD_REQUESTS_PER_MINUTE", 120_000)
BULK_REQUESTS_PER_MINUTE = env_int("FRAUD_BULK_REQUESTS_PER_MINUTE", 1_200)

# --- the demo's past --------------------------------------------------------------------------------------------------

DEMO_DAYS = env_int("FRAUD_DEMO_DAYS", 135, least=20, most=400)
DEMO_PER_DAY = env_int("FRAUD_DEMO_PER_DAY", 600, least=100, most=100_000)
DEMO_RECENT = env_int("FRAUD_DEMO_RECENT", 90, least=1, most=400)  # of the days, judged and worked at most

# --- people, sessions, security ---------------------------------------------------------------------------------------

AUTHENTICATION_BACKENDS = ["fraudsite.sessions.DeskBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

SECURE_COOKIES = env_bool("SECURE_COOKIES", not DEMO)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_NAME = "__Host-session" if SECURE_COOKIES else "session"
CSRF_COOKIE_NAME = "__Host-csrf" if SECURE_COOKIES else "csrftoken"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = env_int("SESSION_SECONDS", 12 * 3600, least=300)

SECURE_SSL_REDIRECT = env_bool("SSL_REDIRECT", not DEMO)
if env_bool("BEHIND_PROXY", not DEMO):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = env_int("HSTS_SECONDS", 0 if DEMO else 31536000)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_HSTS_SECONDS > 0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "object-src": [NONE],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
    }
}

# Bodies are bounded before they are read; bulk requests carry up to thousands of payments.
DATA_UPLOAD_MAX_MEMORY_SIZE = env_int("MAX_BODY_BYTES", 16_000_000, least=100_000)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000
# Files are bounded while they come in, then spooled to disk past a few hundred kilobytes.
FILE_UPLOAD_HANDLERS = [
    "cases.uploads.Bounded",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]
FILE_UPLOAD_MAX_MEMORY_SIZE = 512_000
FILE_UPLOAD_PERMISSIONS = 0o600

# /metrics answers loopback, and elsewhere only who sends this token.
METRICS_TOKEN = env_text("METRICS_TOKEN", "")
PROMETHEUS_EXPORT_MIGRATIONS = False

# --- language, time, files --------------------------------------------------------------------------------------------

LANGUAGE_CODE = "en"
USE_I18N = True
FORMAT_MODULE_PATH = ["fraudsite.formats"]
USE_TZ = True
TIME_ZONE = env_text("DESK_TIME_ZONE", "UTC")

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env_text("STATIC_ROOT", str(STATE_DIR / "static")))
# Collected files carry their hash in the name and are cached for ever; without a collection the plain ones serve.
HASHED_STATIC = env_bool("HASHED_STATIC", (STATIC_ROOT / "staticfiles.json").exists())
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(DATA_DIR / "files")},
    },
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage."
        + ("ManifestStaticFilesStorage" if HASHED_STATIC else "StaticFilesStorage")
    },
}
WHITENOISE_USE_FINDERS = not HASHED_STATIC
WHITENOISE_AUTOREFRESH = False

# --- logs: one JSON object a line on stdout ---------------------------------------------------------------------------

LOG_LEVEL = _choice("LOG_LEVEL", "INFO", {"DEBUG", "INFO", "WARNING", "ERROR"})
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "fraudsite.logs.JsonLines"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
    "root": {"handlers": ["out"], "level": LOG_LEVEL},
    "loggers": {
        "django.server": {"handlers": ["out"], "level": "WARNING", "propagate": False},
        # Each refused request is already one line of RequestLog.
        "django.request": {"level": "ERROR"},
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "numba": {"level": "WARNING"},
    },
}

# --- numeric libraries: compiled kernels are kept in the clone; threads are ours to give ------------------------------

os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))
# Waiting threads sleep: spinning ones cost training four times the CPU wherever cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "2")
