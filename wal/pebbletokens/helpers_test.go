package pebbletokens

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const second = int64(1) << minExp // about; a bucket of the smallest window

// store is the least that a store around a table is: the state of partition 0
// lies under one key.
type store struct {
	t   testing.TB
	db  *pebble.DB
	tab *Table
}

var stateKey = []byte("s")

func open(t testing.TB, fs vfs.FS, filterBytes int64) *store {
	t.Helper()
	s := load(t, fs, filterBytes, func(err error) { t.Error(err) })
	s.tab.Rebuild()
	return s
}

// load opens a store without reading entries back.
func load(t testing.TB, fs vfs.FS, filterBytes int64, onError func(error)) *store {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: fs, MemTableSize: 1 << 20, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	tab, err := New(Config{DB: db, Table: 't', Partitions: 2, Window: 8 * time.Second, FilterBytes: filterBytes, OnError: onError})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, db: db, tab: tab}
	if b := s.get(stateKey); b != nil {
		if rest, err := tab.Load(0, b); err != nil || len(rest) != 0 {
			t.Fatal(rest, err)
		}
	}
	return s
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, _ ...any) { panic(format) }

func (s *store) close() {
	s.t.Helper()
	s.tab.Close()
	if err := s.db.Close(); err != nil {
		s.t.Error(err)
	}
}

func (s *store) get(key []byte) []byte {
	s.t.Helper()
	v, c, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	b := append([]byte{}, v...)
	if err := c.Close(); err != nil {
		s.t.Fatal(err)
	}
	return b
}

// identity is spread over the key space, as identities are.
func identity(i int) (n wal.TokenID) {
	binary.BigEndian.PutUint64(n[:], uint64(i+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(n[8:], uint64(i))
	return n
}

func add(t testing.TB, c *Change, w *pebble.Batch, i int, logTime int64, value string) {
	t.Helper()
	n := identity(i)
	op := c.Add(w, &n, logTime, len(value))
	copy(op.Value, value)
	if err := op.Finish(); err != nil {
		t.Fatal(err)
	}
}

// commit applies what fill puts into a batch, with the state.
func (s *store) commit(fill func(c *Change, w *pebble.Batch)) {
	s.t.Helper()
	c, w := s.tab.NewChange(0), s.db.NewBatch()
	fill(c, w)
	s.apply(c, w)
}

func (s *store) saveState(c *Change, w *pebble.Batch) {
	s.t.Helper()
	state, err := c.AppendState(nil)
	if err == nil {
		err = w.Set(stateKey, state, nil)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) apply(c *Change, w *pebble.Batch) {
	s.t.Helper()
	s.saveState(c, w)
	if err := errors.Join(s.db.Apply(w, pebble.NoSync), w.Close()); err != nil {
		s.t.Fatal(err)
	}
	c.Committed()
}

// find returns the values of an identity of partition 0.
func (s *store) find(i int) (values []string) {
	s.t.Helper()
	err := s.tab.Lookup(0, identity(i), func(v []byte) error {
		values = append(values, string(v))
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return values
}

// rows counts the entries that are in Pebble.
func (s *store) rows() (n int) {
	s.t.Helper()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{'t'}, UpperBound: []byte{'t' + 1}})
	if err != nil {
		s.t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		s.t.Fatal(err)
	}
	return n
}
