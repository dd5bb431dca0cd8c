package kv

import (
	"errors"
)

var (
	// ErrClosed: the store or DB was used after Close.
	ErrClosed = errors.New("kv: closed")
	// ErrNoChunk: an upload has no such chunk.
	ErrNoChunk = errors.New("kv: no such chunk")
)
