#!/bin/sh
# Regenerates the Go code of api/headwater/v1 from its .proto files.
# Needs Go and the Go module proxy; every tool is pinned here and built into
# .tools, which is thrown away afterwards unless HEADWATER_TOOLS names a place.
set -eu
cd "$(dirname "$0")"
tools=${HEADWATER_TOOLS:-}
if [ -z "$tools" ]; then
	tools=$(mktemp -d)
	trap 'rm -rf "$tools"' EXIT
fi
export GOBIN="$tools"
go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
go install github.com/bufbuild/buf/cmd/buf@v1.68.0
PATH="$tools:$PATH"
buf lint
buf generate
