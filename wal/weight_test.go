package wal_test

import (
	"errors"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// TestARecordWeighsWhatItsMutationsDo: it is mutations that a store has to apply,
// and one record may hold thousands.
func TestARecordWeighsWhatItsMutationsDo(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{MaxUnapplied: 20_000})
	put := func(p wal.Partition, weight int) error {
		as := []wal.Appending{{Partition: p, Record: message(), Weight: weight}}
		s.AppendAll(t.Context(), as)
		return as[0].Err
	}
	for i := range 2 {
		if err := put(0, 10_000); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	if err := put(0, 1); !errors.Is(err, wal.ErrUnapplied) {
		t.Fatalf("two records of 10,000: %v, want ErrUnapplied", err)
	}
	if err := put(1, 30_000); err != nil {
		t.Errorf("more than all at once, where nothing waits: %v", err)
	}
	s.Progress().Advance(0, 0, 1)
	if err := put(0, 1); err != nil {
		t.Errorf("after the first is applied: %v", err)
	}
	s.Progress().Advance(0, 2, 1)
	s.Progress().Advance(1, 0, 1)
	for p := range wal.Partition(2) {
		for range 100 {
			if err := put(p, 0); err != nil {
				t.Fatalf("partition %d, after all was applied: %v", p, err)
			}
		}
	}
}
