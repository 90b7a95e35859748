# One image a role; none of them has a key in it.
#
#   docker build -t lcve-server .                                          the cloud operator: no torch, no video
#   docker build -t lcve-engines --build-arg EXTRAS=cpu,openvino,build .   the same, to build and run engines on a CPU
#   docker build -t lcve-client --build-arg EXTRAS=video .                 the edge client: no torch, no engine
#   docker build -t lcve-owner --build-arg EXTRAS=export,cpu,video .       the model owner
#
# A server folder without engines is only read. Where it has engines, verify writes their proofs into it, and build adds
# some: mount it writable then, as a user who may write there.
#
#   docker run --rm -v "$PWD/service/server:/data/server:ro" lcve-server verify server
#   docker run --rm -u "$(id -u)" -v "$PWD/service/server:/data/server" lcve-engines build server --engine openvino
#
# There is no image for GPUs: nothing here has ever run on one.
#
# BASE is any image with Python 3.11 or newer as python3, with its venv module.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG EXTRAS=cpu
COPY pyproject.toml README.md LICENSE constraints.txt /src/
COPY lcve_deploy /src/lcve_deploy
RUN python3 -m venv /opt/lcve \
    && /opt/lcve/bin/python -m pip install --no-cache-dir -c /src/constraints.txt "/src[${EXTRAS}]"

FROM ${BASE}
RUN useradd --system --create-home lcve
COPY --from=build /opt/lcve /opt/lcve
USER lcve
WORKDIR /data
ENTRYPOINT ["/opt/lcve/bin/lcve"]
CMD ["--help"]
