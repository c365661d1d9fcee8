# The mcdrop server on a small base. docs/docker.md says how to build, run and configure it.
#
#   BASE_IMAGE       any Debian-like image whose python3 is the version that torch has wheels for
#   VARIANT          cpu or gpu; the build stops if pip's index gives the other build of torch
#   TORCH_INDEX_URL  where torch alone comes from; empty: pip's own index
#   REVISION         the commit, for the image's labels
#
# A secret named pip.conf, where given, is pip's configuration while building (mirrors, proxies,
# certificates). It stays out of every layer.
ARG BASE_IMAGE=python:3.11-slim-bookworm


# What serving needs from other people: built again only when its list changes.
FROM ${BASE_IMAGE} AS packages
ARG VARIANT=cpu
ARG TORCH_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/pip/bin:$PATH
# pip lives beside the environment it fills, which is shipped without it
RUN case "$VARIANT" in cpu|gpu) ;; *) echo >&2 "VARIANT is cpu or gpu, not '$VARIANT'"; exit 1 ;; esac \
    && python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/mcdrop
WORKDIR /src
COPY constraints.txt ./
# torch first and alone, so that the wrong build is found before gigabytes of CUDA follow it
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip --python /opt/mcdrop/bin/python install --no-compile --no-deps \
        ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$(grep '^torch==' constraints.txt)" \
    && cuda="$(sed -n 's/^cuda[^=]*= *//p' /opt/mcdrop/lib/python3.*/site-packages/torch/version.py)" \
    && case "$VARIANT,$cuda" in \
        cpu,None|gpu,\'*) ;; \
        *) echo >&2 "VARIANT=$VARIANT, but this torch was built for CUDA $cuda. Pass --build-arg" \
            "TORCH_INDEX_URL=<an index that has torch for $VARIANT>, or another VARIANT."; exit 1 ;; \
    esac
COPY pyproject.toml ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        extras = (project["optional-dependencies"][name] for name in ("service", "grpc", "otel")); \
        print(*project["dependencies"], *sum(extras, []), sep="\n")' \
        > requirements.txt \
    && pip --python /opt/mcdrop/bin/python install --no-compile -c constraints.txt -r requirements.txt
# Out: tests, headers and build tools that no server opens. In: bytecode of what a server imports,
# since a read-only root cannot keep any; never checked against its source, whose time may change.
RUN cd /opt/mcdrop/lib/python3.*/site-packages \
    && find . -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf torch/include torch/share torch/test \
    && find torch/bin -mindepth 1 ! -name torch_shm_manager -delete \
    && find . \( -path './torch/lib/*_test.so' -o -name '*.a' \) -delete \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(_inductor|networkx|setuptools|testing)/' .


# The demo models, trained again only when the library changes. scikit-learn brings their data and
# goes no further than this stage.
FROM packages AS demo
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip --python /opt/mcdrop/bin/python install --no-compile -c constraints.txt scikit-learn
COPY README.md LICENSE ./
COPY mcdrop mcdrop
RUN pip --python /opt/mcdrop/bin/python install --no-deps --no-build-isolation . \
    && /opt/mcdrop/bin/mcdrop demo --output /models \
    && chmod -R a+rX /models


# Our own code and user, as files that go on top of the packages.
FROM packages AS program
COPY README.md LICENSE ./
COPY mcdrop mcdrop
COPY service service
RUN pip --python /opt/mcdrop/bin/python install --no-compile --no-deps --no-build-isolation \
        --root /out . \
    && python3 -m compileall -q --invalidation-mode unchecked-hash -s /out /out/opt/mcdrop \
    && mkdir /out/etc && cp /etc/passwd /etc/group /out/etc/ \
    && echo 'mcdrop:x:10001:10001:mcdrop:/tmp:/usr/sbin/nologin' >> /out/etc/passwd \
    && echo 'mcdrop:x:10001:' >> /out/etc/group


# Nothing runs in this stage, so nothing of the build can be left in it.
FROM ${BASE_IMAGE}
COPY --from=packages /opt/mcdrop /opt/mcdrop
COPY --from=demo /models /models
COPY --from=program /out /
ENV PATH=/opt/mcdrop/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    OMP_WAIT_POLICY=passive \
    MCDROP_HOST=0.0.0.0 \
    MCDROP_PORT=8000 \
    MCDROP_MODELS=/models \
    MCDROP_DRAIN_SECONDS=8
WORKDIR /
USER 10001:10001
# 8001 is where gRPC goes by custom; nothing listens there until MCDROP_GRPC_PORT says so
EXPOSE 8000 8001
# http.client, as urllib would go through a proxy that the environment names
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-I", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['MCDROP_PORT']), timeout=4); c.request('GET', '/health/ready'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["mcdrop"]
CMD ["serve"]
ARG VARIANT=cpu
ARG REVISION=""
LABEL org.opencontainers.image.title="mcdrop" \
      org.opencontainers.image.description="Monte Carlo dropout for any PyTorch model, served over HTTP" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}" \
      org.mcdrop.variant="${VARIANT}"
