package pebblelog

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

// FuzzFrame: a frame that reads back is the frame that was put, at its own place
// only.
func FuzzFrame(f *testing.F) {
	frame := func(seed uint32, o uint64, at int64, data []byte) []byte {
		b := make([]byte, frameHeader+len(data))
		putFrame(b, seed, binary.BigEndian.AppendUint64(nil, o), at, data)
		return b
	}
	f.Add(frame(1, 2, 3, []byte("data")), uint32(1), uint64(2))
	f.Add([]byte{}, uint32(0), uint64(0))
	f.Fuzz(func(t *testing.T, v []byte, seed uint32, o uint64) {
		at, data, err := readFrame(v, seed, binary.BigEndian.AppendUint64(nil, o))
		if err != nil {
			return
		}
		if !bytes.Equal(frame(seed, o, at, data), v) {
			t.Fatal("a frame that was not put reads back")
		}
		if _, _, err := readFrame(v, seed, binary.BigEndian.AppendUint64(nil, o+1)); err == nil {
			t.Fatal("the frame reads back at another offset")
		}
	})
}

// FuzzDecoders: what is read from disk at open never panics, and what is accepted
// means what it says.
func FuzzDecoders(f *testing.F) {
	f.Add(encodeTopic("name", 3, 4, wal.Incarnation{1}))
	f.Add(encodeFloor(7, 8, 9))
	f.Add(encodeEnds(partitionEndsByTopic{3: {1, 2}, 4: {}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, n, inc, err := decodeTopic("name", b); err == nil && !bytes.Equal(encodeTopic("name", id, n, inc), b) {
			t.Error("topic")
		}
		if floor, at, err := decodeFloor(7, b); err == nil && !bytes.Equal(encodeFloor(7, floor, at), b) {
			t.Error("floor")
		}
		if ends, err := decodeEnds(b); err == nil && len(encodeEnds(ends)) != len(b) {
			t.Error("ends")
		}
	})
}

// FuzzWALCheck: any bytes are looked at without a panic, and a real WAL is never
// called damaged, however it is cut.
func FuzzWALCheck(f *testing.F) {
	fs := vfs.NewMem()
	b := mustOpen(f, small(fs))
	l := mustCreate(f, b, "headwater.test.fuzz.1", 1)
	for i := range 300 {
		l.Append(f.Context(), wal.Sync, []wal.NewEntry{{Data: make([]byte, i*3)}})
	}
	closeBroker(f, b)
	img := logImage{files: map[string][]byte{}}
	img.take(f, fs)
	type file struct {
		data   []byte
		logNum uint32
	}
	var wals []file
	for name, data := range img.files {
		if m := walName.FindStringSubmatch(name); m != nil {
			wals = append(wals, file{data, uint32(atoi(m[1]))})
		}
	}
	if len(wals) == 0 {
		f.Fatal("no WAL")
	}
	f.Add([]byte{1, 2, 3}, 0, 0)
	f.Fuzz(func(t *testing.T, b []byte, which, cutAt int) {
		walDamaged(b, uint32(cutAt))
		w := wals[uint(which)%uint(len(wals))]
		cutWAL := w.data[:uint(cutAt)%uint(len(w.data)+1)]
		if at, bad := walDamaged(cutWAL, w.logNum); bad {
			t.Errorf("a WAL cut to %d bytes is called damaged at %d", len(cutWAL), at)
		}
	})
}

func atoi(s string) (n int) {
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}
