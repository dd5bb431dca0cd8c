package pebblelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

// The file ENDS stands beside Pebble's files and holds the durable end of every
// partition as of some moment. Pebble takes the first damaged record at the end of
// its last WAL for a torn write, which it often is; ENDS is how the log knows
// better. It is replaced as a whole (write, sync, rename, sync the directory), at
// most every housekeeping interval and at Close, and never runs ahead of what is
// synced.
const (
	endsFile  = "ENDS"
	endsMagic = "HWENDS01"
)

type endsState struct {
	mu    sync.Mutex // one writer at a time
	dirty atomic.Bool
}

// partitionEndsByTopic maps a topic's id to the ends of its partitions.
type partitionEndsByTopic map[uint32][]wal.Offset

func encodeEnds(ends partitionEndsByTopic) []byte {
	b := []byte(endsMagic)
	b = binary.BigEndian.AppendUint32(b, uint32(len(ends)))
	for id, offsets := range ends {
		b = binary.BigEndian.AppendUint32(b, id)
		b = binary.BigEndian.AppendUint32(b, uint32(len(offsets)))
		for _, o := range offsets {
			b = binary.BigEndian.AppendUint64(b, uint64(o))
		}
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeEnds(b []byte) (partitionEndsByTopic, error) {
	n := len(b) - 4
	if n < len(endsMagic)+4 || string(b[:len(endsMagic)]) != endsMagic ||
		binary.BigEndian.Uint32(b[n:]) != crc32.Checksum(b[:n], castagnoli) {
		return nil, errFrame
	}
	rest := b[len(endsMagic):n]
	u32 := func() (v uint32) {
		if len(rest) < 4 {
			rest = nil
			return 0
		}
		v, rest = binary.BigEndian.Uint32(rest), rest[4:]
		return v
	}
	ends := partitionEndsByTopic{}
	for topics := u32(); topics > 0; topics-- {
		id, count := u32(), u32()
		if count > maxPartitions || len(rest) < 8*int(count) {
			return nil, errors.New("impossible value")
		}
		offsets := make([]wal.Offset, count)
		for i := range offsets {
			offsets[i], rest = wal.Offset(binary.BigEndian.Uint64(rest)), rest[8:]
		}
		ends[id] = offsets
	}
	if len(rest) != 0 {
		return nil, errors.New("trailing bytes")
	}
	return ends, nil
}

// readEnds returns nil and no error when there is no file.
func readEnds(fs vfs.FS, dir string) (partitionEndsByTopic, error) {
	f, err := fs.Open(fs.PathJoin(dir, endsFile))
	if oserror.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", endsFile, err)
	}
	b, err := io.ReadAll(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", endsFile, err)
	}
	ends, err := decodeEnds(b)
	if err != nil {
		return nil, fmt.Errorf("%w: file %s: %w", wal.ErrCorrupt, fs.PathJoin(dir, endsFile), err)
	}
	return ends, nil
}

// writeEnds replaces the file.
func writeEnds(fs vfs.FS, dir string, ends partitionEndsByTopic) error {
	path := fs.PathJoin(dir, endsFile)
	err := func() error {
		f, err := fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		if _, err := f.Write(encodeEnds(ends)); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Sync(); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := fs.Rename(path+".tmp", path); err != nil {
			return err
		}
		d, err := fs.OpenDir(dir)
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	}()
	if err != nil {
		return fmt.Errorf("write %s: %w", endsFile, err)
	}
	return nil
}

// saveEnds writes the durable ends if they moved.
func (b *Broker) saveEnds() error {
	b.ends.mu.Lock()
	defer b.ends.mu.Unlock()
	if !b.ends.dirty.Swap(false) {
		return nil
	}
	ends := partitionEndsByTopic{}
	b.mu.Lock()
	for _, t := range b.topics {
		offsets := make([]wal.Offset, len(t.parts))
		for i, ps := range t.parts {
			offsets[i] = ps.durableEnd()
		}
		ends[t.id] = offsets
	}
	b.mu.Unlock()
	return writeEnds(b.cfg.FS, b.cfg.Dir, ends)
}

// checkEnds compares what the last run knew to be durable with what is there.
func (b *Broker) checkEnds(known partitionEndsByTopic) error {
	for _, t := range b.topics {
		for i, want := range known[t.id] {
			if i >= len(t.parts) {
				return &wal.CorruptError{Topic: t.info.Name, Offset: wal.NoOffset, Detail: "fewer partitions than " + endsFile + " knows"}
			}
			if end := t.parts[i].durableEnd(); end < want {
				return t.parts[i].corruptf(end, "the log ends here, but records up to %d were durable", want-1)
			}
		}
		delete(known, t.id)
	}
	for id := range known {
		return &wal.CorruptError{Topic: fmt.Sprintf("number %d", id), Offset: wal.NoOffset, Detail: "the topic is missing from the registry"}
	}
	return nil
}
