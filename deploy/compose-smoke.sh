#!/usr/bin/env bash
# Brings the containers up, signs a terminal on, buys, and takes everything down again. Needs a Docker daemon that can pull or build the images.
set -euo pipefail
cd "$(dirname "$0")/.."
compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
trap 'compose logs --tail 30 || true; compose down --volumes' EXIT
compose up --build --detach
for _ in $(seq 1 90); do
	if curl -fsS http://127.0.0.1:8080/v1/terminals/10000001 >/dev/null 2>&1 && curl -fsS http://127.0.0.1:8082/readyz >/dev/null 2>&1; then break; fi
	sleep 2 # the containers have no common signal for "filled and ready"
done
go run ./sim/pos/cmd/pos signon --terminal 10000001
go run ./sim/pos/cmd/pos purchase --terminal 10000001 --amount 12.34
echo "containers: signed on and bought"
