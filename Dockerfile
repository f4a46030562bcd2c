# Two stages: the first installs with hashes, the second carries only what runs.
#
# In the container's configuration: web: {listen: "0.0.0.0:9787"}, published on loopback only here,
# for there are no users. Secrets named {credential: api-key} are read from /run/secrets/api-key:
#   podman secret create api-key ./api-key      (and secret-key, vm-key, jump-key)
#   podman run --read-only --cap-drop all -p 127.0.0.1:9787:9787 \
#     --secret api-key,mode=0400,uid=10001 ... \
#     -v /etc/stackward:/etc/stackward:ro -v stackward-state:/var/lib/stackward IMAGE
#   podman exec CONTAINER stackward status
FROM docker.io/library/python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/runtime.txt
RUN python3 -m venv /opt/stackward \
 && /opt/stackward/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY daemon daemon
COPY config config
# The package is plain Python: copying it in needs no build step and no further download.
RUN site=$(/opt/stackward/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && cp -r daemon/stackward "$site/stackward" \
 && mkdir -p "$site/stackward/config/packs" \
 && cp -r config/rules config/patterns "$site/stackward/config/packs/" \
 && printf '%s\n' '#!/opt/stackward/bin/python' 'import sys' 'from stackward.cli import main' \
      'sys.exit(main())' > /opt/stackward/bin/stackward \
 && chmod 0755 /opt/stackward/bin/stackward \
 && /opt/stackward/bin/python -m compileall -q "$site/stackward"

FROM docker.io/library/python:3.11-slim-bookworm
RUN groupadd --gid 10001 stackward \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/stackward \
      --shell /usr/sbin/nologin stackward \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/stackward
COPY --from=build /opt/stackward /opt/stackward
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/stackward/bin:$PATH \
    CREDENTIALS_DIRECTORY=/run/secrets
USER 10001:10001
VOLUME /var/lib/stackward
EXPOSE 9787
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9787/-/healthy', timeout=4)"]
ENTRYPOINT ["stackward"]
CMD ["run", "--config", "/etc/stackward/stackward.yaml"]
