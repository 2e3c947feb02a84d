# The image of every pod of a run on Kubernetes: Python with what runner and your jobs import, pinned by constraints.txt.
# runner itself and your project travel with each run, so a change of code needs no new image (docs/kubernetes.md).
#
#   docker build -t IMAGE .
#   docker build -t IMAGE --build-arg EXTRAS=examples .                    further optional dependencies than `all`
#   docker build -t IMAGE --build-arg PACKAGES="tokenizers pillow" .       whatever else your jobs import
#   docker build -t IMAGE --build-arg TORCH_INDEX=URL .                    PyTorch for the CPU alone, or for ROCm with
#                         --build-arg TORCH="torch triton-rocm"            what else comes from there, and only that
#   docker build -t IMAGE --build-arg BASE=IMAGE .                         Python 3.11 or newer with venv, and bash
# By digest, so that a tag that was moved changes nothing: python:3.11-slim-bookworm with Python 3.11.16.
ARG BASE=python:3.11-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84

# The requirements alone, so that other edits of pyproject.toml leave the layers below as they are.
FROM ${BASE} AS pins
ARG EXTRAS=""
WORKDIR /pins
COPY pyproject.toml constraints.txt ./
RUN python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        print(*project["dependencies"], *project["optional-dependencies"]["all"], sep="\n")' > requirements.txt \
    && python3 -c 'import sys, tomllib; groups = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
        print(*(line for name in sys.argv[1].split(",") if name for line in groups[name]), sep="\n")' "$EXTRAS" > extras.txt

FROM ${BASE}
# An environment of its own: KubeRay starts `python`, which a base may have under another name or not on PATH.
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH VIRTUAL_ENV=/opt/venv

# uv refuses a file whose hash is not among those of constraints.txt.
ENV UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
COPY --from=pins /pins/constraints.txt /pins/requirements.txt /opt/pins/
RUN sed -n '/^uv==/,/[^\\]$/p' /opt/pins/constraints.txt > /opt/pins/uv.txt \
    && pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement /opt/pins/uv.txt

# The largest layer. PyPI's PyTorch is built for CUDA and runs on the CPU too. Another index is asked for the packages
# that TORCH names, and for no others: whatever else it offers under a name that is pinned here is not looked at. A
# build such as 2.0+cpu satisfies the pin of 2.0.
ARG TORCH_INDEX=""
ARG TORCH=torch
RUN if [ -n "$TORCH_INDEX" ]; then \
        version=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' /opt/pins/constraints.txt) \
        && uv pip install --no-deps --default-index "$TORCH_INDEX" \
            $(for name in $TORCH; do [ "$name" = torch ] && echo "torch==$version" || echo "$name"; done); \
    fi \
    && uv pip install --constraint /opt/pins/constraints.txt --requirement /opt/pins/requirements.txt

# What changes more often.
ARG PACKAGES=""
COPY --from=pins /pins/extras.txt /opt/pins/
RUN if [ -n "$PACKAGES" ] || grep -q '[a-z]' /opt/pins/extras.txt; then \
        uv pip install --constraint /opt/pins/constraints.txt --requirement /opt/pins/extras.txt $PACKAGES; \
    fi

# By number: `runAsNonRoot` cannot judge a name. Pods write below /tmp only.
RUN groupadd --gid 10001 runner && useradd --uid 10001 --gid 10001 --create-home runner
USER 10001:10001
WORKDIR /home/runner
# The NVIDIA runtime mounts what CUDA and nvidia-smi need. Which GPUs a pod sees is for its device plugin to say.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility

# What a pod does first must work; here a mistake costs the least.
RUN ["/bin/bash", "-c", "python -c 'import fsspec, kubernetes, pyarrow, ray.data, ray.train.torch, s3fs, torch' && ray --version"]
