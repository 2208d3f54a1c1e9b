# Millrace in a container: one static binary, dashboard inside, run by nobody in particular.

FROM node:22-bookworm-slim AS dashboard
WORKDIR /src/dashboard
COPY dashboard/package.json dashboard/package-lock.json dashboard/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY dashboard/ ./
RUN npm run build

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=dashboard /src/dashboard/dist/ dashboard/dist/
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /millrace ./cmd/millrace

FROM debian:bookworm-slim
# curl asks /readyz for the health check.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o 65532 -g 65532 -m 0700 /data
COPY --from=build /millrace /usr/local/bin/millrace
USER 65532:65532
ENV MILLRACE_DATA=/data MILLRACE_LOG_FORMAT=json
EXPOSE 1883 8080
ENTRYPOINT ["millrace"]
CMD ["--help"]
