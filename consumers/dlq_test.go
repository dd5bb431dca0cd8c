package consumers_test

import (
	"bytes"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

func all(*consumers.DeadLetter) bool { return true }

func TestDeadLettersAreKeptAndFolded(t *testing.T) {
	t.Parallel()
	log := newLog(t, 1)
	counted := map[string]int{}
	d, err := consumers.OpenDeadLetters(t.Context(), log, func(r string) { counted[r]++ })
	if err != nil {
		t.Fatal(err)
	}
	poison := consumers.DeadLetter{Ref: wal.Ref{Partition: 1, Offset: 7, Index: wal.WholeRecord}, Key: []byte("k"), Reason: "poison", Disposition: consumers.Parked, Attempts: 1, At: 7, Record: []byte("bytes")}
	refused := consumers.DeadLetter{Ref: wal.Ref{Offset: 9}, Reason: "too_old", Disposition: consumers.Refused, Attempts: 1, At: 9}
	again := poison
	again.Record, again.Disposition, again.Attempts, again.At = nil, consumers.Redriven, 2, 12
	for _, batch := range [][]consumers.DeadLetter{{poison, refused}, {poison}, {again}} {
		if err := d.Put(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	check := func(d *consumers.DeadLetterLog) {
		t.Helper()
		got := d.List(all)
		if len(got) != 2 || got[0].Disposition != consumers.Redriven || got[0].Attempts != 2 || got[1].Reason != "too_old" {
			t.Errorf("got %+v", got)
		}
		if b, err := d.Record(t.Context(), poison.Ref); err != nil || !bytes.Equal(b, []byte("bytes")) {
			t.Errorf("record: %q, %v", b, err)
		}
	}
	check(d)
	if counted["poison"] != 1 || counted["too_old"] != 1 {
		t.Errorf("counted %v", counted)
	}
	if b, err := log.Bounds(t.Context(), 0); err != nil || b.End != 2 {
		t.Errorf("%d entries, %v: a letter in the same state is not written again", b.End, err)
	}
	reopened, err := consumers.OpenDeadLetters(t.Context(), log, nil)
	if err != nil {
		t.Fatal(err)
	}
	check(reopened)
}

func TestRefIsItsId(t *testing.T) {
	t.Parallel()
	for _, r := range []wal.Ref{{}, {Partition: 3, Offset: 12, Index: 4}, {Partition: 1, Offset: 2, Index: wal.WholeRecord}} {
		if back, err := wal.ParseRef(r.String()); err != nil || back != r {
			t.Errorf("%v reads back as %v, %v", r, back, err)
		}
	}
	for _, bad := range []string{"", "1", "1-2-3-4", "a-1-1", "1--1-0", "1-1-x"} {
		if _, err := wal.ParseRef(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
