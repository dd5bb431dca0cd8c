package wal_test

import (
	"slices"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

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

func TestRefsAreInTheOrderOfTheLog(t *testing.T) {
	t.Parallel()
	refs := []wal.Ref{{Offset: 1}, {Offset: 1, Index: 7}, {Offset: 1, Index: wal.WholeRecord}, {Offset: 2}, {Partition: 1}}
	if !slices.IsSortedFunc(refs, wal.Ref.Compare) || refs[0].Compare(refs[0]) != 0 || refs[1].Compare(refs[0]) <= 0 {
		t.Error("refs are not in order")
	}
}
