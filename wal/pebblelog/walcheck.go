package pebblelog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
)

// Pebble reads its WAL up to the first chunk that is not valid. That is right for a
// torn write and wrong for damage, and Pebble tells the two apart only in part: by
// the synced offset that chunks carry, which in v2.1.7 does not count full blocks
// and so lags far behind after large commits; not within the 32 KiB around the
// damage; and not for a damaged log number. This file looks for proof of damage
// before Pebble opens: something valid behind the invalid chunk that could only
// have been written once that chunk was synced. pebblefail does so for the manifest.
// See DESIGN.md for what is left.

// readUpTo returns where a reader would stop: at the first chunk that is not valid,
// or at the end of data, which begins with a block.
func readUpTo(data []byte, logNum uint32) int {
	for at := 0; ; {
		c, ok := pebblefail.ParseChunk(data, at)
		if ok && c.LogNum == logNum {
			at = c.End
			continue
		}
		rest := pebblefail.ChunkBlock - at%pebblefail.ChunkBlock
		if at+rest <= len(data) && rest < pebblefail.WALChunkHeader && allZero(data[at:at+rest]) {
			at += rest // padding
			continue
		}
		return at
	}
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

// walDamaged returns where the first chunk is that a reader would stop at although
// it must have been whole once: a later chunk says that its bytes were synced when
// it was written, or so many commits stand behind it that they must have been.
func walDamaged(data []byte, logNum uint32) (stop int, found bool) {
	at, commits := readUpTo(data, logNum), 0
	number := binary.LittleEndian.AppendUint32(nil, logNum)
	for i := at + 1; i+pebblefail.ChunkHeader <= len(data); i++ {
		// Nearly every byte is none of a header. Behind the end of a WAL that reuses a
		// file there may be tens of megabytes of an older one.
		n := bytes.Index(data[i+pebblefail.ChunkHeader:], number)
		if n < 0 {
			break
		}
		i += n
		c, ok := pebblefail.ParseChunk(data, i)
		if !ok || !c.WAL {
			continue
		}
		if c.First {
			commits++
		}
		if c.Synced > uint64(at) || commits >= maxUnsynced {
			return at, true
		}
		i = c.End - 1
	}
	return 0, false
}

var walName = regexp.MustCompile(`^([0-9]{6,})(-[0-9]{3})?\.log$`)

// checkBytes is how much of a file is read at a time: most files have no chunk that
// is not valid, and there may be hundreds of megabytes of them, since Pebble keeps
// WALs to use their files again.
const checkBytes = 32 * pebblefail.ChunkBlock

// checkWALs looks for damage in the WALs.
func checkWALs(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	buf := make([]byte, checkBytes)
	for _, name := range names {
		m := walName.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		num, err := strconv.ParseUint(m[1], 10, 64)
		if err != nil {
			continue // not a name that Pebble makes
		}
		if err := checkWAL(fs, fs.PathJoin(dir, name), uint32(num&math.MaxUint32), buf); err != nil {
			return err
		}
	}
	return nil
}

// checkWAL reads a file by way of buf, which holds whole blocks, and looks at all
// of it if a reader would stop before its end.
func checkWAL(fs vfs.FS, name string, logNum uint32, buf []byte) error {
	f, err := fs.Open(name)
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
	if at, bad := walDamaged(all, logNum); bad {
		return fmt.Errorf("%w: file %s is damaged at byte %d, and what follows shows that it was whole", wal.ErrCorrupt, name, at)
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
