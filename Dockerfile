# One image a role; none of them has a key in it. See docs/guides/images.md.
#
#   docker build --target server -t lcve-server .   the cloud operator: no torch, no video, no key
#   docker build --target client -t lcve-client .   the edge client: no torch, no engine, no server
#   docker build --target export -t lcve-export .   the model owner
#
# EXTRAS is what the server is made of: openvino,cpu,build,serve to build and run engines on a CPU, or gpu,serve or
# tensorrt,cpu,serve on a BASE with NVIDIA's libraries. Those for GPUs have never been built or run.
#
# BASE is any image with Python 3.11 or newer as python3, with its venv module. A secret named pip, where the build is
# given one, is the pip configuration to install with; it stays in no image.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/lcve
COPY pyproject.toml README.md LICENSE constraints.txt /src/
COPY lcve_deploy /src/lcve_deploy
COPY clients/js/src /src/clients/js/src
# Tests of packages go: nothing runs them, and some bring private keys of their own.
ENV INSTALL="/opt/pip/bin/python -m pip --python /opt/lcve/bin/python install --no-cache-dir -c /src/constraints.txt" \
    REMOVE_TESTS="find /opt/lcve -type d -name tests -prune -exec rm -r {} +"

FROM build AS build-client
RUN --mount=type=secret,id=pip,target=/etc/pip.conf ${INSTALL} "/src[video,remote]" && ${REMOVE_TESTS}

FROM build AS build-export
RUN --mount=type=secret,id=pip,target=/etc/pip.conf ${INSTALL} "/src[export,cpu,video]" && ${REMOVE_TESTS}

FROM build AS build-server
ARG EXTRAS=cpu,serve
RUN --mount=type=secret,id=pip,target=/etc/pip.conf ${INSTALL} "/src[${EXTRAS}]" && ${REMOVE_TESTS}

# No command runs in what follows: of the build, /opt/lcve alone stays.
FROM ${BASE} AS role
LABEL org.opencontainers.image.title="lcve-deploy" \
    org.opencontainers.image.description="Action recognition on encrypted video clips" \
    org.opencontainers.image.licenses="Apache-2.0"
ENV PATH="/opt/lcve/bin:${PATH}" HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /data
ENTRYPOINT ["lcve"]
CMD ["--help"]

FROM role AS client
COPY --from=build-client /opt/lcve /opt/lcve
USER 10001:10001

FROM role AS export
COPY --from=build-export /opt/lcve /opt/lcve
USER 10001:10001

FROM role AS server
COPY --from=build-server /opt/lcve /opt/lcve
USER 10001:10001
# Engines open only with the secret that they were built with: a folder is mounted at /state to keep it.
ENV LCVE_ENGINE_SECRET=/state/engine-secret
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import http.client as h, sys; \
    c = h.HTTPConnection('127.0.0.1', 8002, timeout=4); c.request('GET', '/v2/health/ready'); \
    sys.exit(c.getresponse().status != 200)"]
CMD ["serve", "--host", "0.0.0.0", "/models"]
