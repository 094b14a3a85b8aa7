# Two images: `service` answers requests, `servers` runs MLflow and Prefect; compose.yaml puts them together.
# Each has only what it imports, in the versions of constraints.txt, with the CPU build of PyTorch.

FROM python:3.11-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 \
    UV_TORCH_BACKEND=cpu \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN pip install --no-cache-dir "uv==0.9.*" && python -m venv /opt/venv
WORKDIR /build
COPY constraints.txt ./


FROM build AS build-service
# the packages change less often than the code, so they are a layer of their own
RUN uv pip install --no-cache --python /opt/venv/bin/python -c constraints.txt \
    fastapi fastapi-offline mlflow-skinny numpy packaging prometheus-client pydantic regex rich ruamel-yaml \
    safetensors torch typer typing-extensions uvicorn
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN uv pip install --no-cache --no-deps --python /opt/venv/bin/python .


FROM build AS build-servers
RUN uv pip install --no-cache --python /opt/venv/bin/python -c constraints.txt \
    asyncpg fastapi mlflow prefect psycopg2-binary==2.9.* sqlalchemy


FROM python:3.11-slim-bookworm AS base
RUN useradd --create-home --uid 10001 precis
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false
WORKDIR /home/precis


FROM base AS servers
COPY --from=build-servers /opt/venv /opt/venv
# a volume that is mounted here belongs to who may write it
RUN mkdir artifacts && chown 10001:10001 artifacts
USER 10001:10001


FROM base AS service
COPY --from=build-service /opt/venv /opt/venv
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# what has begun is finished within 30 seconds: docker stop --time 35
STOPSIGNAL SIGTERM
ENTRYPOINT ["precis", "serve", "--host", "0.0.0.0"]
