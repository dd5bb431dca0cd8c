package consumers

import (
	"errors"
	"reflect"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// FuzzLetters folds any bytes as an entry of the topic: what is read is written
// and read again as the same, and what is refused is malformed.
func FuzzLetters(f *testing.F) {
	l := DeadLetter{
		Ref: wal.Ref{Partition: 3, Offset: 1 << 40, Index: 2}, Key: []byte("key"), Reason: "poison", Disposition: Dropped, Detail: "detail",
		Attempts: 2, LogTime: 1 << 50, At: 1<<40 + 9, Target: "target", Record: []byte("record"), By: "me",
	}
	f.Add(appendLetter(nil, &l))
	f.Add(appendLetter(appendLetter(nil, &DeadLetter{Ref: wal.Ref{Index: wal.WholeRecord}, Disposition: Refused}), &l))
	t := tally{lanes: map[lane]place{{3, "target"}: {7, wal.Ref{Partition: 3, Offset: 5, Index: wal.WholeRecord}}, {}: {}}, reset: true, start: 4}
	t.total, t.left = letterCount{5, 600}, letterCount{4, 500}
	f.Add(appendTally(nil, &t))
	f.Add(appendNumber(appendLetter(nil, &l), fieldBehind, 77))
	f.Fuzz(func(t *testing.T, b []byte) {
		fold := func(b []byte) (letters []DeadLetter, x tally, err error) {
			x = (&tally{}).clone()
			err = x.fold(&letterEntry{0, b}, func(l *DeadLetter, _ int, _ bool) bool {
				letters = append(letters, *l)
				return true
			})
			return letters, x, err
		}
		letters, x, err := fold(b)
		if err != nil {
			if !errors.Is(err, wal.ErrMalformed) {
				t.Errorf("%x: %v", b, err)
			}
			return
		}
		var out []byte
		for i := range letters {
			out = appendLetter(out, &letters[i])
		}
		if again, _, err := fold(out); err != nil || !reflect.DeepEqual(letters, again) {
			t.Errorf("%x: %+v, encoded again %+v %v", b, letters, again, err)
		}
		again, err := decodeTally(appendTally(nil, &x)[2:])
		if again.offset = x.offset; len(appendTally(nil, &x)) < 128 && (err != nil || !reflect.DeepEqual(x, again)) {
			t.Errorf("%x: %+v, encoded again %+v %v", b, x, again, err)
		}
	})
}
