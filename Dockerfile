# docker build -t pgweir .
# docker run -p 6432:6432 -v "$PWD/pgweir.toml:/etc/pgweir/pgweir.toml:ro" pgweir
#
# In a container listen_addr has to be "*", and metrics_listen "0.0.0.0:9127" when it is asked for from outside.

FROM rust:1-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
RUN cargo build --release --locked --bin pgweir

FROM debian:bookworm-slim
RUN useradd --system --no-create-home --shell /usr/sbin/nologin pgweir && install -d /etc/pgweir
COPY --from=build /src/target/release/pgweir /usr/local/bin/pgweir
USER pgweir
WORKDIR /etc/pgweir
EXPOSE 6432 9127
# Every transaction comes to its end; SIGTERM would wait until all clients have left by themselves.
STOPSIGNAL SIGINT
ENTRYPOINT ["pgweir"]
CMD ["/etc/pgweir/pgweir.toml"]
