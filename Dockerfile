# rdnscache: one node, for linux/amd64 and linux/arm64. docs/deployment.md says how to run it.
#
# An index of your own, for the build only: --build-arg PIP_INDEX_URL=…, or a whole pip.conf that leaves no trace in any
# layer: --secret id=pip.conf,src=FILE.

# Any Debian or Ubuntu with Python 3.11 or later in its packages.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev python3-dev python3-venv
WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY rdnscache rdnscache
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_CERT PIP_DEFAULT_TIMEOUT
# The build fails if compiling fails: the plain form has a fraction of the speed.
# constraints.txt applies to build dependencies as well, for which versions of pip have different options.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /tools \
    && export PIP_CONSTRAINT=/src/constraints.txt PIP_BUILD_CONSTRAINT=/src/constraints.txt \
    && REQUIRE_COMPILED=1 /tools/bin/pip wheel --wheel-dir /wheels . \
    && python3 -m venv --without-pip /opt/rdnscache \
    && /tools/bin/pip --python /opt/rdnscache/bin/python install --no-index --find-links /wheels rdnscache \
    && rm -r /opt/rdnscache/lib/python3*/site-packages/gevent/tests \
    && find /opt/rdnscache \( -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' \) -delete \
    && /opt/rdnscache/bin/rdnscache --version | grep compiled

FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/rdnscache /opt/rdnscache
COPY deploy/healthy.py /usr/local/bin/rdnscache-healthy
ARG VERSION=dev
LABEL org.opencontainers.image.title="rdnscache" \
      org.opencontainers.image.description="A clustered DNS cache: many stateless nodes, one Redis, one upstream query per question." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
ENV PATH=/opt/rdnscache/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    RDNSCACHE_LISTEN=0.0.0.0:5300 \
    RDNSCACHE_ADMIN=0.0.0.0:9153
USER 65532:65532
EXPOSE 5300/udp 5300/tcp 9153/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["python3", "-IS", "/usr/local/bin/rdnscache-healthy"]
ENTRYPOINT ["rdnscache"]
CMD ["serve"]
