# All programs of Keyward in one small image. The entry point is the program that the command names: posp, posv, issuer, keyward, pos.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /out/ ./cmd/... ./sim/pos/cmd/pos

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin keyward \
 && install -d -o keyward -g keyward -m 0700 /keyward /var/lib/keyward
COPY --from=build /out/ /usr/local/bin/
COPY deploy/config/*.yaml /etc/keyward/
USER 10001:10001
# Secrets and certificates (shared by "keyward init"), and what a service keeps on disk.
VOLUME ["/keyward", "/var/lib/keyward"]
CMD ["posp", "--help"]
