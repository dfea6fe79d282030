# A container that serves the detector that comes with the package, on a CPU:
#   docker build -t deepfidelity . && docker run --rm -p 127.0.0.1:8000:8000 deepfidelity
# On NVIDIA GPUs: docker build --build-arg EXTRA=cuda -t deepfidelity . && docker run --gpus all ...

ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
ARG EXTRA=
COPY . /source
RUN python -m venv /opt/deepfidelity \
    && /opt/deepfidelity/bin/pip install --no-cache-dir "/source[serve${EXTRA:+,$EXTRA}]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/deepfidelity /opt/deepfidelity
RUN useradd --uid 10001 --create-home deepfidelity \
    && install -d -o deepfidelity -g deepfidelity /data
ENV PATH=/opt/deepfidelity/bin:$PATH \
    PYTHONUNBUFFERED=1
USER deepfidelity
WORKDIR /data
EXPOSE 8000
ENTRYPOINT ["deepfidelity"]
CMD ["--mode=serve", "--host=0.0.0.0", "--port=8000"]
