# One image for all roles. What runs in it is named as for the command line: docker run bridge receiver

FROM python:3.13-slim AS build
# What is installed beside the bridge: `tracing` is the same with OpenTelemetry.
ARG LOCK=product
WORKDIR /build
RUN python -m venv --without-pip /opt/bridge \
 && python -m venv --without-pip /opt/build
# The dependencies first, as they were tested: they change less often than the code, and are a layer of their own.
COPY requirements requirements
RUN python -m pip --python /opt/bridge/bin/python install --no-cache-dir --only-binary :all: \
        --require-hashes -r "requirements/$LOCK.lock" \
 && python -m pip --python /opt/build/bin/python install --no-cache-dir --only-binary :all: \
        --require-hashes -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
RUN python -m pip --python /opt/build/bin/python wheel --no-cache-dir --no-deps --no-build-isolation \
        --wheel-dir dist . \
 && python -m pip --python /opt/bridge/bin/python install --no-cache-dir --no-deps --no-index dist/*.whl \
 && /opt/bridge/bin/python -m compileall -q /opt/bridge/lib

FROM python:3.13-slim
LABEL org.opencontainers.image.title="bridge" \
      org.opencontainers.image.description="From an e-mail provider's webhook into RabbitMQ, and to a suppression list" \
      org.opencontainers.image.licenses="MIT"
# The number is fixed, so that a volume belongs to the same user whatever the image is built on.
RUN groupadd --gid 10001 bridge \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/bridge --shell /usr/sbin/nologin bridge \
 && install -d -o bridge -g bridge -m 0700 /var/lib/bridge /var/lib/bridge/spool /var/lib/bridge/files
COPY --from=build /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/bridge
# The webhook; health of a receiver; health of a worker.
EXPOSE 8080 8090 8091
STOPSIGNAL SIGTERM
# Until Python runs our first line, a signal to a process 1 would be lost. Held back from the start, it is not.
ENTRYPOINT ["env", "--block-signal=TERM,INT,HUP", "bridge"]
CMD ["--help"]
