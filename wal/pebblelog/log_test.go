package pebblelog

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestRecordsComeBackAfterReopen(t *testing.T) {
	fs := vfs.NewMem()
	b := mustOpen(t, small(fs))
	l := mustCreate(t, b, "headwater.test.a.1", 2)
	mustAppend(t, l, 0, "a", "b")
	mustAppend(t, l, 1, "c")
	mustAppend(t, l, 0, "d")
	closeBroker(t, b)

	b = mustOpen(t, small(fs))
	defer closeBroker(t, b)
	l, err := b.Open(t.Context(), "headwater.test.a.1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t.Context(), l, 0)
	if err != nil || !slices.Equal(got, []string{"a", "b", "d"}) {
		t.Fatalf("partition 0: %q, %v", got, err)
	}
	mustAppend(t, l, 1, "e")
	got, err = readAll(t.Context(), l, 1)
	if err != nil || !slices.Equal(got, []string{"c", "e"}) {
		t.Fatalf("partition 1: %q, %v", got, err)
	}
}
