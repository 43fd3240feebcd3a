# The image of a program: docker build --build-arg PROGRAM=worker . (or operator, or dashboard)
ARG PROGRAM

FROM python:3.13-slim AS build
ARG PROGRAM
WORKDIR /src
RUN python -m venv --without-pip /opt/joblease
ENV PIP_PYTHON=/opt/joblease/bin/python PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY $PROGRAM/requirements.txt .
RUN pip install --require-hashes -r requirements.txt
COPY requirements-build.txt .
RUN PIP_PYTHON=/usr/local/bin/python pip install --require-hashes -r requirements-build.txt
COPY . .
RUN test $PROGRAM != dashboard || test -f dashboard/joblease_dashboard/pages/static/vendor/htmx.min.js \
    || { echo "error: run 'make assets' first" >&2; exit 1; }
RUN PIP_PYTHON=/usr/local/bin/python pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
    && pip install --no-deps /wheels/*.whl
# Of the Kubernetes client, the half that blocks is never loaded, and little of the other: running the program once
# compiles that little, and shows that nothing is missing.
RUN cd /opt/joblease/lib/python3.13/site-packages && if [ -d kubernetes ]; then \
    rm -r kubernetes/client/api && find kubernetes -name '*.pyc' -delete && /opt/joblease/bin/joblease-$PROGRAM --version; fi

FROM python:3.13-slim AS runtime
ARG PROGRAM
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="joblease-$PROGRAM" \
      org.opencontainers.image.description="JobLease $PROGRAM: distributed job processing with leases and an audit trail" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="python:3.13-slim" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/joblease /opt/joblease
# USER, HOME: the uid has no entry in /etc/passwd, and a cluster may choose another one.
ENV PATH=/opt/joblease/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 USER=joblease HOME=/tmp
USER 10001:10001

FROM runtime AS operator
EXPOSE 9090
ENTRYPOINT ["joblease-operator"]

FROM runtime AS worker
# PIP_PYTHON: `pip install` in an image built on this one goes where the worker finds it.
# /handlers: a volume with modules that JOBLEASE_HANDLERS names may be mounted there.
ENV PIP_PYTHON=/opt/joblease/bin/python PYTHONPATH=/handlers
EXPOSE 9090
ENTRYPOINT ["joblease-worker"]

FROM runtime AS dashboard
ENV JOBLEASE_DASHBOARD_HOST=0.0.0.0
EXPOSE 8080 9090
ENTRYPOINT ["joblease-dashboard"]

FROM $PROGRAM
