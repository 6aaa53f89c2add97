# Strandline in an image: the program, the libraries that it is linked to, nothing else.
#
#   docker build --build-arg STRANDLINE_COMMIT="$(git rev-parse --short=12 HEAD)" -t strandline:0.1.0 .
#
# The image has no PostgreSQL: name one in STRANDLINE_DATABASE_URL.

FROM rust:1.95-slim-trixie AS build
# librdkafka is compiled from the crate's source, with make, g++ and perl; it links OpenSSL and zlib.
# Versions are the release's: a pinned one is gone from the mirrors with the next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libssl-dev make perl pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# .dockerignore lets in only what the build reads.
COPY . .
# .git is not in the context, so the commit has to be told.
ARG STRANDLINE_COMMIT=""
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    STRANDLINE_COMMIT="$STRANDLINE_COMMIT" cargo build --locked --release --bin strandline \
    && install -D -m 0755 target/release/strandline /out/strandline

FROM debian:trixie-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libssl3t64 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 65532 -g 65532 -m 0750 /var/lib/strandline
COPY --from=build /out/strandline /usr/local/bin/strandline
# By number: Kubernetes can tell that it is not root, without a look into the image.
USER 65532:65532
WORKDIR /var/lib/strandline
# All addresses of the container. Before the first token, Strandline refuses that unless
# STRANDLINE_ALLOW_ANONYMOUS=true: whoever sets it sees to who can reach the container.
ENV STRANDLINE_LISTEN=0.0.0.0:8080 \
    STRANDLINE_DATA_DIR=/var/lib/strandline
EXPOSE 8080
# Without a shell. Kubernetes has its own probes and does not look at this.
HEALTHCHECK --interval=10s --timeout=12s --start-period=60s --retries=3 CMD ["strandline", "health"]
# SIGTERM, which `docker stop` sends, drains within 25 seconds: give it 30.
ENTRYPOINT ["strandline"]
CMD ["serve"]
