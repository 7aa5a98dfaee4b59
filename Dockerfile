# The production image: the broker without the emulator, as a user who is a number, on a small Debian.
#
# Nothing secret is built in: settings come as a file and environment, secrets as files (see config/default.toml).
# Build it with `make image`. It listens on loopback until settings say otherwise, as the chart's do.

# The version of rust-toolchain.toml, which is not copied: it names components that only developers need.
ARG RUST_VERSION=1.95.0
FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
# Not needed for the binary, but Cargo.toml names its examples there.
COPY bench/load bench/load
COPY config config
COPY proto proto
COPY src src
# The caches stay on the building machine and are no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --profile dist --no-default-features --bin acs-broker \
    && cp target/dist/acs-broker /acs-broker

FROM debian:bookworm-slim
# The authorities that ACS and a Redis over TLS are checked against.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /acs-broker /usr/local/bin/acs-broker
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/acs-broker/
# A number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
WORKDIR /
EXPOSE 50051 8081
# For plain docker; Kubernetes has probes of its own.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["acs-broker", "healthcheck"]
ENTRYPOINT ["acs-broker"]
CMD ["serve"]
