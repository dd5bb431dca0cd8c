package pebblelog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"regexp"
	"strconv"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

// Pebble reads its WAL and its manifest up to the first chunk that is not valid.
// That is right for a torn write and wrong for damage, and Pebble tells the two
// apart only in part: by the synced offset that chunks carry, which in v2.1.7 does
// not count full blocks and so lags far behind after large commits; not within the
// 32 KiB around the damage; not for a damaged log number; and not in a manifest.
// This file looks for proof of damage before Pebble opens: something valid behind
// the invalid chunk that could only have been written once that chunk was synced.
// See DESIGN.md for what is left.
//
// The chunk format is that of pebble/record: blocks of 32 KiB; a chunk is
// crc (4) | length (2) | type (1) | log number (4) | synced offset (8) | payload,
// without the last two fields for types 1 to 4 and without the last for 5 to 8.

const (
	chunkBlock = 32 << 10

	legacyHeader     = 7
	recyclableHeader = legacyHeader + 4
	walSyncHeader    = recyclableHeader + 8
)

type chunk struct {
	start, end int    // in the file
	first      bool   // it begins a record
	logNum     uint32 // 0 in a manifest
	synced     uint64 // what was durable when it was written
}

// parseChunk reads the chunk at data[at:], which must not cross its block. Valid
// means that its checksum holds.
func parseChunk(data []byte, at int) (chunk, bool) {
	limit := min(len(data), at-at%chunkBlock+chunkBlock)
	if at+legacyHeader > limit {
		return chunk{}, false
	}
	b := data[at:limit]
	kind := b[6]
	header := legacyHeader
	switch {
	case kind == 0 || kind > 12:
		return chunk{}, false
	case kind > 8:
		header = walSyncHeader
	case kind > 4:
		header = recyclableHeader
	}
	n := header + int(binary.LittleEndian.Uint16(b[4:]))
	if n > len(b) {
		return chunk{}, false
	}
	c := crc32.Checksum(b[6:n], castagnoli)
	if binary.LittleEndian.Uint32(b) != (c>>15|c<<17)+0xa282ead8 {
		return chunk{}, false
	}
	out := chunk{start: at, end: at + n, first: kind%4 == 1 || kind%4 == 2}
	if header >= recyclableHeader {
		out.logNum = binary.LittleEndian.Uint32(b[7:])
	}
	if header == walSyncHeader {
		out.synced = binary.LittleEndian.Uint64(b[11:])
	}
	return out, true
}

// damaged returns where the first chunk is that a reader would stop at although it
// must have been whole once: proof says so of a later valid chunk.
func damaged(data []byte, logNum uint32, proof func(c chunk, stop int) bool) (stop int, found bool) {
	at := 0
	for {
		c, ok := parseChunk(data, at)
		if ok && c.logNum == logNum {
			at = c.end
			continue
		}
		rest := chunkBlock - at%chunkBlock
		if at+rest <= len(data) && rest < walSyncHeader && allZero(data[at:at+rest]) {
			at += rest // padding
			continue
		}
		break
	}
	if at >= len(data) {
		return 0, false
	}
	for i := at + 1; i+legacyHeader <= len(data); i++ {
		// Cheap reasons first: nearly every byte is none of a header.
		if kind := data[i+6]; kind == 0 || kind > 12 || (kind > 4) != (logNum != 0) {
			continue
		}
		if logNum != 0 && (i+recyclableHeader > len(data) || binary.LittleEndian.Uint32(data[i+7:]) != logNum) {
			continue
		}
		if c, ok := parseChunk(data, i); ok {
			if proof(c, at) {
				return at, true
			}
			i = c.end - 1
		}
	}
	return 0, false
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// maxUnsynced bounds how many of our commits can be in a WAL and not synced: the
// groups that wait for the finisher, the one it waits for, the one just written,
// and one commit of syncWrite, which lets one in at a time. A sync covers all that
// was written before it, so the unsynced commits are the last ones.
const maxUnsynced = inFlightGroups + 3

// walDamaged: a chunk that says that the bytes at stop were synced when it was
// written, or so many commits behind them that they must have been.
func walDamaged(data []byte, logNum uint32) (int, bool) {
	commits := 0
	return damaged(data, logNum, func(c chunk, stop int) bool {
		if c.first {
			commits++
		}
		return c.synced > uint64(stop) || commits >= maxUnsynced
	})
}

// manifestDamaged: a chunk that begins a record. Pebble syncs each record of the
// manifest before it writes the next.
func manifestDamaged(data []byte) (int, bool) {
	return damaged(data, 0, func(c chunk, _ int) bool { return c.first })
}

var (
	walName      = regexp.MustCompile(`^([0-9]{6,})(-[0-9]{3})?\.log$`)
	manifestMark = regexp.MustCompile(`^marker\.manifest\.([0-9]+)\.(MANIFEST-[0-9]{6,})$`)
)

// checkFiles looks for damage in the WALs and in the manifest in use.
func checkFiles(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	manifest, newest := "", uint64(0)
	for _, name := range names {
		if m := manifestMark.FindStringSubmatch(name); m != nil {
			if n, err := strconv.ParseUint(m[1], 10, 64); err == nil && n >= newest {
				manifest, newest = m[2], n
			}
		}
		m := walName.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		num, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			continue // not a name that Pebble makes
		}
		if err := checkFile(fs, dir, name, func(b []byte) (int, bool) { return walDamaged(b, uint32(num&math.MaxUint32)) }); err != nil {
			return err
		}
	}
	if manifest == "" {
		return nil
	}
	return checkFile(fs, dir, manifest, manifestDamaged)
}

func checkFile(fs vfs.FS, dir, name string, check func([]byte) (int, bool)) error {
	f, err := fs.Open(fs.PathJoin(dir, name))
	if oserror.IsNotExist(err) {
		return nil // Pebble says so better
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	b, err := io.ReadAll(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	if at, bad := check(b); bad {
		return fmt.Errorf("%w: file %s is damaged at byte %d, and what follows shows that it was whole", wal.ErrCorrupt, fs.PathJoin(dir, name), at)
	}
	return nil
}
