package pebblecompact_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal/pebblecompact"
)

// indebted makes a Pebble with files that are due for compaction, and with
// something in its write-ahead log that Open flushes.
func indebted(t *testing.T) *vfs.MemFS {
	fs := vfs.NewMem()
	db, err := pebble.Open("db", &pebble.Options{FS: fs, FormatMajorVersion: pebble.FormatNewest, DisableAutomaticCompactions: true})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		for k := range 100 {
			if err := db.Set(fmt.Appendf(nil, "key %d", k), fmt.Appendf(nil, "value %d", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		if i < 7 {
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// open opens it with settings under which it is due. began is told of every
// compaction that begins.
func open(t *testing.T, fs vfs.FS, s pebble.CompactionScheduler) (db *pebble.DB, began chan string) {
	began = make(chan string, 100)
	o := &pebble.Options{
		FS: fs, FormatMajorVersion: pebble.FormatNewest, L0CompactionThreshold: 2,
		EventListener: &pebble.EventListener{CompactionBegin: func(i pebble.CompactionInfo) { began <- i.String() }},
	}
	o.Experimental.CompactionScheduler = s
	db, err := pebble.Open("db", o)
	if err != nil {
		t.Fatal(err)
	}
	return db, began
}

// TestPebbleCompactsWhileItOpens is why this package exists. Should Pebble stop,
// it can go.
func TestPebbleCompactsWhileItOpens(t *testing.T) {
	t.Parallel()
	db, began := open(t, indebted(t), nil)
	if len(began) == 0 {
		t.Error("no compaction began before Open returned")
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestNothingIsCompactedBeforeBegin(t *testing.T) {
	t.Parallel()
	s := pebblecompact.New()
	db, began := open(t, indebted(t), s)
	if err := db.Set([]byte("key 1"), []byte("new"), pebble.Sync); err != nil {
		t.Error(err)
	}
	if err := db.Flush(); err != nil { // asks again
		t.Error(err)
	}
	if len(began) > 0 {
		t.Errorf("before Begin: %s", <-began)
	}
	s.Begin()
	<-began // the one that it asked for while it opened
	v, c, err := db.Get([]byte("key 1"))
	if err != nil || string(v) != "new" {
		t.Fatalf("read %q, %v", v, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	// One by hand, beside and after the others, comes to its end too.
	if err := db.Compact(t.Context(), []byte("a"), []byte("z"), false); err != nil {
		t.Error(err)
	}
	if m := db.Metrics(); m.Levels[0].TablesCount != 0 {
		t.Errorf("%d files are left in level 0", m.Levels[0].TablesCount)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseBeforeBegin(t *testing.T) {
	t.Parallel()
	db, began := open(t, indebted(t), pebblecompact.New())
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if len(began) > 0 {
		t.Errorf("without Begin: %s", <-began)
	}
}

// TestWritesWithCompactionsUnderWay writes until files of level 0 have had to go
// again and again, and closes in the middle.
func TestWritesWithCompactionsUnderWay(t *testing.T) {
	t.Parallel()
	s := pebblecompact.New()
	db, began := open(t, vfs.NewMem(), s)
	s.Begin()
	for i := range 60 {
		for k := range 50 {
			if err := db.Set(fmt.Appendf(nil, "key %d", k), fmt.Appendf(nil, "value %d", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		// L0StopWritesThreshold (12) is waited for by Pebble: without grants it
		// would be for ever.
	}
	if len(began) == 0 {
		t.Error("nothing was compacted")
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
