package pebblestore

import (
	"errors"
	"reflect"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// FuzzRows decodes any bytes as each row that this package writes: what is read is
// written and read again as the same, and what is refused is damage.
func FuzzRows(f *testing.F) {
	f.Add(appendState(nil, &consumers.State{Applied: wal.NoOffset, LogTime: -1, MaxTime: 1 << 60, Follows: true}))
	f.Add(appendState(nil, &consumers.State{Applied: 1 << 40, FirstException: 7}))
	f.Add(appendParked(nil, []byte("key"), &consumers.ParkedHead{Attempts: 3, Reason: "poison", At: 1 << 40, LogTime: 1 << 60}))
	f.Add([]byte{valueVersion, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, v []byte) {
		if st, rest, err := decodeState(v); err == nil {
			again, rest2, err := decodeState(append(appendState(nil, &st), rest...))
			if err != nil || again != st || len(rest) != len(rest2) {
				t.Errorf("state %x: %+v, encoded again %+v %v", v, st, again, err)
			}
		} else if !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("state %x: %v", v, err)
		}
		if q, err := decodeParked(v); err == nil {
			again, err := decodeParked(appendParked(nil, q.Key, &q.ParkedHead))
			if err != nil || !reflect.DeepEqual(again, q) {
				t.Errorf("parked %x: %+v, encoded again %+v %v", v, q, again, err)
			}
		} else if !errors.Is(err, wal.ErrCorrupt) {
			t.Errorf("parked %x: %v", v, err)
		}
	})
}
