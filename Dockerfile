# precis with the CPU build of PyTorch. `docker build .` gives the service; the compose file uses the other targets.
# The packages are those of constraints.txt, as everywhere else.

FROM python:3.11.14-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_TORCH_BACKEND=cpu \
    PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3013
RUN pip install --no-cache-dir "uv>=0.8"
WORKDIR /build
RUN python -m venv /opt/precis
# the packages change less often than the code, so they are a layer of their own
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir -p src/precis && touch src/precis/__init__.py \
    && uv pip install --no-cache --python /opt/precis/bin/python -c constraints.txt . \
    && uv pip uninstall --python /opt/precis/bin/python precis
COPY src src
RUN uv pip install --no-cache --no-deps --python /opt/precis/bin/python .


FROM python:3.11.14-slim-bookworm AS base
RUN useradd --create-home --uid 10001 precis
COPY --from=build /opt/precis /opt/precis
ENV PATH=/opt/precis/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    DVC_NO_ANALYTICS=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false
USER precis
WORKDIR /home/precis


# MLflow and Prefect with a PostgreSQL driver
FROM base AS servers
USER root
COPY --from=build /usr/local/bin/uv /usr/local/bin/uv
RUN uv pip install --no-cache --python /opt/precis/bin/python "psycopg2-binary>=2.9,<3" "asyncpg>=0.30,<1"
USER precis


FROM base AS service
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# SIGTERM finishes what has begun: give it the 30 seconds that takes (docker stop --time 35)
STOPSIGNAL SIGTERM
ENTRYPOINT ["precis", "serve", "--host", "0.0.0.0"]
