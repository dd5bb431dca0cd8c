package pebblelog

import (
	"bytes"
	"encoding/binary"
	"errors"
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

// readUpTo returns where a reader would stop: at the first chunk that is not valid,
// or at the end of data, which begins with a block.
func readUpTo(data []byte, logNum uint32) int {
	for at := 0; ; {
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
		return at
	}
}

// damaged returns where the first chunk is that a reader would stop at although it
// must have been whole once: proof says so of a later valid chunk.
func damaged(data []byte, logNum uint32, proof func(c chunk, stop int) bool) (stop int, found bool) {
	at := readUpTo(data, logNum)
	number := binary.LittleEndian.AppendUint32(nil, logNum)
	for i := at + 1; i+legacyHeader <= len(data); i++ {
		// Cheap reasons first: nearly every byte is none of a header. Behind the end
		// of a WAL that reuses a file there may be tens of megabytes of an older one.
		if logNum != 0 {
			n := bytes.Index(data[i+legacyHeader:], number)
			if n < 0 {
				break
			}
			i += n
		}
		if kind := data[i+6]; kind == 0 || kind > 12 || (kind > 4) != (logNum != 0) {
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

// checkBytes is how much of a file is read at a time: most files have no chunk that
// is not valid, and there may be hundreds of megabytes of them, since Pebble keeps
// WALs to use their files again.
const checkBytes = 32 * chunkBlock

// checkFiles looks for damage in the WALs and in the manifest in use.
func checkFiles(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	manifest, newest := "", uint64(0)
	buf := make([]byte, checkBytes)
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
		logNum := uint32(num & math.MaxUint32)
		if err := checkFile(fs, dir, name, logNum, buf, func(b []byte) (int, bool) { return walDamaged(b, logNum) }); err != nil {
			return err
		}
	}
	if manifest == "" {
		return nil
	}
	return checkFile(fs, dir, manifest, 0, buf, manifestDamaged)
}

// checkFile reads a file by way of buf, which holds whole blocks, and lets check
// look at all of it if a reader would stop before its end.
func checkFile(fs vfs.FS, dir, name string, logNum uint32, buf []byte, check func([]byte) (int, bool)) error {
	f, err := fs.Open(fs.PathJoin(dir, name))
	if oserror.IsNotExist(err) {
		return nil // Pebble says so better
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	whole, err := readsToEnd(f, logNum, buf)
	var all []byte
	if err == nil && !whole {
		all, err = wholeFile(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	if whole {
		return nil
	}
	if at, bad := check(all); bad {
		return fmt.Errorf("%w: file %s is damaged at byte %d, and what follows shows that it was whole", wal.ErrCorrupt, fs.PathJoin(dir, name), at)
	}
	return nil
}

// readsToEnd reports whether every chunk of f is valid.
func readsToEnd(f io.Reader, logNum uint32, buf []byte) (bool, error) {
	for {
		n, err := io.ReadFull(f, buf)
		if readUpTo(buf[:n], logNum) < n {
			return false, nil
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// wholeFile returns all of f, wherever it was read to.
func wholeFile(f vfs.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, nil
}
