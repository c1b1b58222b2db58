# The trainer, for NVIDIA GPUs (or, with DEVICE=cpu, for a trial). From the repository's root:
#   docker build -f docker/trainer.Dockerfile -t clear-search/trainer:gpu .
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG DEVICE=gpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/clear-search/bin:$PATH
WORKDIR /build
RUN ["python3", "-m", "venv", "/opt/clear-search"]
COPY docker/trainer-${DEVICE}.lock requirements.lock
COPY docker/torch-cpu.lock torch-cpu.lock
RUN pip install --no-deps --require-hashes -r requirements.lock \
    && if [ "${DEVICE}" = cpu ]; then \
    pip install --no-deps ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} -r torch-cpu.lock; \
    fi
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY trainer trainer
RUN pip install --no-deps . && pip uninstall --yes --quiet pip \
    && mkdir -p /var/cache/clear-search /data

FROM ${BASE} AS trainer
ARG DEVICE=gpu
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="CLEAR Search trainer" \
    org.opencontainers.image.description="Fine-tune cross-lingual encoders with CLEAR (${DEVICE})" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/clear-search /opt/clear-search
COPY --from=build --chown=65532:65532 /var/cache/clear-search /var/cache/clear-search
COPY --from=build --chown=65532:65532 /data /data
ENV PATH=/opt/clear-search/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HOME=/var/cache/clear-search/huggingface \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CLEAR_CACHE=/var/cache/clear-search
USER 65532:65532
WORKDIR /data
ENTRYPOINT ["clear-trainer"]
CMD ["--help"]
