package pebblefail

import (
	"encoding/binary"
	"hash/crc32"
)

// Pebble writes its write-ahead logs and its manifests in the chunks of
// pebble/record: blocks of 32 KiB; a chunk is crc (4) | length (2) | type (1) | log
// number (4) | synced offset (8) | payload, without the last two fields for types 1
// to 4, which manifests have, and without the last for 5 to 8. No chunk crosses a
// block.
const (
	ChunkBlock = 32 << 10
	// The least and the largest header.
	ChunkHeader    = 7
	WALChunkHeader = ChunkHeader + 4 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Chunk is a chunk whose checksum holds.
type Chunk struct {
	End         int    // where it ends in the file
	First, Last bool   // it begins a record, it ends one
	WAL         bool   // it is of a write-ahead log, and has a number
	LogNum      uint32 // of the log
	Synced      uint64 // up to where the log was durable when it was written; 0 if it does not say
}

// ParseChunk reads the chunk at data[at:], data beginning with a block.
func ParseChunk(data []byte, at int) (Chunk, bool) {
	limit := min(len(data), at-at%ChunkBlock+ChunkBlock)
	if at+ChunkHeader > limit {
		return Chunk{}, false
	}
	b := data[at:limit]
	kind := b[6]
	header := ChunkHeader
	switch {
	case kind == 0 || kind > 12:
		return Chunk{}, false
	case kind > 8:
		header = WALChunkHeader
	case kind > 4:
		header = ChunkHeader + 4
	}
	n := header + int(binary.LittleEndian.Uint16(b[4:]))
	if n > len(b) {
		return Chunk{}, false
	}
	c := crc32.Checksum(b[6:n], castagnoli)
	if binary.LittleEndian.Uint32(b) != (c>>15|c<<17)+0xa282ead8 {
		return Chunk{}, false
	}
	// Of each four types: a whole record, its first, middle and last chunk.
	out := Chunk{End: at + n, First: kind%4 == 1 || kind%4 == 2, Last: kind%4 == 1 || kind%4 == 0, WAL: kind > 4}
	if kind > 4 {
		out.LogNum = binary.LittleEndian.Uint32(b[7:])
	}
	if kind > 8 {
		out.Synced = binary.LittleEndian.Uint64(b[11:])
	}
	return out, true
}
